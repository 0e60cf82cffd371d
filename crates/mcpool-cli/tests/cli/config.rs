//! `mcpool config` and `mcpool trust`: what they print, change, and ask for.

use std::fs;

use serde_json::{Value, json};

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
    let places = table.stdout();
    let of_c = "\nc: servers.json:1:";
    assert!(
        places.contains(of_c) && places.contains("\n  args[0]: servers.json:1:"),
        "{places}"
    );
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
            "https://example.org/mcp",
            "--header",
            "Authorization: Bearer ${V}"
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
    assert_eq!(edit(&["add", "c", "https://example.org"]).code(), 2);
    assert_eq!(
        edit(&["add", "c", "https://example.org", "--replace"]).code(),
        0
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
fn an_import_says_what_it_did_and_what_to_do() {
    let place = Place::empty();
    let vscode = place.path().join(".vscode/mcp.json");
    fs::create_dir_all(vscode.parent().unwrap()).unwrap();
    let host = json!({
        "inputs": [{ "type": "promptString", "id": "tok", "password": true, "default": "canary" }],
        "servers": {
            "one": { "type": "http", "url": "https://example.org/mcp",
                "headers": { "Authorization": "Bearer ${input:tok}" } },
            "two": { "command": "x" },
        },
    });
    fs::write(&vscode, host.to_string()).unwrap();
    // A project's file has to be named, and it says how.
    let run = place.run(&["config", "import", "vscode"]);
    assert_eq!(run.code(), 2);
    assert!(
        run.stderr()
            .contains("mcpool config import vscode --from .vscode/mcp.json"),
        "{}",
        run.stderr()
    );
    // With the files that this one was given.
    let run = place.run(&["--config", "of mine.json", "config", "import", "vscode"]);
    assert!(
        run.stderr()
            .contains("mcpool --config 'of mine.json' config import vscode --from"),
        "{}",
        run.stderr()
    );
    let run = place.run(&["config", "import", "cursr"]);
    assert!(
        run.stderr()
            .contains("is not a host that mcpool knows; did you mean `cursor`?"),
        "{}",
        run.stderr()
    );
    let import = |more: &[&str]| {
        let from = ["config", "import", "vscode", "--from", ".vscode/mcp.json"];
        place.run(&[&from[..], more].concat())
    };
    assert_eq!(import(&["one", "two", "--as", "x"]).code(), 2);
    assert_eq!(import(&["--as", "x"]).code(), 2);
    let run = import(&["one", "--as", "other"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let own = place.path().join("config/mcpool/mcp.json");
    let text = fs::read_to_string(&own).unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    let other = &parsed["mcpServers"]["other"];
    assert_eq!(other["headers"]["Authorization"], "Bearer ${input:tok}");
    assert_eq!(parsed["inputs"], host["inputs"]);
    let run = import(&["one", "--as", "other"]);
    assert_eq!(
        run.stdout(),
        "nothing to import\nskipped, already there (--replace overwrites them): other\n"
    );
    assert_eq!(fs::read_to_string(&own).unwrap(), text);
    // In a file that others may read the default of a password has no place; then nobody can be
    // asked for it, and a check says so.
    let run = import(&["one", "--file", "shared.json"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let shared = fs::read_to_string(place.path().join("shared.json")).unwrap();
    assert!(
        shared.contains("\"tok\"") && !shared.contains("canary"),
        "{shared}"
    );
    let parsed: Value = serde_json::from_str(&shared).unwrap();
    let header = &parsed["mcpServers"]["one"]["headers"]["Authorization"];
    assert_eq!(header, "Bearer ${input:tok}");
    let run = place.run(&["config", "check", "shared.json"]);
    assert!(
        run.stderr().contains("unanswered-input")
            && run.stderr().contains("nobody can be asked for"),
        "{}",
        run.stderr()
    );
    // Another input of the same name is not put in its place.
    let other = host.to_string().replace("canary", "canary2");
    fs::write(&vscode, other).unwrap();
    let run = import(&["one"]);
    assert_eq!(
        run.stdout(),
        "nothing to import\nskipped, because the file declares their input in another way: one (tok)\n"
    );
    // What a command of the editor gives is asked for, and it says so.
    let other = host.to_string().replace("promptString", "command");
    fs::write(&vscode, other).unwrap();
    let run = import(&["one", "--file", "asks.json"]);
    assert!(
        run.stdout()
            .contains("only the host can run the command of the input: one (tok)\n"),
        "{}",
        run.stdout()
    );
    let run = import(&["one", "--file", "asks.json", "--replace", "--json"]);
    assert_eq!(run.json(0)["imported"], json!(["one"]));
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
        refused.stderr().contains("` shows what it would do"),
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

#[test]
fn an_entry_is_checked_before_it_is_written() {
    let place = Place::empty();
    for (words, said) in [
        (&["add", "a"][..], "mcpool config add a URL"),
        (&["add", "a", "npx"], "mcpool config add a -- npx"),
        (&["add", "", "https://example.org"], "nothing was written"),
        (
            &["add", "a", "https://example.org", "--header", "X"],
            "'NAME: VALUE'",
        ),
        (
            &["add", "a", "https://example.org", "--env", "K=v"],
            "--env is for a command",
        ),
        (
            &["add", "a", "https://", "--transport", "pigeon"],
            "pigeon is not a transport",
        ),
    ] {
        let run = place.run(&[&["config"], words].concat());
        assert_eq!(run.code(), 2, "{words:?}: {}", run.stderr());
        assert!(run.stderr().contains(said), "{words:?}: {}", run.stderr());
    }
    assert!(!place.path().join("config").exists());
    let absent = place.run(&["config", "add", "a", "--", "no-such-program"]);
    assert_eq!(absent.code(), 0, "{}", absent.stderr());
    assert!(
        absent
            .stderr()
            .contains("there is no program no-such-program")
    );
    let relative = place.run(&["config", "add", "b", "--", "sh", "./server.sh"]);
    let note = "starts in your home directory, and ./server.sh begins there";
    assert!(relative.stderr().contains(note), "{}", relative.stderr());
    let again = place.run(&["config", "add", "a", "--", "x"]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr().contains("--replace"), "{}", again.stderr());
}

#[test]
fn what_mcpool_writes_itself_is_trusted() {
    let place = Place::empty();
    let project = place.path().join("mcp.json");
    let init = ["config", "init", "--file", "mcp.json"];
    assert_eq!(place.run(&init).code(), 0);
    assert_eq!(place.run(&init).code(), 2, "it is there already");
    let mut add = vec!["config", "add", "good", "--file", "mcp.json", "--"];
    add.extend([crate::support::PROGRAM, "demo-server"]);
    let added = place.run(&add);
    assert_eq!(added.code(), 0, "{}", added.stderr());
    let status = place.run(&["status", "--json"]).json(0);
    assert_eq!(status["servers"][0]["state"], "ready");
    assert_eq!(place.run(&["config", "disable", "good"]).code(), 0);
    assert_eq!(place.run(&["config", "enable", "good"]).code(), 0);
    assert_eq!(place.run(&["status"]).code(), 0);
    // What somebody else has written in the meantime is not, whatever mcpool adds to it.
    let text = fs::read_to_string(&project).unwrap();
    let foreign = text.replace("demo-server", "demo-server\", \"more");
    assert_ne!(text, foreign);
    fs::write(&project, foreign).unwrap();
    let mut add = vec!["config", "add", "two", "--file", "mcp.json", "--"];
    add.extend([crate::support::PROGRAM, "demo-server"]);
    assert_eq!(place.run(&add).code(), 0);
    let refused = place.run(&["status"]);
    assert_eq!(refused.code(), 2, "{}", refused.stderr());
    assert!(refused.stderr().contains("mcpool trust"));
}

#[test]
fn one_server_and_the_file_are_shown() {
    let place = Place::empty();
    let none = place.run(&["config", "path"]);
    assert_eq!(none.code(), 0);
    let own = place.path().join("config/mcpool/mcp.json");
    assert_eq!(none.stdout(), format!("{}\n", own.display()));
    assert!(
        none.stderr().contains("mcpool config init"),
        "{}",
        none.stderr()
    );
    let place = Place::with(json!({
        "a": { "url": "https://u:canary@example.org/mcp" },
        "broken": { "comand": "x" },
    }));
    let shown = place.run(&["config", "get", "a"]);
    assert_eq!(shown.code(), 0, "{}", shown.stderr());
    assert!(shown.stdout().contains("example.org"));
    assert!(!(shown.stdout() + &shown.stderr()).contains("canary"));
    let typo = place.run(&["config", "get", "aa"]);
    assert_eq!(typo.code(), 2);
    assert!(
        typo.stderr().contains("did you mean `a`?"),
        "{}",
        typo.stderr()
    );
    let path = place.run(&["config", "path", "--json"]).json(0);
    assert_eq!(path["files"], json!(["servers.json"]));
    // The editor gets the file, and what it did is checked.
    let edit = |editor: &str| {
        let mut command = place.command(&["config", "edit"]);
        command.env_remove("VISUAL").env("EDITOR", editor);
        crate::support::Run::of(&mut command)
    };
    assert_eq!(edit("sed -i s/comand/command/").code(), 0);
    let broken = edit("sed -i s/command/comand/");
    assert_eq!(broken.code(), 2);
    let said = broken.stdout();
    assert!(said.contains("1 good server, 1 error,"), "{said}");
    assert_eq!(edit("false").code(), 2);
    assert_eq!(edit("no-such-editor").code(), 2);
}

#[test]
fn a_shell_completes_commands_flags_and_servers() {
    let place = Place::with(json!({}));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]);
        assert_eq!(script.code(), 0, "{shell}");
        assert!(script.stdout().contains("MCPOOL_COMPLETE"), "{shell}");
    }
    let config = json!({"mcpServers": {"files": {"command": "x"}, "docs": {"command": "y"}}});
    fs::write(place.path().join("mcp.json"), config.to_string()).unwrap();
    let complete = |words: &[&str]| {
        let mut command = std::process::Command::new(crate::support::PROGRAM);
        command
            .current_dir(place.path())
            .env("MCPOOL_COMPLETE", "fish")
            .env_remove("MCPOOL_CONFIG")
            .args(["--", "mcpool"])
            .args(words);
        crate::support::Run::of(&mut command).stdout()
    };
    assert!(complete(&["too"]).starts_with("tools"));
    assert_eq!(complete(&["tools", "fi"]).trim(), "files");
    assert!(complete(&["call", "--no"]).starts_with("--no-check"));
    assert!(!complete(&["demo"]).contains("demo-server"));
    let pages = place.run(&["man"]);
    assert_eq!(pages.code(), 0);
    assert!(
        pages.stdout().contains("mcpool\\-config\\-add"),
        "{}",
        pages.stdout()
    );
}

#[test]
fn a_hidden_command_is_not_suggested() {
    let run = Place::empty().run(&["demo-serv"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("'demo'"), "{}", run.stderr());
    assert!(!run.stderr().contains("demo-server"), "{}", run.stderr());
}
