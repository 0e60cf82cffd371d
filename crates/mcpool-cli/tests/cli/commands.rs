//! What the commands print, and how they exit.

use serde_json::{Value, json};

use crate::{
    canned,
    support::{PROGRAM, Place, good, keys, scripted},
};

#[test]
fn a_broken_server_does_not_hide_the_good_ones() {
    let place = Place::with(json!({
        "good": good(),
        "absent": {"command": "/does/not/exist"},
        "exits": {"command": "sh", "args": ["-c", "echo I need a token >&2; exit 1"]},
    }));
    let status = place.run(&["status", "--json"]).json(4);
    let servers = status["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 3);
    let of = |name: &str| {
        servers
            .iter()
            .find(|server| server["name"] == name)
            .unwrap()
    };
    assert_eq!(
        keys(of("good")),
        [
            "name",
            "state",
            "transport",
            "protocol",
            "tools",
            "rejected",
            "skipped",
            "connect_ms",
            "reason",
            "next",
            "error"
        ]
    );
    assert_eq!(of("good")["state"], "ready");
    assert_eq!(of("good")["transport"], "stdio");
    assert_eq!(of("good")["tools"], 2);
    assert_eq!(of("good")["error"], Value::Null);
    assert_eq!(of("absent")["state"], "failed");
    assert_eq!(of("exits")["state"], "failed");
    let reason = of("exits")["reason"].as_str().unwrap();
    assert!(reason.ends_with("status 1: I need a token"), "{reason}");
    assert!(of("exits")["next"][0].as_str().unwrap().contains("`env`"));
    assert_eq!(of("absent")["error"]["kind"], "command_not_found");
    let exits = &of("exits")["error"];
    assert_eq!(
        keys(exits),
        [
            "kind",
            "message",
            "delivery",
            "server",
            "operation",
            "stderr_tail"
        ]
    );
    assert_eq!(exits["kind"], "process_exited");
    assert_eq!(exits["stderr_tail"][0], "I need a token");

    let text = place.run(&["status"]);
    assert_eq!(text.code(), 4);
    assert!(
        text.stdout().contains("I need a token"),
        "{}",
        text.stdout()
    );

    let tools = place.run(&["tools", "--json"]).json(4);
    let tools = tools["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 2);
    assert_eq!(
        keys(&tools[0]),
        [
            "server",
            "name",
            "qualified_name",
            "title",
            "description",
            "input_schema",
            "output_schema",
            "annotations"
        ]
    );
    assert_eq!(tools[0]["qualified_name"], "good__echo");
    assert_eq!(tools[0]["input_schema"]["type"], "object");
}

#[test]
fn a_call_prints_the_result_and_nothing_else() {
    let place = Place::with(json!({"good": good(), "absent": {"command": "/does/not/exist"}}));
    let run = place.run(&["call", "good", "echo", "message=1"]);
    assert_eq!(
        (run.code(), run.stdout().as_str()),
        (0, "1\n"),
        "{}",
        run.stderr()
    );
    let result = place
        .run(&["call", "good", "add", "a=1", "b=2", "--json"])
        .json(0);
    assert_eq!(result["content"][0]["text"], "3");
    let result = place
        .run(&[
            "call",
            "good",
            "add",
            "--json",
            "--args",
            r#"{"a":1,"b":2.5}"#,
        ])
        .json(0);
    assert_eq!(result["content"][0]["text"], "3.5");
}

#[test]
fn a_tool_is_named_in_every_way() {
    let place = Place::with(json!({"good": good(), "my good": good()}));
    let tools = place.run(&["tools", "my good", "echo", "--json"]).json(0);
    let hashed = tools["tools"][0]["qualified_name"].as_str().unwrap();
    for name in [
        &["good", "echo"][..],
        &["good.echo"],
        &["good__echo"],
        &["my good.echo"],
        &[hashed],
    ] {
        let run = place.run(&[&["call"], name, &["message=hi"]].concat());
        let outcome = (run.code(), run.stdout());
        assert_eq!(outcome, (0, "hi\n".to_owned()), "{name:?} {}", run.stderr());
        let tools = place.run(&[&["tools"], name, &["--json"]].concat()).json(0);
        assert_eq!(tools["tools"].as_array().unwrap().len(), 1, "{name:?}");
        assert_eq!(tools["tools"][0]["name"], "echo");
    }
    let run = place.run(&["call", "good"]);
    assert_eq!(run.code(), 2);
    assert!(
        run.stderr()
            .contains("mcpool --config servers.json tools good"),
        "{}",
        run.stderr()
    );
    let run = place.run(&["tools", "good", "no_such"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("echo"), "{}", run.stderr());
}

#[test]
fn a_search_ranks_tools_by_their_words() {
    let place = Place::with(json!({"good": good()}));
    let found = place
        .run(&["tools", "--search", "add", "numbers", "--json"])
        .json(0);
    let names: Vec<&Value> = found["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert_eq!(names, [&json!("add")]);
    let nothing = place.run(&["tools", "--search", "zebra"]);
    assert_eq!(
        (nothing.code(), nothing.stdout()),
        (0, "no tool fits zebra\n".to_owned())
    );
}

#[test]
fn a_list_connects_to_nothing() {
    let place = Place::with(json!({
        "one": {"command": "/does/not/exist", "args": ["--key", "x"]},
        "two": {"url": "https://user:pass@host.example/mcp", "enabled": false},
    }));
    for command in ["list", "ls"] {
        let list = place.run(&[command, "--json"]).json(0);
        let servers = list["servers"].as_array().unwrap();
        let rows: Vec<(&Value, &Value, &Value)> = servers
            .iter()
            .map(|s| (&s["name"], &s["enabled"], &s["transport"]))
            .collect();
        assert_eq!(
            rows,
            [
                (&json!("one"), &json!(true), &json!("stdio")),
                (&json!("two"), &json!(false), &json!("auto")),
            ]
        );
    }
    let text = place.run(&["list"]).stdout();
    assert!(
        text.starts_with("servers.json (named)\n  one  on   stdio"),
        "{text}"
    );
    assert!(text.contains("two  off  auto   https://"), "{text}");
    assert!(!text.contains("pass@"), "{text}");
}

#[test]
fn a_list_says_by_its_exit_code_that_an_entry_is_missing() {
    let good = json!({"command": "x"});
    let bad = json!({"command": ["x"], "url": 7});
    for (entries, listed) in [
        (json!({"good": good, "bad": bad}), 1),
        (json!({"bad": bad, "worse": "x"}), 0),
    ] {
        let place = Place::with(entries);
        for command in [&["list"][..], &["ls"], &["config", "list"]] {
            let list = place.run(&[command, &["--json"]].concat());
            assert!(list.stderr().contains("bad"), "{}", list.stderr());
            let servers = list.json(2)["servers"].as_array().unwrap().len();
            assert_eq!(servers, listed);
            let text = place.run(command);
            assert_eq!(text.code(), 2);
            let said = match listed {
                0 => "no server of servers.json can be used\n",
                _ => "good  on ",
            };
            assert!(text.stdout().contains(said), "{}", text.stdout());
        }
    }
    let empty = Place::with(json!({})).run(&["list"]);
    assert_eq!(
        (empty.code(), empty.stdout()),
        (0, "no servers in servers.json\n".to_owned())
    );
}

#[test]
fn an_answer_is_printed_in_the_form_that_is_asked_for() {
    let place = Place::with(json!({"files": scripted(
        r#"printf '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"warning","logger":"disk","data":"almost full"}}\n'; sleep 0.2
           printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"a\\u001bb"},{"type":"image","mimeType":"image/png","data":"aGk="},{"type":"resource_link","uri":"file:///x","name":"x"}]}}\n' "$id""#
    )}));
    let out = |form: &str| {
        let run = place.run(&["call", "files", "t", "--output", form, "--save", "saved"]);
        assert_eq!(run.code(), 0, "{}", run.stderr());
        assert!(
            run.stderr().contains("warning (disk): almost full"),
            "{}",
            run.stderr()
        );
        run.stdout()
    };
    assert_eq!(
        out("text"),
        "a\\u{1b}b\n[image, image/png, saved as saved/t-1.png]\n[resource x: file:///x]\n"
    );
    assert_eq!(
        out("markdown"),
        "a\\u{1b}b\n![image/png](saved/t-2.png)\n[x](file:///x)\n"
    );
    // A pipe gets the bytes, and the saved image is not in them.
    assert_eq!(out("raw"), "a\u{1b}bfile:///x");
    let json: Value = serde_json::from_str(&out("json")).unwrap();
    assert_eq!(json["content"][1]["data"], "aGk=");
    for number in 1..=4 {
        let saved = place.path().join(format!("saved/t-{number}.png"));
        assert_eq!(std::fs::read(saved).unwrap(), b"hi", "{number}");
    }
    let raw = place.run(&["call", "files", "t", "--output", "raw"]);
    assert_eq!(raw.stdout(), "a\u{1b}bhifile:///x");
    let both = place.run(&["call", "files", "t", "--output", "raw", "--json"]);
    assert_eq!(both.code(), 2);
}

#[test]
fn the_wire_is_shown_and_written() {
    let mut server = good();
    server["env"] = json!({"KEY": "a-secret-of-the-wire"});
    let place = Place::with(json!({"good": server}));
    let args = [
        "call",
        "good",
        "echo",
        "message=a-secret-of-the-wire",
        "-vvv",
        "--trace",
        "t.ndjson",
    ];
    let run = place.run(&args);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let shown = run.stderr();
    for part in [
        "good stdio → ",
        "good stdio ← ",
        "bytes {\"jsonrpc\"",
        "tools/call",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let trace = std::fs::read_to_string(place.path().join("t.ndjson")).unwrap();
    for text in [&shown, &trace] {
        assert!(
            !text.contains("a-secret-of-the-wire") && text.contains("[redacted]"),
            "{text}"
        );
    }
    let lines: Vec<Value> = trace
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let call = lines
        .iter()
        .find(|line| line["message"]["method"] == "tools/call")
        .unwrap();
    assert_eq!(
        (&call["server"], &call["direction"]),
        (&json!("good"), &json!("sent"))
    );
    assert!(call["bytes"].as_u64().unwrap() > 50);
    assert!(lines.iter().any(|line| line["direction"] == "received"));
}

#[test]
fn the_exit_code_says_what_is_wrong() {
    let place = Place::with(json!({
        "good": good(),
        "absent": {"command": "/does/not/exist"},
        "refuses": scripted(
            r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"isError":true,"content":[{"type":"text","text":"disk full"}]}}\n' "$id""#
        ),
        "dies": scripted("exit 7"),
        "off": {"command": PROGRAM, "args": ["demo-server"], "enabled": false},
    }));
    for (args, code) in [
        (&["call", "good", "echo", "message=hi"][..], 0),
        (&["call", "nobody", "echo"], 2),
        (&["call", "off", "echo", "message=hi"], 2),
        (&["call", "good", "echo", "--args", "[]"], 2),
        (&["call", "good"], 2),
        (&["frobnicate"], 2),
        (&["call", "absent", "echo"], 4),
        (&["call", "good", "no_such_tool"], 2),
        (&["call", "good", "no_such_tool", "--no-check"], 5),
        (&["call", "refuses", "t"], 5),
        (&["call", "dies", "t"], 6),
    ] {
        let run = place.run(args);
        assert_eq!(
            run.code(),
            code,
            "{args:?}\n{}\n{}",
            run.stdout(),
            run.stderr()
        );
    }
    let refused = place.run(&["call", "refuses", "t"]);
    assert!(
        refused.stdout().contains("disk full"),
        "{}",
        refused.stdout()
    );
    let dead = place.run(&["call", "dies", "t", "--json"]).json(6);
    assert_eq!(dead["error"]["kind"], "outcome_unknown");
}

#[test]
fn without_a_config_it_says_where_it_looked() {
    let run = Place::empty().run(&["status"]);
    assert_eq!(run.code(), 2);
    for place in ["mcp.json", ".mcp.json", "--config", "MCPOOL_CONFIG"] {
        assert!(run.stderr().contains(place), "{}", run.stderr());
    }
}

#[test]
fn the_config_is_looked_for_in_the_documented_order() {
    let place = Place::empty();
    let write = |name: &str, server: &str| {
        let path = place.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let config = json!({"mcpServers": {server: {"command": "/none", "enabled": false}}});
        std::fs::write(path, config.to_string()).unwrap();
    };
    let found = |variable: Option<&str>| {
        let mut command = place.command(&["status", "--json"]);
        if let Some(variable) = variable {
            command.env("MCPOOL_CONFIG", variable);
        }
        let output = command.output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        status["servers"][0]["name"].as_str().unwrap().to_owned()
    };
    write("config/mcpool/mcp.json", "user");
    assert_eq!(found(None), "user");
    write("named.json", "variable");
    assert_eq!(found(Some("named.json")), "variable");
}

#[test]
fn a_broken_file_is_a_config_error() {
    let place = Place::empty();
    std::fs::write(place.path().join("servers.json"), "{\"mcpServers\": {").unwrap();
    let run = place.run(&["status"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("servers.json"), "{}", run.stderr());
}

#[test]
fn a_config_of_broken_entries_is_not_called_empty() {
    let place = Place::with(json!({"bad": {"command": "x", "args": "y"}}));
    let status = place.run(&["status"]);
    assert_eq!(status.code(), 2);
    assert!(
        status
            .stdout()
            .contains("`mcpool --config servers.json config check` says why"),
        "{}",
        status.stdout()
    );
}

#[test]
fn a_list_that_the_server_refuses_is_an_answer() {
    let place = Place::empty();
    let refused = canned::server(place.path(), "refuses", b"", &[]);
    place.write(json!({"refuses": refused}));
    assert_eq!(place.run(&["resources"]).code(), 5);
    assert_eq!(place.run(&["prompts"]).code(), 5);
}

#[test]
fn a_tool_is_called_by_name_though_the_tools_cannot_be_listed() {
    let place = Place::empty();
    let down = json!({"error": {"code": -32603, "message": "database is down"}});
    let answer = json!({"result": {"content": [{"type": "text", "text": "ok"}]}});
    let answers = [("tools/list", down), ("tools/call", answer)];
    let server = canned::server(place.path(), "odd", b"", &answers);
    place.write(json!({"odd": server}));
    let called = place.run(&["call", "odd", "echo"]);
    assert_eq!((called.code(), called.stdout().trim()), (0, "ok"));
}

#[test]
fn a_call_with_an_answer_that_cannot_be_read_may_have_run() {
    let place = Place::empty();
    let tools = json!({"result": {"tools": [{"name": "echo", "inputSchema": {}}]}});
    let answers = [
        ("tools/list", tools),
        ("tools/call", json!({"result": "done"})),
    ];
    let server = canned::server(place.path(), "odd", b"", &answers);
    place.write(json!({"odd": server}));
    assert_eq!(place.run(&["call", "odd", "echo"]).code(), 6);
}

#[test]
fn a_reader_that_leaves_is_not_an_error() {
    use std::process::Stdio;
    let place = Place::with(json!({"good": good()}));
    let mut child = place
        .command(&["tools"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
}
