//! `mcpool serve`

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
};

use serde_json::{Value, json};

use crate::support::{Place, good};

#[test]
fn a_client_at_standard_input_is_served() {
    let place = Place::with(json!({"demo": good()}));
    let mut command = place.command(&["serve", "--stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut write = child.stdin.take().unwrap();
    let mut read = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |id: u64, method: &str, params: Value| -> Value {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(write, "{request}").unwrap();
        // Its server's tools may come meanwhile, and that is told.
        let lines = read.by_ref().map(|line| line.unwrap());
        let answer: Value = lines
            .map(|line| serde_json::from_str::<Value>(&line).unwrap())
            .find(|message| message.get("method").is_none())
            .unwrap();
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"].clone()
    };
    let begun = ask(
        1,
        "initialize",
        json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"}}),
    );
    assert_eq!(begun["serverInfo"]["name"], "mcpool");
    // It waits for its server, however long that takes to start.
    let sum = ask(
        2,
        "tools/call",
        json!({"name": "demo__add", "arguments": {"a": 1, "b": 2}}),
    );
    assert_eq!(sum["content"][0]["text"], "3", "{sum}");
    drop(write);
    assert!(child.wait().unwrap().success());
}

#[test]
fn other_machines_are_served_with_keys_alone() {
    let place = Place::with(json!({}));
    let run = place.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("--keys"), "{}", run.stderr());
    std::fs::write(place.path().join("keys"), "# none yet\n").unwrap();
    let run = place.run(&["serve", "--listen", "0.0.0.0:0", "--keys", "keys"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("--issue-key"), "{}", run.stderr());
}

#[test]
fn a_key_is_shown_once_and_kept_as_its_hash() {
    let place = Place::empty();
    let run = place.run(&["serve", "--keys", "keys", "--issue-key", "ada"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let key = run.stdout().trim().to_owned();
    assert!(key.starts_with("mcpool_"), "{key}");
    let file = place.path().join("keys");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(
        kept.starts_with("ada sha256:") && !kept.contains(&key),
        "{kept}"
    );
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
