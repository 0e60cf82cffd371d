//! Messages in both directions, with real processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use mcpool_core::Transport;
use support::*;

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
