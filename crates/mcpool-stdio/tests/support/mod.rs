//! Servers in `sh`, and a look into `/proc`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool_core::{
    ConnectRequest, Direction, Error, Incoming, Raw, Result, ShutdownPolicy, StdioSpec, Transport,
    TransportSpec, WireEvent, WireRequest, WireTap,
};
use mcpool_stdio::{GuardianProgram, StdioConnector, StdioTransport};
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture};

/// Generous: a loaded machine is slow, a hang is for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Answers every request with `{}` until stdin ends.
pub const ANSWER_ALL: &str = r#"exec sed -u -n 's/^{"jsonrpc":"2.0","id":\([0-9]*\).*/{"jsonrpc":"2.0","id":\1,"result":{}}/p'"#;

/// As `npx` with a server that ignores SIGTERM and the end of stdin, and left a child in a session of
/// its own: three processes.
pub fn stubborn() -> StdioFixture {
    StdioFixture::new(Behavior::new().with(|behavior| {
        behavior.wrapper = true;
        behavior.ignore_sigterm = true;
        behavior.ignore_eof = true;
        behavior.detached_child = true;
    }))
}

pub fn stdio(spec: StdioSpec) -> ConnectRequest {
    ConnectRequest::new("test".parse().unwrap(), TransportSpec::Stdio(spec))
}

pub fn sh(script: &str) -> ConnectRequest {
    stdio(StdioSpec::new("/bin/sh").with_args(["-c", script]))
}

/// Graces so short that a test of the whole ladder is quick.
pub fn hasty(request: ConnectRequest) -> ConnectRequest {
    with_graces(
        request,
        Duration::from_millis(100),
        Duration::from_millis(100),
    )
}

pub fn with_graces(request: ConnectRequest, stdin: Duration, term: Duration) -> ConnectRequest {
    let mut shutdown = ShutdownPolicy::default();
    shutdown.total = shutdown.total.max(2 * (stdin + term));
    shutdown.stdin_grace = stdin;
    shutdown.term_grace = term;
    request.with_shutdown(shutdown)
}

pub fn with_limit(mut request: ConnectRequest, bytes: usize) -> ConnectRequest {
    request.limits.max_message_bytes = bytes;
    request
}

pub async fn open(request: ConnectRequest) -> StdioTransport {
    StdioConnector::new().open(request).await.unwrap()
}

/// This test binary as the guardian.
pub fn guardian_program() -> GuardianProgram {
    let role = "support::guardian_role";
    GuardianProgram::this_program(["--exact", role, "--ignored", "--nocapture"])
}

#[test]
#[ignore = "the guardian, started by the other tests"]
fn guardian_role() {
    mcpool_stdio::run_guardian(None).unwrap();
}

/// The guardians of this process: its descendants that have this in their command line.
pub fn guardians_with(word: &str) -> Vec<u32> {
    mcpool_testkit::leaks::descendants(std::process::id())
        .into_iter()
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains(word))
        })
        .collect()
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
pub fn marked(script: &str, mark: &str) -> ConnectRequest {
    let spec = StdioSpec::new("/bin/sh")
        .with_args(["-c", script])
        .with_env("MARK", mark);
    stdio(spec)
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it ends in time")
}

pub async fn ping(transport: &StdioTransport) -> Result<Raw> {
    within(transport.request(WireRequest::new("ping", None), None)).await
}

/// A request of about this many bytes.
pub async fn big(transport: &StdioTransport, bytes: usize) -> Result<Raw> {
    let params = Raw::of(&serde_json::json!({"text": "x".repeat(bytes)})).unwrap();
    within(transport.request(WireRequest::new("test/big", Some(&params)), None)).await
}

/// The end of the connection, which is a loss.
pub async fn loss(transport: &StdioTransport) -> Error {
    within(transport.closed()).await.expect("it was not closed")
}

/// Waits for a condition that has no event.
pub async fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        mcpool_testkit::eventually(PATIENCE, condition).await,
        "{what}"
    );
}

/// The first thing that the server says by itself.
pub async fn said(transport: &StdioTransport) -> Incoming {
    let mut incoming = transport.incoming().unwrap();
    within(incoming.next()).await.expect("it says something")
}

/// Waits until the server has written a line to stderr.
pub async fn until_ready(transport: &StdioTransport) {
    let monitor = transport.monitor();
    until("it is ready", || {
        !monitor.diagnostics().stderr_tail.is_empty()
    })
    .await;
}

/// Keeps what passes.
#[derive(Debug, Default)]
pub struct Tap(Mutex<Vec<(Direction, String)>>);

impl Tap {
    /// What passed in one direction.
    pub fn seen(&self, wanted: Direction) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let of = events.iter().filter(|(direction, _)| *direction == wanted);
        of.map(|(_, text)| text.clone()).collect()
    }
}

impl WireTap for Tap {
    fn event(&self, event: &WireEvent<'_>) {
        let event = (event.direction, event.text.to_owned());
        self.0.lock().unwrap().push(event);
    }
}

pub fn tapped(request: ConnectRequest) -> (ConnectRequest, Arc<Tap>) {
    let tap = Arc::new(Tap::default());
    (request.with_tap(Arc::clone(&tap) as _), tap)
}
