//! Whose commands may run.

use std::fs;

use mcpool_config::{Loader, TrustStore};

#[test]
fn a_projects_file_is_asked_about_once_and_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    let store = TrustStore::at(folder.path().join("data/trust.json"));
    let write = |args: &str| {
        fs::write(&path, format!(r#"{{ "mcpServers": {{ "a": {{ "command": "npx", "args": [{args}], "env": {{ "K": "${{K}}" }} }} }} }}"#)).unwrap();
        Loader::new().with_project_file(&path).load().unwrap()
    };
    let loaded = write(r#""-y", "good one""#);
    let requests = store.check(&loaded).unwrap();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].changed);
    assert_eq!(requests[0].actions[0].command, ["npx", "-y", "good one"]);
    assert_eq!(
        requests[0].actions[0].to_string(),
        "a: npx -y \"good one\"\n    with K"
    );
    let refusal = TrustStore::refusal(&requests).to_string();
    assert!(
        refusal.contains(&requests[0].hash) && refusal.contains("mcpool trust"),
        "{refusal}"
    );

    store.approve(&requests[0]).unwrap();
    assert!(store.check(&loaded).unwrap().is_empty());
    // White space and comments are not what was approved.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("// c\n{text}\n")).unwrap();
    assert!(
        store
            .check(&Loader::new().with_project_file(&path).load().unwrap())
            .unwrap()
            .is_empty()
    );

    let changed = write(r#""-y", "evil""#);
    let again = store.check(&changed).unwrap();
    assert!(again[0].changed && again[0].hash != requests[0].hash);
    store.approve(&again[0]).unwrap();
    assert!(store.revoke(&path).unwrap() && !store.revoke(&path).unwrap());
    assert_eq!(store.check(&changed).unwrap().len(), 1);
}

#[test]
fn own_files_and_named_files_are_trusted_and_so_is_what_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    let store = TrustStore::at(folder.path().join("trust.json"));
    fs::write(&path, r#"{ "mcpServers": { "a": { "command": "x" } } }"#).unwrap();
    for loader in [
        Loader::new().with_file(&path),
        Loader::new().with_user_file(&path),
    ] {
        assert!(store.check(&loader.load().unwrap()).unwrap().is_empty());
    }
    // An address alone runs nothing; one that is sent a variable does.
    for (server, asks) in [
        (
            r#"{ "url": "https://example.org/mcp", "headers": { "A": "b" } }"#,
            0,
        ),
        (
            r#"{ "url": "https://example.org/mcp", "headers": { "A": "${HOME}" } }"#,
            1,
        ),
        (r#"{ "url": "https://example.org/${HOME}" }"#, 1),
        // Whoever chooses the way could read the tokens of a login.
        (
            r#"{ "url": "https://example.org/mcp", "proxy": "http://evil.example:8080" }"#,
            1,
        ),
        (
            r#"{ "url": "https://example.org/mcp", "ca_file": "evil.pem" }"#,
            1,
        ),
        (
            r#"{ "url": "https://example.org/mcp", "headers_helper": "x" }"#,
            1,
        ),
    ] {
        fs::write(&path, format!(r#"{{ "mcpServers": {{ "a": {server} }} }}"#)).unwrap();
        let loaded = Loader::new().with_project_file(&path).load().unwrap();
        assert_eq!(store.check(&loaded).unwrap().len(), asks, "{server}");
    }
}
