//! `mcpool serve install` and `uninstall`: a host's file, there and back.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Place, good};

const CURSOR: &str = "{\n  // mine\n  \"mcpServers\": {\n    \"a\": { \"command\": \"a-server\", \"env\": { \"K\": \"${env:K}\" } },\n    \"demo\": { \"command\": \"other\" }\n  }\n}\n";

fn cursor(place: &Place) -> PathBuf {
    let file = place.path().join(".cursor/mcp.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, CURSOR).unwrap();
    file
}

fn text(file: &PathBuf) -> String {
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn nothing_is_written_before_one_says_so() {
    let place = Place::with(json!({"demo": good()}));
    let file = cursor(&place);
    let run = place.run(&["serve", "install", "cursor", "--adopt"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(
        run.stdout().contains("nothing was written"),
        "{}",
        run.stdout()
    );
    assert!(run.stdout().contains("would be moved into") && run.stdout().contains("--stdio"));
    assert_eq!(text(&file), CURSOR);
    assert!(!file.with_file_name("mcp.json.before-mcpool").exists());
    let yaml = place.run(&["serve", "install", "goose"]);
    assert_eq!(yaml.code(), 2);
    assert!(yaml.stderr().contains("by hand"), "{}", yaml.stderr());
}

#[test]
fn what_is_no_url_is_not_written() {
    let place = Place::with(json!({}));
    let file = cursor(&place);
    let before = text(&file);
    for url in [
        "",
        "javascript:alert(1)",
        "http://",
        "http:///mcp",
        "http://x/mcp\ny",
    ] {
        let run = place.run(&["serve", "install", "cursor", "--write", "--url", url]);
        assert_eq!(run.code(), 2, "{url:?}: {}", run.stdout());
        assert!(run.stderr().contains("is not a URL"), "{}", run.stderr());
        assert_eq!(text(&file), before);
    }
}

#[test]
fn servers_are_moved_and_come_back() {
    let place = Place::with(json!({"demo": good()}));
    let file = cursor(&place);
    let done = place
        .run(&["serve", "install", "cursor", "--adopt", "--write", "--json"])
        .json(0);
    assert_eq!(
        (&done["moved"], &done["left"]),
        (&json!(["a"]), &json!(["demo"])),
        "{done}"
    );
    let new = text(&file);
    assert!(
        new.contains("// mine") && new.contains("\"mcpool\"") && !new.contains("a-server"),
        "{new}"
    );
    // Where the host starts it is not where it was installed from.
    let config = place.path().join("servers.json");
    assert!(new.contains(config.to_str().unwrap()), "{new}");
    let own: Value = serde_json::from_str(&text(&config)).unwrap();
    assert_eq!(own["mcpServers"]["a"]["command"], "a-server");
    // What is not set is an error there, not a text that no server understands.
    assert_eq!(own["mcpServers"]["a"]["env"]["K"], "${env:K}");
    assert_eq!(own["mcpServers"]["demo"]["args"], json!(["demo-server"]));
    // A second install keeps what stood there before the first.
    let dry = place.run(&["serve", "install", "cursor"]);
    assert!(
        dry.stdout().contains("what stood there before is kept in"),
        "{}",
        dry.stdout()
    );
    assert_eq!(
        place.run(&["serve", "install", "cursor", "--write"]).code(),
        0
    );
    let dry = place.run(&["serve", "uninstall", "cursor"]);
    assert!(
        dry.stdout().contains("nothing was written")
            && dry.stdout().contains("would be moved back into it: a"),
        "{}",
        dry.stdout()
    );
    let back = place.run(&["serve", "uninstall", "cursor", "--write"]);
    assert_eq!(back.code(), 0, "{}", back.stderr());
    assert_eq!(text(&file), CURSOR);
    assert!(!file.with_file_name("mcp.json.before-mcpool").exists());
    assert_eq!(
        place
            .run(&["serve", "uninstall", "cursor", "--write"])
            .code(),
        2
    );
}

#[cfg(unix)]
#[test]
fn the_file_of_a_host_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with(json!({}));
    let file = cursor(&place);
    let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o664)).unwrap();
    for command in ["install", "uninstall"] {
        let run = place.run(&["serve", command, "cursor", "--write"]);
        assert_eq!(
            (run.code(), mode()),
            (0, 0o664),
            "{command}: {}",
            run.stderr()
        );
    }
}

#[test]
fn a_host_without_a_file_gets_one() {
    let place = Place::with(json!({}));
    let url = "http://127.0.0.1:7332/mcp";
    let install = ["serve", "install", "codex", "--url", url, "--write"];
    let run = place.run(&install);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let file = place.path().join(".codex/config.toml");
    assert!(run.stdout().starts_with("created "), "{}", run.stdout());
    assert_eq!(
        text(&file),
        format!("[mcp_servers.mcpool]\nurl = \"{url}\"\n")
    );
    // A second time it is no other file.
    let run = place.run(&install);
    assert!(run.stdout().starts_with("written to "), "{}", run.stdout());
    // Nothing stood there before, and nothing is said to be kept.
    assert!(!run.stdout().contains("kept in"), "{}", run.stdout());
    let dry = place.run(&["serve", "install", "codex", "--json"]).json(0);
    assert_eq!(dry["backup"], Value::Null, "{dry}");
    assert!(!file.with_file_name("config.toml.before-mcpool").exists());
    let dry = place.run(&["serve", "uninstall", "codex"]);
    assert!(
        dry.stdout().contains("would be removed") && file.exists(),
        "{}",
        dry.stdout()
    );
    let run = place.run(&["serve", "uninstall", "codex", "--write"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(
        run.stdout().contains("is removed") && !file.exists(),
        "{}",
        run.stdout()
    );
    // With something else in it, it stays.
    assert_eq!(place.run(&install).code(), 0);
    std::fs::write(&file, format!("model = \"x\"\n{}", text(&file))).unwrap();
    let run = place.run(&["serve", "uninstall", "codex", "--write"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert_eq!(text(&file).trim(), "model = \"x\"");
}

#[test]
fn the_entry_can_start_when_there_was_no_config() {
    let place = Place::empty();
    let own = place.path().join("config/mcpool/mcp.json");
    let dry = place.run(&["serve", "install", "cursor"]);
    assert!(
        dry.stdout().contains("would create") && !own.exists(),
        "{}",
        dry.stdout()
    );
    let run = place.run(&["serve", "install", "cursor", "--write"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(
        run.stdout().contains("mcp.json, without servers"),
        "{}",
        run.stdout()
    );
    assert_eq!(place.run(&["config", "check"]).code(), 0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&own).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let host: Value = serde_json::from_str(&text(&place.path().join(".cursor/mcp.json"))).unwrap();
    let mut words = vec![];
    for word in host["mcpServers"]["mcpool"]["args"].as_array().unwrap() {
        words.push(word.as_str().unwrap());
    }
    // Its input ends at once.
    let run = place.run(&words);
    assert_eq!(run.code(), 0, "{}", run.stderr());
}

#[test]
fn what_was_imported_before_does_not_stand_twice() {
    let place = Place::empty();
    let file = cursor(&place);
    assert_eq!(place.run(&["config", "import", "cursor"]).code(), 0);
    let own = place.path().join("config/mcpool/mcp.json");
    let imported = text(&own);
    let run = place.run(&["serve", "install", "cursor", "--adopt", "--write"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(
        run.stdout().contains("has the same: a, demo"),
        "{}",
        run.stdout()
    );
    let names = |file: &PathBuf| {
        let text = text(file).replace("// mine", "");
        let parsed: Value = serde_json::from_str(&text).unwrap();
        let servers = parsed["mcpServers"].as_object().unwrap();
        servers.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&file), ["mcpool"]);
    assert_eq!(text(&own), imported);
    let back = place.run(&["serve", "uninstall", "cursor", "--write"]);
    assert_eq!(back.code(), 0, "{}", back.stderr());
    assert_eq!(text(&file), CURSOR);
}

#[test]
fn each_server_that_stays_has_its_reason() {
    let place = Place::with(json!({"demo": good()}));
    let file = place.path().join(".vscode/mcp.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let host = json!({
        "inputs": [
            {"type": "promptString", "id": "tok", "password": true},
            {"type": "pickString", "id": "env", "options": ["a", "b"], "default": "a"},
            {"type": "command", "id": "run", "command": "x.y", "default": "z"},
        ],
        "servers": {
            "demo": {"command": "other"},
            "runs": {"url": "https://example.org/${input:run}"},
            "broken": {"command": 5},
            "asks": {"url": "https://example.org/mcp", "headers": {"Authorization": "Bearer ${input:tok}"}},
            "picks": {"url": "https://example.org/${input:env}"},
        },
    });
    std::fs::write(&file, host.to_string()).unwrap();
    let adopt = [
        "serve",
        "install",
        "vscode",
        "--adopt",
        "--file",
        ".vscode/mcp.json",
    ];
    let done = place.run(&[&adopt[..], &["--json"]].concat()).json(0);
    assert_eq!(done["moved"], json!(["picks"]), "{done}");
    for (name, why) in [
        ("demo", "--replace"),
        ("broken", "mcpool cannot use it: `command` must be"),
        ("asks", "nobody can be asked for ${input:tok}"),
        (
            "runs",
            "its input run comes from a command that only the host can run",
        ),
    ] {
        let reason = done["reasons"][name].as_str().unwrap();
        assert!(reason.contains(why), "{name}: {reason}");
    }
    let own = place.path().join("servers.json");
    let own_before = text(&own);
    let own_backup = place.path().join("servers.json.before-mcpool");
    let replace = [&adopt[..], &["--replace"]].concat();
    let dry = place.run(&replace);
    for said in [
        "would replace in servers.json: demo\n",
        "what stood in servers.json before would be kept in servers.json.before-mcpool\n",
    ] {
        assert!(dry.stdout().contains(said), "{}", dry.stdout());
    }
    assert!(!own_backup.exists());
    let dry = place.run(&[&replace[..], &["--json"]].concat()).json(0);
    assert_eq!(dry["replaced"], json!(["demo"]), "{dry}");
    assert_eq!(dry["own_backup"], "servers.json.before-mcpool", "{dry}");
    let run = place.run(&[&replace[..], &["--write"]].concat());
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(
        run.stdout()
            .contains("moved into servers.json: demo, picks")
            || run.stdout().contains("servers.json: picks, demo"),
        "{}",
        run.stdout()
    );
    assert!(
        run.stdout().contains("replaced in servers.json: demo\n"),
        "{}",
        run.stdout()
    );
    assert_eq!(text(&own_backup), own_before);
    let own: Value = serde_json::from_str(&text(&own)).unwrap();
    assert_eq!(own["mcpServers"]["demo"]["command"], "other");
    assert_eq!(own["inputs"].as_array().unwrap().len(), 1, "{own}");
    assert_eq!(own["inputs"][0]["options"], json!(["a", "b"]));
    // The same input with another meaning is not mixed up.
    let mut own = own;
    own["inputs"][0]["default"] = "b".into();
    own["mcpServers"].as_object_mut().unwrap().remove("picks");
    std::fs::write(place.path().join("servers.json"), own.to_string()).unwrap();
    std::fs::write(&file, host.to_string()).unwrap();
    let done = place.run(&[&adopt[..], &["--json"]].concat()).json(0);
    let reason = done["reasons"]["picks"].as_str().unwrap();
    assert!(
        reason.contains("declares the input env in another way"),
        "{reason}"
    );
    // What was kept first is not written over.
    let again = place.run(&[&replace[..], &["--write", "--json"]].concat());
    assert_eq!(again.json(0)["own_backup"], Value::Null);
    assert_eq!(text(&own_backup), own_before);
}

#[test]
fn an_entry_that_was_installed_twice_goes_out() {
    let place = Place::with(json!({}));
    let file = place.path().join("cur.json");
    let run = |words: &[&str]| {
        let host = ["serve", words[0], "cursor", "--file", "cur.json", "--write"];
        let run = place.run(&[&host[..], &words[1..]].concat());
        assert_eq!(run.code(), 0, "{}", run.stderr());
        run
    };
    let servers = || {
        let parsed: Value = serde_json::from_str(&text(&file)).unwrap();
        parsed["mcpServers"].clone()
    };
    for adopt in [&["install"][..], &["install", "--adopt"]] {
        run(&["install"]);
        let mut host: Value = serde_json::from_str(&text(&file)).unwrap();
        host["mcpServers"]["a"] = json!({"command": "a-server"});
        std::fs::write(&file, host.to_string()).unwrap();
        run(adopt);
        assert_eq!(servers().get("a").is_none(), adopt.len() > 1);
        let done = run(&["uninstall"]);
        assert!(done.stdout().contains("the entry mcpool is out"));
        assert_eq!(servers(), json!({"a": {"command": "a-server"}}));
        assert!(!file.with_file_name("cur.json.before-mcpool").exists());
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn an_input_goes_along_with_the_server_that_is_moved() {
    let place = Place::with(json!({"first": good()}));
    let host = json!({
        "inputs": [{"type": "pickString", "id": "env", "options": ["a", "b"], "default": "a"}],
        "servers": {
            "first": {"url": "https://example.org/${input:env}"},
            "second": {"url": "https://example.com/${input:env}"},
        },
    });
    std::fs::write(place.path().join("code.json"), host.to_string()).unwrap();
    let run = place.run(&[
        "serve",
        "install",
        "vscode",
        "--file",
        "code.json",
        "--adopt",
        "--write",
        "--json",
    ]);
    let done = run.json(0);
    assert_eq!(
        (&done["moved"], &done["left"]),
        (&json!(["second"]), &json!(["first"])),
        "{done}"
    );
    let own: Value = serde_json::from_str(&text(&place.path().join("servers.json"))).unwrap();
    assert_eq!(own["inputs"], host["inputs"], "{own}");
}
