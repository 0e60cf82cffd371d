//! Servers in `sh`, and a look into `/proc`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use mcpool_core::{
    ConnectRequest, IncomingMessage, OutgoingMessage, ServerSpec, ShutdownPolicy, StdioSpec,
    Transport, model::NumberOrString,
};
use mcpool_stdio::{StdioConnector, StdioTransport};

/// Generous: a loaded machine is slow, a hang is for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn sh(script: &str) -> ServerSpec {
    ServerSpec::stdio("test", StdioSpec::new("/bin/sh").with_args(["-c", script])).unwrap()
}

/// Graces so short that a test of the whole ladder is quick.
pub fn hasty(mut spec: ServerSpec) -> ServerSpec {
    let mut shutdown = ShutdownPolicy::default();
    shutdown.stdin_grace = Duration::from_millis(100);
    shutdown.term_grace = Duration::from_millis(100);
    spec.policy.shutdown = shutdown;
    spec
}

pub async fn open(spec: ServerSpec) -> StdioTransport {
    StdioConnector::new()
        .open(ConnectRequest::new(Arc::new(spec)))
        .await
        .unwrap()
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it ends in time")
}

/// `{"jsonrpc":"2.0","id":…,"method":"ping"}`: what a client sends, and what a server that is
/// `cat` sends back.
pub fn ping(id: i64) -> OutgoingMessage {
    serde_json::from_value(serde_json::json!({"jsonrpc": "2.0", "id": id, "method": "ping"}))
        .unwrap()
}

/// A message of about this many bytes.
pub fn big(id: i64, bytes: usize) -> OutgoingMessage {
    serde_json::from_value(serde_json::json!({
        "jsonrpc": "2.0", "id": id, "method": "test/big", "params": {"text": "x".repeat(bytes)}
    }))
    .unwrap()
}

pub fn id(message: &IncomingMessage) -> i64 {
    let id = match message {
        IncomingMessage::Request(request) => Some(request.id.clone()),
        IncomingMessage::Response(response) => Some(response.id.clone()),
        IncomingMessage::Error(error) => error.id.clone(),
        IncomingMessage::Notification(_) => None,
    };
    match id {
        Some(NumberOrString::Number(id)) => id,
        other => panic!("no number as id: {other:?}"),
    }
}

/// Waits for a condition that has no event.
pub async fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        mcpool_testkit::eventually(PATIENCE, condition).await,
        "{what}"
    );
}

/// Reads to the end of the connection; gives the messages.
pub async fn receive_all(transport: &mut StdioTransport) -> Vec<IncomingMessage> {
    let mut messages = Vec::new();
    while let Some(message) = within(transport.receive()).await {
        messages.push(message);
    }
    messages
}
