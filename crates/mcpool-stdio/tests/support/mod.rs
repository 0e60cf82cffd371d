//! Servers in `sh`, and a look into `/proc`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use mcpool_core::{
    ConnectRequest, IncomingMessage, OutgoingMessage, ServerSpec, ShutdownPolicy, StdioSpec,
    Transport, model::NumberOrString,
};
use mcpool_stdio::{GuardianProgram, StdioConnector, StdioTransport};

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

/// This test binary as the guardian. It needs this test:
///
/// ```ignore
/// #[test]
/// #[ignore = "the guardian, started by the other tests"]
/// fn guardian_role() {
///     mcpool_stdio::run_guardian(None).unwrap();
/// }
/// ```
pub fn guardian_program() -> GuardianProgram {
    GuardianProgram::this_program(["--exact", "guardian_role", "--ignored", "--nocapture"])
}

/// A word that no other process has among its arguments: a number of seconds, so that `sleep` can
/// carry it.
pub fn mark() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(100);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("1000.{}{number}", std::process::id())
}

/// The processes that have this word in one of their arguments.
pub fn processes_with(mark: &str) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains(mark))
        })
        .collect()
}

/// Leaves a process that nothing ties to its server: twice forked, its environment cleared, in a
/// session of its own, deaf. Its mark is in `$MARK`.
pub const LEAVE_ORPHAN: &str = r#"(env -i setsid sh -c 'trap "" TERM INT HUP; while :; do sleep "$0"; done' "$MARK" </dev/null >/dev/null 2>&1 &)
"#;

/// A server in `sh` with this mark in `$MARK`.
pub fn marked(script: &str, mark: &str) -> ServerSpec {
    let spec = StdioSpec::new("/bin/sh")
        .with_args(["-c", script])
        .with_env("MARK", mark);
    ServerSpec::stdio("test", spec).unwrap()
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
