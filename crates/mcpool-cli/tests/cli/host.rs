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
    // As its host reads it: what is not set stays as it is written.
    let value = own["mcpServers"]["a"]["env"]["K"].as_str().unwrap();
    assert!(value.starts_with("${env:K"), "{value}");
    assert_eq!(own["mcpServers"]["demo"]["args"], json!(["demo-server"]));
    // A second install keeps what stood there before the first.
    assert_eq!(
        place.run(&["serve", "install", "cursor", "--write"]).code(),
        0
    );
    let dry = place.run(&["serve", "uninstall", "cursor"]);
    assert!(
        dry.stdout().contains("nothing was written"),
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
    let run = place.run(&["serve", "install", "codex", "--url", url, "--write"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let file = place.path().join(".codex/config.toml");
    assert_eq!(
        text(&file),
        format!("[mcp_servers.mcpool]\nurl = \"{url}\"\n")
    );
    let run = place.run(&["serve", "uninstall", "codex", "--write"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert_eq!(text(&file).trim(), "");
}
