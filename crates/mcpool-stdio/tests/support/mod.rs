//! Servers in `sh`, and a look into `/proc`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use mcpool_core::{
    ConnectRequest, IncomingMessage, OutgoingMessage, ServerSpec, ShutdownPolicy, StdioSpec,
    model::NumberOrString,
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
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The live processes (no zombies) in whose command line or environment a text occurs.
#[cfg(target_os = "linux")]
pub fn processes_with(text: &str) -> Vec<u32> {
    let own = std::process::id();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own && !is_zombie(*pid))
        .filter(|pid| {
            ["cmdline", "environ"].iter().any(|file| {
                std::fs::read(format!("/proc/{pid}/{file}"))
                    .is_ok_and(|content| String::from_utf8_lossy(&content).contains(text))
            })
        })
        .collect()
}

#[cfg(target_os = "linux")]
pub fn is_zombie(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => matches!(
            stat.rsplit(')')
                .next()
                .and_then(|rest| rest.trim().chars().next()),
            Some('Z' | 'X') | None
        ),
        Err(_) => true,
    }
}

#[cfg(target_os = "linux")]
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
