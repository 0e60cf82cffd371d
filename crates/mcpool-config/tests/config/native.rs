//! The native format: the fields, the mission's example, and what is said of mistakes.

use mcpool_config::{Loaded, Loader, Severity};
use mcpool_core::{ErrorKind, TransportSpec};

fn load(text: &str) -> Loaded {
    Loader::new()
        .with_text("mcp.json", text)
        .with_env([("API_TOKEN", "canary-token")])
        .load()
        .unwrap()
}

#[tokio::test]
async fn the_missions_example_loads_as_it_stands() {
    let loaded = load(
        r#"{
  "mcpServers": {
    "files": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv"],
      "env": { "LOG_LEVEL": "info" },
      "enabled": true,
      "transport": "stdio"
    },
    "remote": {
      "command": "https://example.org/sse",
      "env": { "Authorization": "Bearer ${API_TOKEN}" },
      "enabled": true,
      "transport": "sse"
    }
  }
}"#,
    );
    assert_eq!(loaded.servers.len(), 2);
    assert!(!loaded.has_errors());
    let TransportSpec::Sse(http) = &loaded.servers[1].transport else {
        panic!("{:?}", loaded.servers[1]);
    };
    assert_eq!(http.url, "https://example.org/sse");
    let resolved = loaded.servers[1].resolved().await.unwrap();
    let TransportSpec::Sse(http) = &resolved.transport else {
        panic!("{resolved:?}");
    };
    assert_eq!(http.headers[0].0, "Authorization");
    assert_eq!(http.headers[0].1.expose(), "Bearer canary-token");
    assert!(!format!("{resolved:?}").contains("canary"));
    let note = &loaded.problems[0];
    assert_eq!(note.severity, Severity::Note);
    assert!(note.help.as_deref().unwrap().contains("`headers`"));
}

#[tokio::test]
async fn all_missing_variables_are_named_at_once() {
    let loaded = load(
        r#"{ "mcpServers": { "a": {
            "command": "x",
            "args": ["${FIRST}"],
            "env": { "T": "${SECOND}", "U": "${FIRST}", "V": "${THIRD:-ok}" }
        } } }"#,
    );
    let error = loaded.servers[0].resolved().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unresolved);
    let message = error.to_string();
    assert!(
        message.contains("${FIRST} in args[0] (mcp.json:3:22) and env.U (mcp.json:4:45)"),
        "{message}"
    );
    assert!(
        message.contains("${SECOND} in env.T (mcp.json:4:27)"),
        "{message}"
    );
    assert!(!message.contains("THIRD"), "{message}");
}

#[test]
fn a_bad_entry_never_takes_the_good_ones_down() {
    let loaded = load(
        r#"{ "mcpServers": {
            "good": { "command": "x" },
            "bad1": { "comand": "x" },
            "bad2": 7,
            "bad3": { "url": "ftp://x" },
            "bad4": { "command": "x", "env": { "A": {} } },
            "bad5": { "command": "x", "args": "a b" },
            "bad6": { "url": "ws://x", "type": "ws" },
            " bad7": { "command": "x" },
            "bad8": { "command": "x", "env": { "A": "${" } },
            "fine": { "url": "https://example.org/mcp" }
        } }"#,
    );
    let names: Vec<&str> = loaded.servers.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["good", "fine"]);
    for n in 1..=8 {
        assert!(
            loaded.problems.iter().any(|p| p.is_error()
                && p.server
                    .as_deref()
                    .is_some_and(|s| s.trim() == format!("bad{n}"))),
            "bad{n}: {:#?}",
            loaded.problems
        );
    }
    assert!(
        Loader::new()
            .with_text(
                "x",
                "{\"mcpServers\":{\"a\":{\"command\":\"x\",\"nope\":1}}}"
            )
            .strict(true)
            .load()
            .is_err()
    );
}

#[test]
fn a_file_that_cannot_be_read_says_where_what_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.json");
    let error = Loader::new().with_file(&path).load().unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("none.json")
            && message.contains("no such file")
            && message.contains("check the path"),
        "{message}"
    );
    let error = Loader::new().with_file(folder.path()).load().unwrap_err();
    assert!(error.to_string().contains("directory"), "{error}");
    std::fs::write(&path, b"\xff\xfe{\0}\0").unwrap();
    let error = Loader::new().with_file(&path).load().unwrap_err();
    assert!(error.to_string().contains("UTF-16"), "{error}");
    std::fs::write(&path, b"{\n\"\xe4\": 1}").unwrap();
    let error = Loader::new().with_file(&path).load().unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn credentials_in_the_open_are_warned_of() {
    let warned = |url: &str, rest: &str| {
        let text = format!(r#"{{ "mcpServers": {{ "a": {{ "url": "{url}"{rest} }} }} }}"#);
        let loaded = Loader::new().with_text("t", text).load().unwrap();
        let mut problems = loaded.problems.iter();
        problems.any(|problem| problem.code == "cleartext-credentials")
    };
    let header = r#", "headers": { "AUTHORIZATION": "Bearer ${T}" }"#;
    let there = "http://10.0.0.1/mcp";
    assert!(warned(there, header));
    assert!(warned(there, r#", "bearer_token": "${T}""#));
    assert!(warned("http://me:pass@example.org/mcp", ""));
    assert!(!warned(there, r#", "headers": { "X-Team": "blue" }"#));
    assert!(!warned(
        there,
        r#", "bearer_token": "${T}", "allow_cleartext_credentials": true"#
    ));
    for url in [
        "https://10.0.0.1/mcp",
        "http://localhost:1/mcp",
        "http://127.0.0.2/mcp",
        "http://[::1]/mcp",
    ] {
        assert!(!warned(url, header), "{url}");
    }
}
