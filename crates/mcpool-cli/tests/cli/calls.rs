//! What is asked of a server, and what of its answers is kept.

use serde_json::json;

use crate::{
    canned,
    support::{PROGRAM, Place, Run, good, scripted},
};

#[test]
fn half_a_file_is_not_saved() {
    let data = "A".repeat(8_000);
    let answer = format!(
        r#"printf '{{"jsonrpc":"2.0","id":%s,"result":{{"content":[{{"type":"image","mimeType":"image/png","data":"{data}"}}]}}}}\n' "$id""#
    );
    let place = Place::with(json!({"s": scripted(&answer)}));
    let call = ["call", "s", "t", "--save", "saved"];
    // The third block of a file finds no room.
    let full = Run::of(&mut place.command_after("trap '' XFSZ && ulimit -f 2", &call));
    assert_eq!(full.code(), 2, "{}{}", full.stdout(), full.stderr());
    assert!(
        full.stderr().contains("cannot save to"),
        "{}",
        full.stderr()
    );
    let saved = || {
        std::fs::read_dir(place.path().join("saved"))
            .unwrap()
            .count()
    };
    assert_eq!(saved(), 0);
    assert_eq!(place.run(&call).code(), 0);
    assert_eq!(saved(), 1);
}

#[test]
fn a_command_of_the_command_line_starts_where_it_was_typed() {
    let place = Place::empty();
    let here = place.path().join("here");
    std::fs::create_dir(&here).unwrap();
    let script = scripted("")["args"][1].as_str().unwrap().to_owned();
    std::fs::write(here.join("server.sh"), script).unwrap();
    let mut tools = place.command(&["tools", "--stdio", "sh ./server.sh", "--json"]);
    let tools = Run::of(tools.current_dir(here));
    assert_eq!(tools.code(), 0, "{}", tools.stderr());
}

#[test]
fn a_server_of_the_command_line_is_measured_beside_one_of_the_config() {
    let place = Place::with(json!({"good": good()}));
    let command = format!("{PROGRAM} demo-server");
    let call = ["echo", "message=hi", "-n", "3", "--warmup", "0", "--json"];
    let bench = |against: &str| {
        let beside = ["bench", "--stdio", &command, "--against", against];
        place.run(&[&beside[..], &call].concat())
    };
    let both = bench("good").json(0);
    assert_eq!(
        (&both["calls"], &both["against"]["calls"]),
        (&json!(3), &json!(3))
    );
    let nobody = bench("goood");
    assert_eq!(nobody.code(), 2);
    assert!(
        nobody.stderr().contains("did you mean `good`?"),
        "{}",
        nobody.stderr()
    );
}

#[test]
fn what_is_nearly_the_name_of_a_tool_is_answered_with_the_name() {
    let place = Place::with(json!({"calc": good(), "other": good()}));
    for (words, said) in [
        (
            &["calc_echo", "message=hi"][..],
            "did you mean `calc.echo`?",
        ),
        (&["calc-echo"], "did you mean `calc.echo`?"),
        (&["calc/echo"], "did you mean `calc.echo`?"),
        (&["mcp__calc__echo"], "did you mean `calc.echo`?"),
        (&["calk__echo"], "did you mean `calc.echo`?"),
        (&["calk", "echo"], "did you mean `calc`?"),
        (&["calc__ecko", "message=hi"], "did you mean `echo`?"),
        (&["calc", "calc__ecko"], "did you mean `echo`?"),
    ] {
        let run = place.run(&[&["call"], words].concat());
        assert_eq!(run.code(), 2, "{words:?}: {}", run.stderr());
        assert!(run.stderr().contains(said), "{words:?}: {}", run.stderr());
        assert_eq!(run.stderr().matches("did you mean").count(), 1, "{words:?}");
    }
    // Where no tool can be named, none is proposed.
    let health = place.run(&["health", "calc_echo"]);
    assert!(
        !health.stderr().contains("calc.echo"),
        "{}",
        health.stderr()
    );
}

#[test]
fn a_prompt_is_checked_before_it_is_asked_for() {
    let prompts = json!({"result": {"prompts": [
        {"name": "weather", "arguments": [{"name": "city", "required": true}, {"name": "state"}]}
    ]}});
    let got = json!({"result": {"messages": [
        {"role": "user", "content": {"type": "text", "text": "How is Rome?"}}
    ]}});
    let answers = [("prompts/list", prompts), ("prompts/get", got)];
    let place = Place::empty();
    let server = canned::server(place.path(), "s", b"", &answers);
    place.write(json!({"s": server}));
    let get = |args: &[&str]| place.run(&[&["prompts", "s", "--get"], args].concat());
    for (args, said) in [
        (&["wether"][..], "did you mean `weather`?"),
        (&["weather"], "`city` is missing; write city=TEXT"),
        (&["weather", "city=Rome", "stat=x"], "did you mean `state`?"),
    ] {
        let run = get(args);
        assert_eq!(run.code(), 2, "{args:?}: {}", run.stdout());
        assert!(run.stderr().contains(said), "{args:?}: {}", run.stderr());
        let sent = get(&[args, &["--no-check"]].concat());
        assert_eq!(sent.code(), 0, "{args:?}: {}", sent.stderr());
    }
    for (form, said) in [
        ("text", "user: How is Rome?\n"),
        ("raw", "How is Rome?"),
        ("markdown", "**user:**\n\nHow is Rome?\n\n"),
    ] {
        let run = get(&["weather", "city=Rome", "--output", form]);
        assert_eq!(
            (run.stdout().as_str(), run.code()),
            (said, 0),
            "{}",
            run.stderr()
        );
    }
}

#[test]
fn a_list_for_programs_says_which_servers_it_lacks() {
    let refusal = json!({"error": {"code": -32603, "message": "no disk"}});
    let refused = ["tools/list", "resources/list", "prompts/list"].map(|m| (m, refusal.clone()));
    let place = Place::empty();
    let mute = canned::server(place.path(), "mute", b"", &refused);
    place.write(json!({"absent": {"command": "no-such-program"}, "mute": mute}));
    for list in ["tools", "resources", "prompts"] {
        let document = place.run(&[list, "--json"]).json(4);
        let said = |server: &str| {
            let all = document["left_out"].as_array().unwrap();
            let mut of_server = all.iter().filter(|entry| entry["server"] == server);
            let entry = of_server.next().unwrap_or_else(|| panic!("{document}"));
            assert!(of_server.next().is_none(), "{document}");
            assert_eq!(
                (&entry["list"], &entry["name"]),
                (&json!(format!("{list}/list")), &json!(null))
            );
            entry["reason"].as_str().unwrap().to_owned()
        };
        assert!(said("absent").contains("was not found"), "{document}");
        assert!(said("mute").contains("no disk"), "{document}");
    }
}

#[test]
fn nothing_is_started_for_arguments_that_cannot_be_read() {
    let server = json!({"command": "sh", "args": ["-c", "touch started; exec cat"]});
    let place = Place::with(json!({"s": server}));
    for arguments in [&["--args", "{bad"][..], &["text=@nofile"], &["text"]] {
        let run = place.run(&[&["call", "s", "t"], arguments].concat());
        assert_eq!(run.code(), 2, "{arguments:?} {}", run.stderr());
    }
    assert!(!place.path().join("started").exists());
}
