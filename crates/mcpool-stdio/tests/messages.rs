//! Messages in both directions, with real processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use mcpool_core::{Error, ErrorKind, IncomingMessage, Transport};
use mcpool_stdio::StderrEvent;
use support::*;

/// Answers every request of ours with nothing, one line each, as a server in `sh` can.
const ANSWER_1: &str = r#"printf '{"jsonrpc":"2.0","id":1,"result":{}}\n'"#;
const ANSWER_2: &str = r#"printf '{"jsonrpc":"2.0","id":2,"result":{}}\n'"#;
/// Stays until stdin ends.
const STAY: &str = "exec cat >/dev/null";

fn script(lines: &[&str]) -> String {
    lines.join("\n")
}

fn refused(message: &IncomingMessage) -> Error {
    match message {
        IncomingMessage::Error(error) => Error::from_rpc(error.error.clone()),
        other => panic!("no error: {other:?}"),
    }
}

#[tokio::test]
async fn order_is_kept_and_counted() {
    let mut transport = open(sh("exec cat")).await;
    for number in 0..100 {
        within(transport.send(ping(number))).await.unwrap();
    }
    for number in 0..100 {
        let message = within(transport.receive()).await.unwrap();
        assert_eq!(id(&message), number);
    }
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!((diagnostics.sent, diagnostics.received), (100, 100));
    within(transport.close()).await.unwrap();
    assert!(within(transport.receive()).await.is_none());
    assert!(transport.monitor().failure().is_none(), "an orderly close");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_concurrent_sends_arrive_whole_and_once() {
    let mut transport = open(sh("exec cat")).await;
    let sends: Vec<_> = (0..1000)
        .map(|number| tokio::spawn(transport.send(big(number, 3_000))))
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 1000 {
        let message = within(transport.receive()).await.unwrap();
        assert!(seen.insert(id(&message)), "twice");
    }
    for send in sends {
        within(send).await.unwrap().unwrap();
    }
    assert_eq!(transport.monitor().diagnostics().skipped_lines, 0);
}

#[tokio::test]
async fn twenty_megabytes_go_both_ways_at_once() {
    const BYTES: usize = 20 * 1024 * 1024;
    let mut transport = open(sh("exec cat")).await;
    let sends = futures::future::join_all((0..3).map(|number| transport.send(big(number, BYTES))));
    let receives = async {
        for number in 0..3 {
            let message = within(transport.receive()).await.unwrap();
            assert_eq!(id(&message), number);
            assert!(serde_json::to_vec(&message).unwrap().len() > BYTES);
        }
    };
    let (sent, ()) = tokio::join!(sends, receives);
    for result in sent {
        result.unwrap();
    }
}

#[tokio::test]
async fn a_stuck_send_does_not_stop_receiving() {
    // It reads nothing, ever.
    let mut transport = open(hasty(sh(&script(&[
        ANSWER_1,
        ANSWER_2,
        "while :; do sleep 60; done",
    ]))))
    .await;
    let stuck = tokio::spawn(transport.send(big(7, 1 << 20)));
    for number in [1, 2] {
        assert_eq!(id(&within(transport.receive()).await.unwrap()), number);
    }
    assert!(!stuck.is_finished());
    let _ = within(transport.close()).await;
    let error = within(stuck).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_dropped_send_is_left_out_or_whole() {
    // The server reads nothing until it is told to by a signal, then it echoes.
    let mut transport = open(sh(
        "trap go=1 USR1; echo ready >&2; while [ -z \"$go\" ]; do sleep 0.01; done; exec cat",
    ))
    .await;
    let mut stderr = transport.stdio_monitor().stderr();
    if transport.monitor().diagnostics().stderr_tail.is_empty() {
        within(stderr.next()).await.unwrap();
    }
    let begun = transport.send(big(1, 1 << 20));
    let waiting = transport.send(ping(2));
    let kept = tokio::spawn(transport.send(ping(3)));
    drop(begun);
    drop(waiting);
    let pid = transport.monitor().diagnostics().pid.unwrap().to_string();
    std::process::Command::new("kill")
        .args(["-s", "USR1", &pid])
        .status()
        .unwrap();
    let first = within(transport.receive()).await.unwrap();
    assert_eq!(id(&first), 1, "it was begun, so it is finished");
    let second = within(transport.receive()).await.unwrap();
    assert_eq!(
        id(&second),
        3,
        "nothing of 2 was written, so it is left out"
    );
    within(kept).await.unwrap().unwrap();
}

#[tokio::test]
async fn four_megabytes_of_stderr_before_the_first_answer() {
    let noise = "head -c 4194304 /dev/zero | tr '\\0' e | fold -w 127 >&2; echo >&2; echo last >&2";
    let mut transport = open(sh(&script(&[noise, ANSWER_1, STAY]))).await;
    assert_eq!(id(&within(transport.receive()).await.unwrap()), 1);
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
async fn noise_is_skipped_and_counted() {
    let mut transport = open(sh(&script(&[
        "echo Welcome",
        "printf '\\n\\r\\n'",
        ANSWER_1,
        "printf '\\377\\376\\n{\"level\":\"info\"}\\n'",
        r#"printf '{"jsonrpc":"2.0","id":2,"result":{}}\r\n'"#,
        r#"printf '[{"jsonrpc":"2.0","id":3,"result":{}},{"jsonrpc":"2.0","id":4,"result":{}}]\n'"#,
        // The last line of a server that exits may lack its end.
        r#"printf '{"jsonrpc":"2.0","id":5,"result":{}}'"#,
    ])))
    .await;
    let ids: Vec<_> = receive_all(&mut transport).await.iter().map(id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    assert_eq!(transport.monitor().diagnostics().skipped_lines, 3);
}

#[tokio::test]
async fn a_message_in_pieces() {
    let mut transport = open(sh(&script(&[
        r#"printf '{"jsonrpc":"2'; sleep 0.05; printf '.0","id":1,'; sleep 0.05"#,
        r#"printf '"result":{}}\n'"#,
        STAY,
    ])))
    .await;
    // Each time it is dropped in the middle, nothing is lost.
    let message = within(async {
        loop {
            tokio::select! {
                biased;
                message = transport.receive() => break message,
                () = tokio::time::sleep(std::time::Duration::from_millis(1)) => {}
            }
        }
    })
    .await;
    assert_eq!(id(&message.unwrap()), 1);
}

#[tokio::test]
async fn an_answer_over_the_limit_fails_its_request_only() {
    let long = "head -c 1000000 /dev/zero | tr '\\0' x";
    let mut spec = sh(&script(&[
        &format!(r#"printf '{{"result":{{"t":"'; {long}; printf '"}},"jsonrpc":"2.0","id":1}}\n'"#),
        ANSWER_2,
        STAY,
    ]));
    spec.policy.limits.max_message_bytes = 100_000;
    let mut transport = open(spec).await;
    let first = within(transport.receive()).await.unwrap();
    assert_eq!(id(&first), 1);
    let error = refused(&first);
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("100000 bytes"), "{error}");
    assert_eq!(id(&within(transport.receive()).await.unwrap()), 2);
    assert!(transport.monitor().failure().is_none());
}

#[tokio::test]
async fn a_message_over_the_limit_without_an_id_ends_the_connection() {
    let mut spec = sh("head -c 1000000 /dev/zero | tr '\\0' x; exec cat >/dev/null");
    spec.policy.limits.max_message_bytes = 10_000;
    let mut transport = open(spec).await;
    assert!(within(transport.receive()).await.is_none());
    let failure = transport.monitor().failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::TooLarge);
    let error = within(transport.send(ping(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.delivery(), mcpool_core::Delivery::NotSent);
    within(transport.close()).await.unwrap();
}

#[tokio::test]
async fn a_request_of_the_server_over_the_limit_is_answered() {
    let long = "head -c 1000000 /dev/zero | tr '\\0' x";
    let mut spec = sh(&script(&[
        &format!(r#"printf '{{"jsonrpc":"2.0","id":77,"method":"ping","params":{{"t":"'; {long}"#),
        r#"printf '"}}\n'; IFS= read -r line; printf '%s\n' "$line" >&2"#,
        ANSWER_1,
        STAY,
    ]));
    spec.policy.limits.max_message_bytes = 10_000;
    let mut transport = open(spec).await;
    let mut stderr = transport.stdio_monitor().stderr();
    assert_eq!(id(&within(transport.receive()).await.unwrap()), 1);
    let Some(StderrEvent::Line { line, .. }) = within(stderr.next()).await else {
        panic!("nothing on stderr");
    };
    let answer: serde_json::Value = serde_json::from_str(&line.text).unwrap();
    assert_eq!(answer["id"], 77);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("limit")
    );
}

#[tokio::test]
async fn an_answer_that_is_no_message_fails_its_request() {
    let mut transport = open(sh(&script(&[
        r#"printf '{"jsonrpc":"2.0","id":9,"error":"no"}\n'"#,
        STAY,
    ])))
    .await;
    let message = within(transport.receive()).await.unwrap();
    assert_eq!(id(&message), 9);
    assert_eq!(refused(&message).kind(), ErrorKind::Protocol);
}
