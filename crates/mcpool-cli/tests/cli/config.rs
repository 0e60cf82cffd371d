//! `mcpool config` and `mcpool trust`: what they print, change, and ask for.

use std::fs;

use serde_json::json;

use crate::support::{Place, good};

#[test]
fn check_shows_every_problem_with_its_line_and_exits_2() {
    let place = Place::empty();
    fs::write(
        place.path().join("bad.json"),
        "{ \"mcpServers\": {\n  \"good\": { \"command\": \"x\" },\n  \"typo\": { \"comand\": \"x\" },\n  \"unit\": { \"command\": \"x\", \"timeout\": 30, \"env\": { \"TOKEN\": \"canary-secret\" } }\n} }\n",
    )
    .unwrap();
    let run = place.run(&["config", "check", "bad.json"]);
    assert_eq!(run.code(), 2, "{}", run.stderr());
    for word in [
        "did you mean `command`?",
        "bad.json:3:",
        "bad.json:4:",
        "30s",
    ] {
        assert!(run.stderr().contains(word), "{word}: {}", run.stderr());
    }
    assert!(!(run.stderr() + &run.stdout()).contains("canary"));
    let found = place
        .run(&["config", "check", "bad.json", "--json"])
        .json(2);
    assert_eq!(found["servers"], 2);
    assert!(found["problems"].as_array().unwrap().len() >= 4, "{found}");

    fs::write(
        place.path().join("good.json"),
        r#"{ "mcpServers": { "a": { "command": "x", "args": ["${NOT_SET_HERE}"] } } }"#,
    )
    .unwrap();
    let run = place.run(&["config", "check", "good.json"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(run.stderr().contains("NOT_SET_HERE"), "{}", run.stderr());
    assert_eq!(
        place
            .run(&["config", "check", "good.json", "--strict"])
            .code(),
        2
    );
    assert_eq!(place.run(&["config", "check", "none.json"]).code(), 2);
}

#[test]
fn show_gives_the_canonical_form_without_secrets() {
    let place = Place::with(json!({
        "a": { "command": "https://example.org/sse", "transport": "sse", "env": { "Authorization": "Bearer ${T}", "X": "canary-x" } },
        "b": { "url": "https://u:canary-y@example.org/mcp" },
        "c": { "command": "x", "args": ["--token", "canary-z"], "enabled": false },
    }));
    let run = place.run(&["config", "show", "--json", "--origins"]);
    let shown = run.json(0);
    let servers = &shown["servers"];
    assert_eq!(servers["a"]["transport"], "sse");
    assert_eq!(servers["a"]["url"], "https://example.org/sse");
    assert_eq!(servers["a"]["headers"]["Authorization"], "Bearer ${T}");
    assert_eq!(servers["b"]["transport"], "auto");
    assert_eq!(servers["c"]["transport"], "stdio");
    assert_eq!(servers["c"]["enabled"], false);
    assert_eq!(servers["c"]["origin"]["scope"], "named");
    let table = place.run(&["config", "show", "--origins"]);
    assert_eq!(table.code(), 0);
    for text in [run.stdout(), run.stderr(), table.stdout(), table.stderr()] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn add_remove_enable_disable_keep_the_file() {
    let place = Place::empty();
    let file = place.path().join("mine.json");
    fs::write(
        &file,
        "{\n  // mine\n  \"mcpServers\": {\n    \"a\": { \"command\": \"x\" }, // a\n  },\n}\n",
    )
    .unwrap();
    let edit = |args: &[&str]| {
        let mut all = vec!["config"];
        all.extend(args);
        all.splice(2..2, ["--file", "mine.json"]);
        place.run(&all)
    };
    let run = edit(&["add", "b", "--env", "K=${V}", "--", "npx", "-y", "server"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert_eq!(
        edit(&[
            "add",
            "c",
            "--url",
            "https://example.org/mcp",
            "--header",
            "Authorization=Bearer ${V}"
        ])
        .code(),
        0
    );
    assert_eq!(edit(&["disable", "a"]).code(), 0);
    assert_eq!(edit(&["remove", "b"]).code(), 0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("// mine") && text.contains("// a"), "{text}");
    let shown = place
        .run(&["config", "show", "mine.json", "--json"])
        .json(0);
    let names: Vec<&String> = shown["servers"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(shown["servers"]["a"]["enabled"], false);
    assert_eq!(edit(&["enable", "nobody"]).code(), 2);
    assert_eq!(
        edit(&["add", "c", "--url", "https://example.org"]).code(),
        2
    );
    // Without a file the user's own is made.
    assert_eq!(place.run(&["config", "add", "first", "--", "x"]).code(), 0);
    assert!(place.path().join("config/mcpool/mcp.json").is_file());
}

#[test]
fn find_and_import_read_other_hosts() {
    let place = Place::empty();
    fs::create_dir_all(place.path().join(".cursor")).unwrap();
    fs::write(place.path().join(".cursor/mcp.json"), r#"{ "mcpServers": { "one": { "command": "x", "env": { "K": "${env:K}" } }, "two": { "url": "https://example.org/mcp" } } }"#).unwrap();
    let found = place.run(&["config", "find", "--json"]).json(0);
    assert_eq!(found["files"][0]["host"], "cursor");
    let run = place.run(&[
        "config", "import", "cursor", "one", "--file", "own.json", "--json",
    ]);
    assert_eq!(run.json(0)["imported"], json!(["one"]));
    let shown = place.run(&["config", "show", "own.json", "--json"]).json(0);
    assert_eq!(shown["servers"]["one"]["command"], "x");
    assert!(shown["servers"]["two"].is_null());
    let again = place
        .run(&["config", "import", "cursor", "--file", "own.json", "--json"])
        .json(0);
    assert_eq!(again["left"], json!(["one"]));
    assert_eq!(again["imported"], json!(["two"]));
    // What a project has for the host is not the user's.
    let clone = place.path().join("clone");
    fs::create_dir_all(clone.join(".cursor")).unwrap();
    fs::write(
        clone.join(".cursor/mcp.json"),
        r#"{ "mcpServers": { "evil": { "command": "x" } } }"#,
    )
    .unwrap();
    let import = ["config", "import", "cursor", "--dry-run", "--json"];
    let run = crate::support::Run::of(place.command(&import).current_dir(&clone));
    assert_eq!(run.json(0)["imported"], json!(["one", "two"]));
    // Into a file that others may read no secret goes; into the user's own it does.
    fs::write(place.path().join(".cursor/mcp.json"), r#"{ "mcpServers": { "s": { "command": "x", "args": ["--api-key", "canary"], "env": { "K": "canary" } }, "h": { "url": "https://example.org", "headers_helper": "get --token canary" } } }"#).unwrap();
    let run = place.run(&["config", "import", "cursor", "--file", "new.json", "--json"]);
    let imported = run.json(0);
    assert_eq!(imported["imported"], json!(["s"]));
    assert_eq!(imported["left_with_secrets"], json!(["h"]));
    assert_eq!(imported["variables"], json!(["K", "S_API_KEY"]));
    let text = fs::read_to_string(place.path().join("new.json")).unwrap();
    assert!(
        text.contains("${K}") && text.contains("${S_API_KEY}"),
        "{text}"
    );
    let all = text + &run.stdout() + &run.stderr();
    assert!(!all.contains("canary"), "{all}");
    assert_eq!(place.run(&["config", "import", "cursor"]).code(), 0);
    let own = fs::read_to_string(place.path().join("config/mcpool/mcp.json")).unwrap();
    assert!(own.contains("canary"), "{own}");
    let schema = place.run(&["config", "schema"]).json(0);
    assert!(schema["properties"]["mcpServers"].is_object());
}

#[test]
fn a_projects_file_runs_nothing_before_it_is_trusted() {
    let place = Place::empty();
    let project = place.path().join("mcp.json");
    fs::write(
        &project,
        json!({ "mcpServers": { "a": good() } }).to_string(),
    )
    .unwrap();
    let refused = place.run(&["status", "--json"]);
    assert_eq!(refused.code(), 2, "{}", refused.stderr());
    assert!(
        refused.stderr().contains("look at it with `mcpool trust"),
        "{}",
        refused.stderr()
    );
    let shown = place.run(&["trust"]);
    assert_eq!(shown.code(), 2);
    assert!(shown.stderr().contains("demo-server"), "{}", shown.stderr());
    let asked = place.run(&["trust", "--json"]).json(0);
    let hash = asked["hash"].as_str().unwrap();
    assert_eq!(place.run(&["trust", "--hash", "0000"]).code(), 2);
    // The beginning of a hash is quickly forged.
    assert_eq!(place.run(&["trust", "--hash", &hash[..32]]).code(), 2);
    assert_eq!(place.run(&["trust", "--hash", hash]).code(), 0);
    let status = place.run(&["status", "--json"]).json(0);
    assert_eq!(status["servers"][0]["state"], "ready");
    // Another command is another question.
    fs::write(
        &project,
        r#"{ "mcpServers": { "a": { "command": "sh", "args": ["-c", "touch ran"] } } }"#,
    )
    .unwrap();
    assert_eq!(place.run(&["status"]).code(), 2);
    assert!(!place.path().join("ran").exists());
    // Named by hand it is the user's own word.
    assert_ne!(place.run(&["status", "--config", "mcp.json"]).code(), 2);
    assert!(place.path().join("ran").exists());
}
