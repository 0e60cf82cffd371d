//! Ten broken files, and the messages that a person gets.

use mcpool_config::Loader;

/// Everything that is said of a text, as plain text.
fn messages(name: &str, text: &str) -> String {
    let loaded = Loader::new()
        .with_text(name, text)
        .with_env([("SET", "x")])
        .load()
        .unwrap();
    assert!(!loaded.problems.is_empty());
    loaded
        .problems
        .iter()
        .map(|problem| problem.render())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_missing_comma() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        "{\n  \"mcpServers\": {\n    \"a\": { \"command\": \"npx\" }\n    \"b\": { \"command\": \"uvx\" }\n  }\n}\n"
    ));
}

#[test]
fn a_brace_that_is_never_closed() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        "{\n  \"mcpServers\": {\n    \"a\": { \"command\": \"npx\" }\n  }\n"
    ));
}

#[test]
fn a_broken_line_next_to_a_secret() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        "{\n  \"mcpServers\": {\n    \"a\": { \"command\": \"npx\", \"env\": { \"TOKEN\": \"canary-1\" 'X': 1 } }\n  }\n}\n"
    ));
}

#[test]
fn mistyped_fields_and_values() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        r#"{
  "mcpServer": {},
  "mcpServers": {
    "a": { "comand": "npx", "arg": ["x"] },
    "b": { "url": "https://example.org/mcp", "transport": "htpp" },
    "c": { "command": "npx", "reconnect": { "presett": "unlimitet", "preset": "unlimitet" } }
  }
}
"#
    ));
}

#[test]
fn numbers_without_units() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        r#"{
  "mcpServers": {
    "a": { "command": "npx", "timeout": 30000, "startup_timeout": 30 },
    "b": { "command": "npx", "limits": { "max_message": 16777216 }, "timeout": "soon" }
  }
}
"#
    ));
}

#[test]
fn keys_that_stand_twice() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        r#"{
  "mcpServers": {
    "a": { "command": "npx", "env": { "K": "1", "K": "2" } },
    "a": { "command": "uvx" }
  }
}
"#
    ));
}

#[test]
fn the_wrong_types() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        r#"{
  "$schema": "mcpool.schema.json",
  "mcpServers": {
    "a": "npx -y server",
    "b": { "command": "npx", "args": "-y server" },
    "c": { "command": ["npx", 7], "env": ["A=b"] },
    "d": { "command": "npx", "enabled": "yes" }
  }
}
"#
    ));
}

#[test]
fn transports_that_cannot_be() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        r#"{
  "$schema": "mcpool.schema.json",
  "mcpServers": {
    "a": {},
    "b": { "command": "npx", "url": "https://example.org/mcp" },
    "c": { "type": "ws", "url": "wss://example.org/mcp" },
    "d": { "url": "example.org/mcp" },
    "e": { "type": "http", "command": "npx" }
  }
}
"#
    ));
}

#[test]
fn placeholders_that_are_not_closed() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        r#"{
  "mcpServers": {
    "a": { "command": "npx", "args": ["--key=${SET"], "env": { "K": "${}", "L": "${A B}" } }
  }
}
"#
    ));
}

#[test]
fn secrets_in_plain_text() {
    insta::assert_snapshot!(messages(
        "mcp.json",
        r#"{
  "mcpServers": {
    "a": { "command": "npx", "args": ["--api-key", "canary-2-long-enough"], "env": { "GITHUB_TOKEN": "canary-3-long-enough " } },
    "b": { "url": "https://me:canary-4@example.org/mcp", "headers": { "Authorization": "Bearer canary-5-long-enough" } }
  }
}
"#
    ));
}

#[test]
fn broken_toml_and_yaml() {
    let toml = messages(
        "servers.toml",
        "[mcpServers.a]\ncommand = \"npx\"\nargs = [\"-y\" \"x\"]\nenv = { TOKEN = \"canary-6\" }\n",
    );
    let yaml = messages(
        "servers.yaml",
        "mcpServers:\n  a:\n    command: npx\n   args: [x\n    env:\n      TOKEN: canary-7\n",
    );
    let nothing = messages("mcp.json", "{ \"mcp_server\": {} }");
    insta::assert_snapshot!(format!("{toml}\n{yaml}\n{nothing}"));
}

#[test]
fn names_that_are_steps_in_a_path() {
    for step in [".", ".."] {
        let server = format!(r#"{{"mcpServers": {{"{step}": {{"command": "npx"}}}}}}"#);
        let said = messages("mcp.json", &server);
        assert!(said.contains("a step in a path"), "{said}");
        let profile = format!(r#"{{"mcpServers": {{}}, "profiles": {{"{step}": {{}}}}}}"#);
        let said = messages("mcp.json", &profile);
        assert!(said.contains("neither `.` nor `..`"), "{said}");
    }
}
