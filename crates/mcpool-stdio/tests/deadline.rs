//! Servers whose time is over when nobody prolongs it: the guardian kills them, with no word of the
//! application.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use mcpool_core::{ErrorKind, Transport};
use mcpool_stdio::{MachineTime, StdioConnector};
use support::*;

#[tokio::test]
async fn the_guardian_kills_when_the_time_is_over_and_starts_nothing_after_it() {
    let shared = guardian_program();
    let apart = shared.another();
    // It ends neither by itself nor by SIGTERM.
    let request = hasty(sh("trap '' TERM; while :; do sleep 0.01; done"));
    let connector = StdioConnector::new()
        .with_guardian(shared)
        .with_guardian_of(request.server.clone(), apart.clone());
    let now = MachineTime::now();
    // Set before the guardian runs, which learns of it.
    apart.end_at(now.after(Duration::from_secs(3)));
    let server = connector.open(request.clone()).await.unwrap();
    // Prolonged; an earlier moment changes nothing.
    apart.end_at(now.after(Duration::from_secs(4)));
    apart.end_at(now);
    loss(&server).await;
    assert!(now.after(Duration::from_secs(4)).has_come());

    // No server after it, until there is a later moment.
    connector.open(request.clone()).await.unwrap_err();
    apart.end_at(MachineTime::now().after(Duration::from_secs(600)));
    let server = connector.open(request).await.unwrap();
    // It has to be killed, which is the word of the close.
    assert_eq!(server.close().await.unwrap_err().kind(), ErrorKind::Timeout);
}
