use std::{error::Error as _, time::Duration};

use super::{Error, ErrorKind, Recovery};
use crate::{Delivery, Masker, Raw, RpcError, Sensitivity, StderrLine};

#[test]
fn display_is_one_line_and_leaves_the_source_to_the_chain() {
    let error = Error::new(ErrorKind::Connect, "cannot reach the server")
        .with_server(&"github".parse().unwrap())
        .with_operation("connect")
        .with_source(std::io::Error::other("refused"));
    assert_eq!(
        error.to_string(),
        "github: connect: cannot reach the server"
    );
    assert_eq!(error.source().unwrap().to_string(), "refused");
}

#[test]
fn the_first_server_and_operation_stay() {
    let error = Error::new(ErrorKind::Timeout, "no answer")
        .with_operation("tools/call")
        .with_operation("call");
    assert_eq!(error.operation(), Some("tools/call"));
}

#[test]
fn a_message_is_clean_and_bounded_whoever_wrote_it() {
    let error = Error::from_rpc(RpcError::new(-32603, "\x1b[2J\n\u{202e}"));
    assert_eq!(
        error.message(),
        r"the server answered -32603: \u{1b}[2J\n\u{202e}"
    );
    let error = error.wrap(ErrorKind::Internal, "x".repeat(100_000));
    assert_eq!(error.message().chars().count(), Error::MAX_MESSAGE_CHARS);
}

#[test]
fn known_secrets_are_taken_out_everywhere() {
    let masker = Masker::new();
    masker.add("canary-value", Sensitivity::Value);
    let rpc = RpcError::new(-1, "bad canary-value")
        .with_data(Raw::of(&serde_json::json!({"canary-value": "canary-value"})).unwrap());
    let error = Error::from_rpc(rpc)
        .with_challenge("Bearer error=\"canary-value\"")
        .with_stderr_tail(vec![StderrLine::now("token canary-value")])
        .with_source(
            Error::new(ErrorKind::Connect, "at canary-value")
                .with_source(std::io::Error::other("no canary-value")),
        );
    let masked = error.masked(&masker);
    let shown = format!(
        "{masked} {masked:?} {:?} {:?}",
        masked.rpc(),
        masked.challenge()
    );
    assert!(!shown.contains("canary"), "{shown}");
    let cause = masked.source().unwrap();
    assert_eq!(cause.to_string(), "at [redacted]");
    assert_eq!(cause.source().unwrap().to_string(), "no [redacted]");
}

#[test]
fn causes_without_a_secret_stay_what_they_are() {
    let masker = Masker::new();
    masker.add("canary-value", Sensitivity::Value);
    let error = Error::new(ErrorKind::Spawn, "of canary-value")
        .with_source(std::io::Error::other("refused"))
        .masked(&masker);
    assert_eq!(error.message(), "of [redacted]");
    assert!(error.source().unwrap().is::<std::io::Error>());
}

#[test]
fn defaults_of_delivery_and_recovery() {
    let lost = Error::new(ErrorKind::ConnectionLost, "gone");
    assert_eq!(lost.delivery(), Delivery::Unknown);
    assert_eq!(lost.recovery(), Recovery::Reconnect);
    let disabled = Error::new(ErrorKind::Disabled, "off");
    assert_eq!(disabled.delivery(), Delivery::NotSent);
    assert!(disabled.is_permanent());
    let limited =
        Error::new(ErrorKind::RateLimited, "slow down").with_retry_after(Duration::from_secs(3));
    assert_eq!(limited.recovery(), Recovery::After(Duration::from_secs(3)));
    assert_eq!(limited.delivery(), Delivery::Rejected);
    assert!(!limited.is_permanent());
}
