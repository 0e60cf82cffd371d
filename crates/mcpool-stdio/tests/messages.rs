//! Messages in both directions, with real processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use mcpool_core::{
    Delivery, Direction, ErrorKind, Incoming, Notification, Raw, Transport, WireRequest,
};
use mcpool_stdio::StderrEvent;
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture};
use support::*;

/// Answers to requests of ours, before they come.
const ANSWER_1: &str = r#"printf '{"jsonrpc":"2.0","id":1,"result":{}}\n'"#;
const ANSWER_2: &str = r#"printf '{"jsonrpc":"2.0","id":2,"result":{}}\n'"#;
/// Waits for a line.
const READ: &str = "IFS= read -r line";
/// Stays until stdin ends.
const STAY: &str = "exec cat >/dev/null";

fn script(lines: &[&str]) -> String {
    lines.join("\n")
}

#[tokio::test]
async fn requests_are_answered_counted_and_seen() {
    let (request, tap) = tapped(sh(ANSWER_ALL));
    let transport = open(request).await;
    for _ in 0..100 {
        assert_eq!(ping(&transport).await.unwrap().get(), "{}");
    }
    let note = Notification::new("notifications/initialized", None);
    within(transport.notify(&note)).await.unwrap();
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!((diagnostics.sent, diagnostics.received), (101, 100));
    assert_eq!(diagnostics.skipped_lines, 0);
    within(transport.close()).await.unwrap();
    assert!(transport.monitor().failure().is_none(), "an orderly close");
    let sent = tap.seen(Direction::Sent);
    assert_eq!(sent.len(), 101);
    assert_eq!(sent[2], r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#);
    assert_eq!(
        tap.seen(Direction::Received)[2],
        r#"{"jsonrpc":"2.0","id":3,"result":{}}"#
    );
}

#[tokio::test]
async fn twenty_megabytes_go_both_ways_at_once() {
    const BYTES: usize = 20 * 1024 * 1024;
    let fixture = StdioFixture::new(Behavior::new());
    let transport = open(stdio(fixture.process())).await;
    let call = async |letter: &str| {
        let text = letter.repeat(BYTES);
        let params = serde_json::json!({"name": "echo", "arguments": {"message": text}});
        let params = Raw::of(&params).unwrap();
        let request = WireRequest::new("tools/call", Some(&params));
        let answer = within(transport.request(request, None)).await.unwrap();
        let answer: serde_json::Value = answer.parse().unwrap();
        assert!(answer["content"][0]["text"] == text);
    };
    tokio::join!(call("a"), call("b"), call("c"));
}

#[tokio::test]
async fn a_stuck_request_does_not_stop_others_from_being_answered() {
    // It reads nothing, ever.
    let answers = ANSWER_2.to_owned() + "\n" + &ANSWER_2.replace('2', "3").replace("3.0", "2.0");
    let transport = Arc::new(
        open(hasty(sh(&script(&[
            "sleep 0.2",
            &answers,
            "while :; do sleep 60; done",
        ]))))
        .await,
    );
    let stuck = {
        let transport = Arc::clone(&transport);
        tokio::spawn(async move { big(&transport, 1 << 20).await })
    };
    let monitor = transport.monitor();
    until("it is begun", || monitor.diagnostics().sent == 1).await;
    let (second, third) = tokio::join!(ping(&transport), ping(&transport));
    second.unwrap();
    third.unwrap();
    assert!(!stuck.is_finished());
    let _ = within(transport.close()).await;
    let error = within(stuck).await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Closed, Delivery::Unknown)
    );
}

#[tokio::test]
async fn a_dropped_request_is_left_out_or_whole() {
    // The server reads nothing until a signal comes.
    let wait = r#"trap go=1 USR1; echo ready >&2; while [ -z "$go" ]; do sleep 0.01; done"#;
    let (request, tap) = tapped(sh(&script(&[wait, ANSWER_ALL])));
    let transport = open(request).await;
    until_ready(&transport).await;
    {
        let begun = big(&transport, 1 << 20);
        let waiting = ping(&transport);
        tokio::pin!(begun, waiting);
        assert!(futures::poll!(&mut begun).is_pending());
        assert!(futures::poll!(&mut waiting).is_pending());
    }
    let kept = ping(&transport);
    tokio::pin!(kept);
    assert!(futures::poll!(&mut kept).is_pending());
    let pid = transport.monitor().diagnostics().pid.unwrap().to_string();
    std::process::Command::new("kill")
        .args(["-s", "USR1", &pid])
        .status()
        .unwrap();
    kept.await.unwrap();
    let id = |text: &String| {
        let message: serde_json::Value = serde_json::from_str(text).unwrap();
        message["id"].as_u64()
    };
    let answers: Vec<_> = tap.seen(Direction::Received).iter().map(id).collect();
    assert_eq!(
        answers,
        [Some(1), Some(3)],
        "the first was begun, so it is finished; nothing of the second was written"
    );
    let sent = tap.seen(Direction::Sent);
    let cancels: Vec<_> = sent
        .iter()
        .filter(|text| text.contains("cancelled"))
        .collect();
    assert_eq!(
        cancels,
        [r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#]
    );
    assert_eq!(transport.monitor().diagnostics().oddities, [""; 0]);
}

#[tokio::test]
async fn four_megabytes_of_stderr_before_the_first_answer() {
    let noise = "head -c 4194304 /dev/zero | tr '\\0' e | fold -w 127 >&2; echo >&2; echo last >&2";
    let transport = open(sh(&script(&[noise, READ, ANSWER_1, STAY]))).await;
    ping(&transport).await.unwrap();
    let monitor = transport.monitor();
    until("the tail is read", || {
        let tail = monitor.diagnostics().stderr_tail;
        tail.last().is_some_and(|line| line.text == "last")
    })
    .await;
    assert_eq!(monitor.diagnostics().stderr_tail.len(), 200);
    within(transport.close()).await.unwrap();
}

#[tokio::test]
async fn noise_is_skipped_counted_and_kept() {
    let (request, tap) = tapped(sh(&script(&[
        "echo Welcome; printf '\\n\\r\\n'",
        READ,
        r#"printf '\377\376\n{"level":"info"}\n{"jsonrpc":"2.0","id":1,"result":{}}\r\n'"#,
        &format!("{READ}; {READ}"),
        r#"printf '[{"jsonrpc":"2.0","id":2,"result":{}},{"jsonrpc":"2.0","id":3,"result":{}}]\n'"#,
        READ,
        // The last line of a server that exits may lack its end.
        r#"printf '{"jsonrpc":"2.0","id":4,"result":{}}'"#,
    ])));
    let transport = open(request).await;
    ping(&transport).await.unwrap();
    let (second, third) = tokio::join!(ping(&transport), ping(&transport));
    second.unwrap();
    third.unwrap();
    ping(&transport).await.unwrap();
    loss(&transport).await;
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!(diagnostics.skipped_lines, 3);
    assert_eq!(
        diagnostics.skipped_samples,
        ["Welcome", "\u{fffd}\u{fffd}", r#"{"level":"info"}"#]
    );
    assert_eq!(tap.seen(Direction::Skipped).len(), 3);
}

#[tokio::test]
async fn a_message_in_pieces() {
    let transport = open(sh(&script(&[
        READ,
        r#"printf '{"jsonrpc":"2'; sleep 0.05; printf '.0","id":1,'; sleep 0.05"#,
        r#"printf '"result":{}}\n'"#,
        STAY,
    ])))
    .await;
    ping(&transport).await.unwrap();
}

#[tokio::test]
async fn an_answer_over_the_limit_fails_its_request_only() {
    let long = "head -c 1000000 /dev/zero | tr '\\0' x";
    let request = sh(&script(&[
        READ,
        &format!(r#"printf '{{"result":{{"t":"'; {long}; printf '"}},"jsonrpc":"2.0","id":1}}\n'"#),
        READ,
        ANSWER_2,
        STAY,
    ]));
    let transport = open(with_limit(request, 100_000)).await;
    let error = ping(&transport).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::TooLarge, Delivery::Answered)
    );
    assert!(error.message().contains("100000 bytes"), "{error}");
    ping(&transport).await.unwrap();
    assert!(transport.monitor().failure().is_none());
}

#[tokio::test]
async fn a_message_over_the_limit_without_an_id_ends_the_connection() {
    let request = sh("head -c 1000000 /dev/zero | tr '\\0' x; exec cat >/dev/null");
    let transport = open(with_limit(request, 10_000)).await;
    let failure = loss(&transport).await;
    assert_eq!(failure.kind(), ErrorKind::TooLarge);
    let error = ping(&transport).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::TooLarge, Delivery::NotSent)
    );
    within(transport.close()).await.unwrap();
}

#[tokio::test]
async fn a_request_of_the_server_over_the_limit_is_refused() {
    let long = "head -c 1000000 /dev/zero | tr '\\0' x";
    let request = sh(&script(&[
        &format!(r#"printf '{{"jsonrpc":"2.0","id":77,"method":"ping","params":{{"t":"'; {long}"#),
        r#"printf '"}}\n'; IFS= read -r line; printf '%s\n' "$line" >&2"#,
        STAY,
    ]));
    let transport = open(with_limit(request, 10_000)).await;
    let monitor = transport.monitor();
    until_ready(&transport).await;
    let answer: serde_json::Value =
        serde_json::from_str(&monitor.diagnostics().stderr_tail[0].text).unwrap();
    assert_eq!(answer["id"], 77);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("limit"), "{message}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_fails_its_request_at_once() {
    for (answer, word) in [
        (r#"{"jsonrpc":"2.0","id":1,"result":{"mean":NaN}}"#, "NaN"),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":"a\tb"}"#,
            "control character",
        ),
        (r#"{"jsonrpc":"2.0","id":1}"#, "neither"),
    ] {
        let transport = open(sh(&script(&[READ, &format!("printf '{answer}\\n'"), STAY]))).await;
        let error = ping(&transport).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.delivery()),
            (ErrorKind::Protocol, Delivery::Unknown),
            "{answer}"
        );
        assert!(error.message().contains(word), "{error}");
        assert!(!transport.is_closed());
    }
}

#[tokio::test]
async fn an_answer_that_can_be_mended_is() {
    let answer = r#"printf '{"jsonrpc":"2.0","id":1,"result":"\307\321 \\ud83d"}\n'"#;
    let transport = open(sh(&script(&[READ, answer, STAY]))).await;
    let result = ping(&transport).await.unwrap();
    assert_eq!(result.get(), "\"\u{fffd}\u{fffd} \\ud83d\"");
    assert_eq!(transport.monitor().diagnostics().oddities.len(), 1);
}

#[tokio::test]
async fn a_program_that_echoes_our_messages_is_no_server() {
    let transport = open(sh("exec cat")).await;
    let hello = WireRequest::new("initialize", None);
    let error = within(transport.request(hello, None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.message().contains("`cat`"), "{error}");
}

#[tokio::test]
async fn the_server_asks_and_is_answered() {
    let transport = open(sh(&script(&[
        r#"printf '{"jsonrpc":"2.0","id":"q","method":"roots/list"}\n'"#,
        r#"IFS= read -r line; printf '%s\n' "$line" >&2"#,
        STAY,
    ])))
    .await;
    let mut stderr = transport.stdio_monitor().stderr();
    let mut incoming = transport.incoming().unwrap();
    assert!(transport.incoming().is_none(), "it is given once");
    let Some(Incoming::Request(asked)) = within(incoming.next()).await else {
        panic!("no request");
    };
    let roots = Raw::from_text(r#"{"roots":[]}"#.to_owned()).unwrap();
    within(transport.respond(&asked, Ok(roots))).await.unwrap();
    let Some(StderrEvent::Line { line, .. }) = within(stderr.next()).await else {
        panic!("nothing on stderr");
    };
    assert_eq!(
        line.text,
        r#"{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}"#
    );
    within(transport.close()).await.unwrap();
    assert_eq!(
        within(incoming.next()).await,
        None,
        "it ends with the connection"
    );
}
