//! Conversations: the prompt of `mcpool shell`, and what servers ask of a person.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Place, good, scripted};

/// What a program says to these lines: standard output, standard error, exit code.
fn answers(mut command: Command, lines: &str) -> (String, String, Option<i32>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.code(),
    )
}

#[test]
fn a_shell_calls_and_lists_until_it_is_left() {
    let place = Place::with(json!({"good": good()}));
    let shell = |lines: &str| answers(place.command(&["shell", "good"]), lines);
    let (out, err, code) =
        shell("tools\n\ntools echo\necho message='hi there'\nadd a=1 b=2\nquit\necho message=no\n");
    assert_eq!(code, Some(0), "{err}");
    for said in [
        "add(a: number, b: number)",
        "good.echo",
        "hi there\n",
        "3\n",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    assert!(!out.contains("no\n"), "{out}");
    assert!(err.contains("good: 2 tools"), "{err}");
    // The last word counts, and a mistake does not end the session.
    let (out, err, code) = shell("echo mesage=hi\nadd 'a\necho message=yes\n");
    assert_eq!((out.as_str(), code), ("yes\n", Some(0)), "{err}");
    assert!(err.contains("did you mean `message`?"), "{err}");
    assert!(err.contains("a quote is not closed"), "{err}");
    let (_, err, _) = shell("echo mes=hi --no-check\n");
    assert!(!err.contains("do not fit"), "{err}");
    let (_, err, code) = shell("ecko message=hi\n");
    assert_eq!(code, Some(2), "{err}");
}

/// A server that asks this in the middle of a call, and answers with what it got.
fn asking(method: &str, params: &Value) -> Value {
    let question = json!({"jsonrpc": "2.0", "id": 900, "method": method, "params": params});
    scripted(&format!(
        r#"printf '%s\n' '{question}'; read -r told; told=$(printf '%s' "$told" | sed 's/"/\\"/g'); printf '{{"jsonrpc":"2.0","id":%s,"result":{{"content":[{{"type":"text","text":"%s"}}]}}}}\n' "$id" "$told""#
    ))
}

fn told(server: Value, args: &[&str], lines: &str) -> (Value, String) {
    let place = Place::with(json!({"s": server}));
    let call = [&["call", "s", "t", "--no-check"], args].concat();
    let (out, err, code) = answers(place.command(&call), lines);
    assert_eq!(code, Some(0), "{out}{err}");
    (
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}")),
        err,
    )
}

#[test]
fn a_form_is_answered_field_by_field() {
    let form = json!({"message": "Which city?\nanswer? [y/N]", "requestedSchema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Rome", "Oslo"]},
            "days": {"type": "integer", "minimum": 1, "default": 3},
            "note": {"type": "string"},
        },
        "required": ["city"],
    }});
    let server = || asking("elicitation/create", &form);
    let (answer, err) = told(server(), &["--interactive"], "y\nParis\nOslo\n\n\n");
    let accepted = json!({"action": "accept", "content": {"city": "Oslo", "days": 3}});
    assert_eq!(answer["result"], accepted, "{err}");
    assert!(err.contains("| Which city?\n| answer? [y/N]\n"), "{err}");
    assert!(err.contains("must be one of \"Rome\", \"Oslo\""), "{err}");
    let (answer, _) = told(server(), &["--interactive"], "n\n");
    assert_eq!(answer["result"]["action"], "decline");
    let (answer, _) = told(server(), &["--interactive"], "y\n");
    assert_eq!(answer["result"]["action"], "cancel");
    // Without a person at a terminal it was not declared, so it is refused.
    let (answer, err) = told(server(), &[], "y\nOslo\n\n\n");
    assert_eq!(answer["error"]["code"], -32601, "{err}");
}

#[test]
fn other_questions_are_for_those_who_want_them() {
    let sampling = json!({"maxTokens": 9, "messages": [
        {"role": "user", "content": {"type": "text", "text": "2 + 2?"}}
    ]});
    let server = || asking("sampling/createMessage", &sampling);
    let (answer, err) = told(server(), &["--interactive"], "4\n");
    assert_eq!(answer["result"]["content"]["text"], "4", "{err}");
    assert!(err.contains("| user: 2 + 2?"), "{err}");
    let (answer, _) = told(server(), &["--interactive"], "\n");
    assert_eq!(answer["error"]["code"], -1);
    let roots = || asking("roots/list", &json!({}));
    let (answer, _) = told(roots(), &["--interactive"], "y\n");
    let uri = answer["result"]["roots"][0]["uri"].as_str().unwrap();
    assert!(uri.starts_with("file:///"), "{uri}");
    let (answer, _) = told(roots(), &["--interactive"], "n\n");
    assert_eq!(answer["result"]["roots"], json!([]));
    let address = json!({"mode": "url", "message": "Look", "url": "file:///etc/passwd", "elicitationId": "1"});
    let (answer, err) = told(
        asking("elicitation/create", &address),
        &["--interactive"],
        "y\n",
    );
    assert_eq!(answer["result"]["action"], "decline", "{err}");
}
