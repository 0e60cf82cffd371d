//! Faults under load, on real processes and real sockets: nothing is lost in silence, nothing
//! runs twice, nothing is left behind, and it is soon well again.
//!
//! The suite runs few rounds; `MCPOOL_ENDURANCE=1` runs as many as the figures in
//! `docs/measurements.md` were measured with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mcpool_client::StandardFactory;
use mcpool_core::{
    ErrorKind, Event, EventKind, HttpSpec, ReconnectPolicy, Reply, ServerPolicy, ServerSpec,
    StateKind, Verbs as _, model::CallToolResult,
};
use mcpool_e2e::rounds;
use mcpool_manager::{CallOptions, ConnectionManager, EventStream, Refresh, ServerHandle};
use mcpool_testkit::{
    Behavior, eventually, eventually_blocking,
    faults::{Fault, TcpProxy},
    fixtures::{http::HttpFixture, sse::SseFixture, stdio::StdioFixture},
    leaks,
};
use serde_json::{Value, json};

fn manager() -> ConnectionManager {
    ConnectionManager::new(Arc::new(StandardFactory::new()))
}

/// A policy that counts a connection as stable soon, so that a test need not wait a minute.
fn quick_policy() -> ServerPolicy {
    let mut policy = ServerPolicy::default();
    policy.reconnect = ReconnectPolicy::default();
    policy.reconnect.base = Duration::from_millis(20);
    policy.reconnect.cap = Duration::from_millis(200);
    policy.reconnect.reset_after = Duration::from_millis(100);
    policy.reconnect.max_attempts = None;
    policy
}

async fn next(events: &mut EventStream, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            match events.next_event().await {
                Some(event) if wanted(&event) => return event,
                Some(_) => {}
                None => panic!("the events ended before: {what}"),
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("no event: {what}"))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A server that must be there.
fn of(manager: &ConnectionManager, name: &str) -> ServerHandle {
    manager.server(name).unwrap()
}

/// Calls a tool with options.
async fn call_tool(
    manager: &ConnectionManager,
    server: &str,
    tool: &str,
    arguments: &Value,
    options: &CallOptions,
) -> mcpool_core::Result<Reply<CallToolResult>> {
    let handle = manager.server(server)?.with_call_options(options.clone());
    handle.call_tool(tool, arguments).await
}

/// What became of every call of a load.
#[derive(Default)]
struct Ledger {
    /// Calls by their key, and how each ended: `Ok`, or the kind of its error.
    ended: Mutex<HashMap<String, Result<(), ErrorKind>>>,
    begun: AtomicU64,
    stop: AtomicBool,
}

impl Ledger {
    /// Calls the tool `count` again and again, each time with a key of its own.
    async fn load(self: Arc<Self>, manager: ConnectionManager, caller: usize) {
        let mut turn = 0_u64;
        while !self.stop.load(Ordering::Relaxed) {
            let key = format!("{caller}-{turn}");
            turn += 1;
            self.begun.fetch_add(1, Ordering::Relaxed);
            let options = CallOptions::new().with_timeout(Duration::from_secs(30));
            let result = call_tool(
                &manager,
                "victim",
                "count",
                &json!({ "key": key }),
                &options,
            )
            .await;
            let end = match result {
                Ok(_) => Ok(()),
                Err(error) => Err(error.kind()),
            };
            self.ended.lock().unwrap().insert(key, end);
        }
    }

    /// Checks every call against the side effects that the server wrote down.
    fn settle(&self, effects: &str, what: &str) {
        let ended = self.ended.lock().unwrap();
        assert_eq!(
            ended.len() as u64,
            self.begun.load(Ordering::Relaxed),
            "{what}: every call that began must end"
        );
        let mut ran: HashMap<&str, usize> = HashMap::new();
        for key in effects.lines() {
            *ran.entry(key).or_default() += 1;
        }
        let twice: Vec<_> = ran.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{what}: ran twice: {twice:?}");
        let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
        for (key, end) in ended.iter() {
            let did_run = ran.contains_key(key.as_str());
            let word = match end {
                Ok(()) => {
                    assert!(did_run, "{what}: {key} was answered and did not run");
                    "ok".to_owned()
                }
                Err(ErrorKind::OutcomeUnknown) => format!("outcome_unknown, ran: {did_run}"),
                Err(kind) => {
                    assert!(!did_run, "{what}: {key} ran and came back as {kind}");
                    kind.to_string()
                }
            };
            *outcomes.entry(word).or_default() += 1;
        }
        println!("{what}: {} calls: {outcomes:?}", ended.len());
        assert!(outcomes.contains_key("ok"), "{what}: no call succeeded");
    }
}

struct Load {
    ledger: Arc<Ledger>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(manager: &ConnectionManager, callers: usize) -> Self {
        let ledger = Arc::new(Ledger::default());
        let callers = (0..callers)
            .map(|caller| tokio::spawn(Arc::clone(&ledger).load(manager.clone(), caller)))
            .collect();
        Self { ledger, callers }
    }

    async fn stop(self) -> Arc<Ledger> {
        self.ledger.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            tokio::time::timeout(Duration::from_secs(60), caller)
                .await
                .expect("a call hangs")
                .unwrap();
        }
        self.ledger
    }

    fn answered(&self) -> usize {
        let ended = self.ledger.ended.lock().unwrap();
        ended.values().filter(|end| end.is_ok()).count()
    }
}

/// Lets calls go through until the connection counts as stable.
async fn stable(manager: &ConnectionManager, load: &Load) {
    let answered = load.answered();
    let window = Instant::now();
    let calm = eventually(Duration::from_secs(60), || {
        load.answered() > answered
            && window.elapsed() > Duration::from_millis(150)
            && of(manager, "victim").status().unwrap().state == StateKind::Ready
    });
    assert!(
        calm.await,
        "no calls go through: {:?}",
        of(manager, "victim").status()
    );
}

/// Kills or restarts the victim so many times under load, and gives how long each recovery took.
async fn torment(
    manager: &ConnectionManager,
    load: &Load,
    rounds: usize,
    mut strike: impl FnMut(),
) -> Vec<Duration> {
    let mut recoveries = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        stable(manager, load).await;
        let struck = Instant::now();
        strike();
        // Well again: a call that began after the fault is answered. Whether the manager made a
        // new connection, or the transport a new session on the one it has, is its own business.
        let well = tokio::time::timeout(Duration::from_secs(60), async {
            let options = CallOptions::new().with_timeout(Duration::from_secs(30));
            let message = json!({ "message": "hi" });
            while call_tool(manager, "victim", "echo", &message, &options)
                .await
                .is_err()
            {
                tokio::task::yield_now().await;
            }
        });
        well.await.expect("the server is not well again");
        recoveries.push(struck.elapsed());
    }
    recoveries
}

fn report(what: &str, recoveries: Vec<Duration>) {
    let worst = recoveries.iter().max().copied().unwrap();
    let count = recoveries.len();
    let median = median(recoveries);
    println!("{what}: {count} recoveries, median {median:?}, worst {worst:?}");
}

/// Injects a fault into a server again and again under load, then checks every call against the side effects
/// that the server wrote down in the file.
async fn endures(
    (kind, fault): (&str, &str),
    spec: ServerSpec,
    effects: &Path,
    rounds: usize,
    strike: impl FnMut(),
) {
    let manager = manager();
    manager
        .start(vec![spec.with_policy(quick_policy())])
        .await
        .unwrap()
        .all_connected()
        .unwrap();
    let load = Load::start(&manager, 8);
    let recoveries = torment(&manager, &load, rounds, strike).await;
    let ledger = load.stop().await;
    manager.shutdown(Duration::from_secs(10)).await;
    report(&format!("{kind}, {fault} under load"), recoveries);
    ledger.settle(&std::fs::read_to_string(effects).unwrap(), kind);
}

/// A server that writes down in this file what it runs.
fn recording(effects: &Path) -> Behavior {
    Behavior::new().with(|b| b.effects_file = Some(effects.to_string_lossy().into_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stdio_server_killed_under_load_loses_nothing_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let effects = directory.path().join("effects");
    let fixture = StdioFixture::new(recording(&effects));
    let spec = fixture.spec("victim");
    let kill = || fixture.kill();
    endures(("stdio", "killed"), spec, &effects, rounds(10, 200), kill).await;
    assert!(
        eventually(Duration::from_secs(10), || fixture
            .marker()
            .processes()
            .is_empty())
        .await,
        "processes are left"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamable_http_server_restarted_under_load_loses_nothing_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let effects = directory.path().join("effects");
    let fixture = HttpFixture::start(recording(&effects)).unwrap();
    let spec = ServerSpec::http("victim", HttpSpec::new(fixture.url())).unwrap();
    let restart = || {
        fixture.kill();
        fixture.restart().unwrap();
    };
    endures(
        ("http", "restarted"),
        spec,
        &effects,
        rounds(5, 50),
        restart,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sse_server_restarted_under_load_loses_nothing_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let effects = directory.path().join("effects");
    let fixture = SseFixture::start(recording(&effects)).unwrap();
    let spec = ServerSpec::sse("victim", HttpSpec::new(fixture.url())).unwrap();
    let restart = || {
        fixture.kill();
        fixture.restart().unwrap();
    };
    endures(("sse", "restarted"), spec, &effects, rounds(5, 50), restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_noticed_by_the_heartbeat() {
    for kind in ["http", "sse"] {
        let http = HttpFixture::start(Behavior::new()).unwrap();
        let sse = SseFixture::start(Behavior::new()).unwrap();
        let (target, path) = match kind {
            "http" => (http.address(), "/mcp"),
            _ => (sse.address(), "/sse"),
        };
        let proxy = TcpProxy::start(target).unwrap();
        let url = format!("http://{}{path}", proxy.address());
        let mut policy = quick_policy();
        policy.health.interval = Duration::from_millis(500);
        policy.health.timeout = Duration::from_millis(500);
        policy.health.misses = 2;
        let spec = match kind {
            "http" => ServerSpec::http("half", HttpSpec::new(url)),
            _ => ServerSpec::sse("half", HttpSpec::new(url)),
        };
        let manager = manager();
        let report = manager
            .start(vec![spec.unwrap().with_policy(policy)])
            .await
            .unwrap();
        assert!(report.connected[0].1.is_ok(), "{kind}: {report:?}");
        let mut events = manager.events();
        next(&mut events, "a good heartbeat", |event| {
            matches!(event.kind, EventKind::HeartbeatOk { .. })
        })
        .await;
        // From here on no byte passes, and no connection is reset.
        proxy.set(Fault::Blackhole);
        let began = Instant::now();
        let pending = {
            let manager = manager.clone();
            tokio::spawn(async move {
                let options = CallOptions::new().with_timeout(Duration::from_secs(50));
                call_tool(&manager, "half", "count", &Value::Null, &options)
                    .await
                    .unwrap_err()
            })
        };
        let event = next(&mut events, "the end of the connection", |event| {
            matches!(event.kind, EventKind::Disconnected { .. })
        })
        .await;
        println!(
            "{kind}: half-open noticed after {:?}: {:?}",
            began.elapsed(),
            event.kind
        );
        // Interval with its jitter, and two probes that time out, and as much again for a
        // machine under load.
        assert!(began.elapsed() < Duration::from_secs(10), "{kind}");
        let error = pending.await.unwrap();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{kind}: {error:?}");
        manager.shutdown(Duration::from_secs(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_transport_renews_gets_its_subscriptions_back() {
    let fixture = HttpFixture::start(Behavior::new()).unwrap();
    let manager = manager();
    let spec = ServerSpec::http("renewed", HttpSpec::new(fixture.url())).unwrap();
    manager
        .start(vec![spec])
        .await
        .unwrap()
        .all_connected()
        .unwrap();
    let options = CallOptions::new().with_timeout(Duration::from_secs(30));
    of(&manager, "renewed")
        .subscribe("file:///watched")
        .await
        .unwrap();
    fixture.lose_sessions();
    let held = async {
        loop {
            let state = call_tool(&manager, "renewed", "state", &Value::Null, &options).await;
            let subscriptions =
                state.unwrap().into_inner().structured_content.unwrap()["subscriptions"].clone();
            if subscriptions == json!(["file:///watched"]) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let restored = tokio::time::timeout(Duration::from_secs(60), held).await;
    assert!(restored.is_ok(), "the subscription is gone");
    manager.shutdown(Duration::from_secs(10)).await;
}

async fn many_servers(count: usize, stubborn: bool) -> (Duration, usize) {
    let fixture = StdioFixture::new(Behavior::new().with(|b| {
        b.ignore_eof = stubborn;
        b.ignore_sigterm = stubborn;
    }));
    let manager = manager();
    let specs = (0..count)
        .map(|i| {
            let mut policy = ServerPolicy::default();
            policy.timeouts.startup = Duration::from_secs(120);
            fixture.spec(&format!("s{i}")).with_policy(policy)
        })
        .collect();
    let report = manager.start(specs).await.unwrap();
    for (name, result) in &report.connected {
        assert!(result.is_ok(), "{name}: {result:?}");
    }
    assert!(!manager.tools(Refresh::IfStale).await.is_empty());
    let began = Instant::now();
    let report = manager.shutdown(Duration::from_secs(30)).await;
    let elapsed = began.elapsed();
    assert_eq!(report.closed.len() + report.forced.len(), count);
    let gone = eventually(Duration::from_secs(10), || {
        fixture.marker().processes().is_empty()
    });
    assert!(gone.await, "processes are left");
    (elapsed, leaks::task_count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_stdio_servers_shut_down_in_parallel() {
    let count = rounds(20, 200);
    let (obedient, _) = many_servers(count, false).await;
    let (stubborn, _) = many_servers(count, true).await;
    println!("{count} servers: obedient ones shut down in {obedient:?}, stubborn in {stubborn:?}");
    // The bound of one close is 5 s; in sequence, even few stubborn servers would take far longer.
    assert!(obedient < Duration::from_secs(5), "{obedient:?}");
    assert!(stubborn < Duration::from_secs(15), "{stubborn:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_of_start_and_shutdown_leave_nothing() {
    let count = rounds(5, 50);
    many_servers(count, false).await;
    let tasks = leaks::task_count();
    let descriptors = leaks::descriptor_count();
    for _ in 0..rounds(4, 10) {
        many_servers(count, false).await;
        let memory = leaks::resident_bytes(std::process::id()).unwrap_or_default();
        println!("resident {} KiB", memory / 1024);
    }
    let settled = eventually(Duration::from_secs(10), || {
        leaks::task_count() <= tasks && leaks::descriptor_count() <= descriptors + 2
    });
    assert!(
        settled.await,
        "tasks {tasks} → {}, descriptors {descriptors} → {}",
        leaks::task_count(),
        leaks::descriptor_count()
    );
}

#[test]
fn dropping_the_manager_after_its_runtime_leaves_no_process() {
    for _ in 0..rounds(5, 100) {
        // As a launcher does it: a wrapper whose child is the server, deaf to everything.
        let fixture = StdioFixture::new(Behavior::new().with(|b| {
            b.wrapper = true;
            b.ignore_eof = true;
            b.ignore_sigterm = true;
        }));
        let manager = manager();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let report = runtime
            .block_on(manager.start(vec![fixture.spec("deaf")]))
            .unwrap();
        assert!(report.connected[0].1.is_ok(), "{report:?}");
        assert!(fixture.marker().processes().len() >= 2);
        runtime.shutdown_background();
        drop(manager);
        assert!(
            eventually_blocking(Duration::from_secs(10), || fixture
                .marker()
                .processes()
                .is_empty()),
            "processes are left: {:?}",
            fixture.marker().processes()
        );
    }
}
