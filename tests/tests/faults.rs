//! Calls through a network whose faults change as it runs, with servers that write down what they
//! run: every outcome is compared with that journal.
//!
//! The suite runs a sample; `MCPOOL_ENDURANCE=1` (`cargo xtask ci --long`) runs as many calls as
//! the figures in `docs/measurements.md` were measured with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mcpool_client::StandardFactory;
use mcpool_core::{
    Delivery, Error, ErrorKind, EventKind, HttpSpec, ReconnectPolicy, ServerPolicy, ServerSpec,
    Verbs as _,
};
use mcpool_e2e::rounds;
use mcpool_manager::{CallOptions, ConnectionManager};
use mcpool_testkit::{
    Behavior,
    faults::{Fault, Step, TcpProxy},
    fixtures::{
        http::HttpFixture,
        sse::{SseFixture, SseOptions},
        stdio::StdioFixture,
    },
};
use serde_json::json;

/// What a call may take, and what it may be late on a busy machine.
const DEADLINE: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_secs(2);

fn manager() -> ConnectionManager {
    ConnectionManager::new(Arc::new(StandardFactory::new()))
}

/// Notices soon and comes back soon.
fn policy() -> ServerPolicy {
    let mut policy = ServerPolicy::default();
    policy.reconnect = ReconnectPolicy::default();
    policy.reconnect.base = Duration::from_millis(20);
    policy.reconnect.cap = Duration::from_millis(200);
    policy.reconnect.max_attempts = None;
    policy.timeouts.startup = Duration::from_secs(2);
    policy.health.interval = Duration::from_millis(500);
    policy.health.timeout = Duration::from_millis(500);
    policy.health.misses = 2;
    policy
}

fn journaling(effects: &Path) -> Behavior {
    Behavior::new().with(|b| b.effects_file = Some(effects.to_string_lossy().into_owned()))
}

/// How one call ended.
struct Ended {
    key: String,
    outcome: Result<bool, Error>,
    elapsed: Duration,
}

/// What became of all calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    calls: usize,
    answered: usize,
    outcome_unknown: usize,
    /// Failed, and for certain did not run.
    not_run: usize,
    /// Begun, and never ended.
    hung: usize,
    /// Answered, and not in the journal; or failed as certainly not run, and in it.
    contradicted: usize,
    /// In the journal more than once.
    doubled: usize,
    /// Answered with another call's answer.
    wrong: usize,
    /// Ended after its deadline.
    late: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Tally {
    fn of(begun: u64, ended: &[Ended], journal: &str) -> Self {
        let mut ran: HashMap<&str, usize> = HashMap::new();
        for key in journal.lines() {
            *ran.entry(key).or_default() += 1;
        }
        let mut tally = Self {
            calls: ended.len(),
            hung: usize::try_from(begun).unwrap() - ended.len(),
            doubled: ran.values().filter(|times| **times > 1).count(),
            ..Self::default()
        };
        for Ended {
            key,
            outcome,
            elapsed,
        } in ended
        {
            let did_run = ran.contains_key(key.as_str());
            let contradiction = match outcome {
                Ok(right) => {
                    tally.answered += 1;
                    tally.wrong += usize::from(!right);
                    !did_run
                }
                Err(error) => match error.delivery() {
                    Delivery::NotSent | Delivery::Rejected => {
                        tally.not_run += 1;
                        did_run
                    }
                    Delivery::Answered => {
                        tally.answered += 1;
                        !did_run
                    }
                    _ => {
                        tally.outcome_unknown += 1;
                        false
                    }
                },
            };
            if contradiction {
                println!("contradicted: {key} ran: {did_run}, and ended as {outcome:?}");
            }
            tally.contradicted += usize::from(contradiction);
            if *elapsed > DEADLINE + MARGIN {
                println!("late: {key} ended after {elapsed:?} as {outcome:?}");
                tally.late += 1;
            }
        }
        tally
    }

    fn is_sound(&self) -> bool {
        let bad = [
            self.hung,
            self.contradicted,
            self.doubled,
            self.wrong,
            self.late,
        ];
        bad == [0; 5] && self.answered > 0
    }
}

/// Callers that call `count` again and again, each time with a key of its own.
struct Load {
    begun: Arc<AtomicU64>,
    ended: Arc<Mutex<Vec<Ended>>>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// So many callers, until so many calls were begun.
    fn start(manager: &ConnectionManager, callers: usize, calls: usize) -> Self {
        let begun = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(Mutex::new(Vec::new()));
        let callers = (0..callers)
            .map(|_| {
                let server = manager
                    .server("victim")
                    .unwrap()
                    .with_call_options(CallOptions::new().with_timeout(DEADLINE));
                let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
                tokio::spawn(async move {
                    loop {
                        let number = begun.fetch_add(1, Ordering::SeqCst);
                        if number >= calls as u64 {
                            begun.fetch_sub(1, Ordering::SeqCst);
                            return;
                        }
                        let key = format!("k{number}");
                        // Mostly small, now and then larger than what one packet carries.
                        let bytes = [0, 0, 0, 100, 0, 0, 5_000, 0, 0, 60_000][number as usize % 10];
                        let arguments = json!({"key": key, "bytes": bytes, "ms": number % 3});
                        let start = Instant::now();
                        let outcome = server.call_tool("count", arguments).await.map(|reply| {
                            let text = reply.content[0].as_text().unwrap();
                            let padded = if bytes > 0 { 1 + bytes } else { 0 };
                            text.text.split(' ').next() == Some(key.as_str())
                                && text.text.len() == key.len() + padded
                        });
                        let elapsed = start.elapsed();
                        if outcome
                            .as_ref()
                            .is_err_and(|error| error.kind() == ErrorKind::NotConnected)
                        {
                            // Nothing to spin on.
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        ended.lock().unwrap().push(Ended {
                            key,
                            outcome,
                            elapsed,
                        });
                    }
                })
            })
            .collect();
        Self {
            begun,
            ended,
            callers,
        }
    }

    fn ended(&self) -> usize {
        self.ended.lock().unwrap().len()
    }

    /// Waits for the callers, a hanging one for half a minute.
    async fn settle(self) -> (u64, Vec<Ended>) {
        let patience = tokio::time::Instant::now() + Duration::from_secs(3600);
        let mut last = (self.ended(), tokio::time::Instant::now());
        for caller in self.callers {
            let mut caller = caller;
            loop {
                let tick = tokio::time::timeout(Duration::from_secs(1), &mut caller).await;
                if tick.is_ok() {
                    break;
                }
                let now = tokio::time::Instant::now();
                let ended = self.ended.lock().unwrap().len();
                if ended > last.0 {
                    last = (ended, now);
                }
                if now - last.1 > Duration::from_secs(30) || now > patience {
                    caller.abort();
                    break;
                }
            }
        }
        let begun = self.begun.load(Ordering::SeqCst);
        let ended = std::mem::take(&mut *self.ended.lock().unwrap());
        (begun, ended)
    }
}

/// Every fault, one after the other, with calm between them.
fn weather() -> Vec<Step> {
    let ms = Duration::from_millis;
    let calm = |time| Step::During(Fault::Pass, ms(time));
    vec![
        calm(400),
        Step::HalfOpen,
        calm(700),
        Step::During(Fault::Delay(ms(20)), ms(200)),
        Step::During(
            Fault::Drip {
                bytes: 512,
                pause: ms(1),
            },
            ms(150),
        ),
        Step::Reset,
        calm(300),
        Step::During(Fault::Blackhole, ms(300)),
        calm(100),
        Step::During(Fault::TruncateAfter(3_000), ms(100)),
        calm(200),
        Step::During(Fault::CutAfter(2_000), ms(100)),
        Step::During(Fault::Refuse, ms(100)),
        Step::Close,
        calm(200),
        Step::During(Fault::Duplicate, ms(100)),
    ]
}

async fn weathers(kind: &str, address: std::net::SocketAddr, effects: &Path, calls: usize) {
    let proxy = TcpProxy::start(address).unwrap();
    let spec = match kind {
        "http" => ServerSpec::http(
            "victim",
            HttpSpec::new(format!("http://{}/mcp", proxy.address())),
        ),
        _ => ServerSpec::sse(
            "victim",
            HttpSpec::new(format!("http://{}/sse", proxy.address())),
        ),
    };
    let manager = manager();
    manager
        .start(vec![spec.unwrap().with_policy(policy())])
        .await
        .unwrap()
        .all_connected()
        .unwrap();
    proxy.cycle(weather());
    let began = Instant::now();
    let load = Load::start(&manager, 32, calls);
    let (begun, ended) = load.settle().await;
    let took = began.elapsed();
    proxy.set(Fault::Pass);
    let connections = proxy.accepted();
    manager.shutdown(Duration::from_secs(10)).await;
    let tally = Tally::of(begun, &ended, &std::fs::read_to_string(effects).unwrap());
    println!("{kind}: {took:.1?}, {connections} connections: {tally}");
    let mut kinds: HashMap<&str, usize> = HashMap::new();
    for error in ended
        .iter()
        .filter_map(|ended| ended.outcome.as_ref().err())
    {
        *kinds.entry(error.kind().as_str()).or_default() += 1;
    }
    println!("{kind}: {kinds:?}");
    assert!(tally.is_sound(), "{kind}: {tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streamable_http_keeps_its_word_in_every_weather() {
    let directory = tempfile::tempdir().unwrap();
    let effects = directory.path().join("effects");
    let fixture = HttpFixture::start(journaling(&effects)).unwrap();
    weathers("http", fixture.address(), &effects, rounds(3_000, 100_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sse_keeps_its_word_in_every_weather() {
    let directory = tempfile::tempdir().unwrap();
    let effects = directory.path().join("effects");
    let fixture = SseFixture::start(journaling(&effects)).unwrap();
    weathers("sse", fixture.address(), &effects, rounds(3_000, 100_000)).await;
}

/// Idle connections that went half-open without a word, while new ones work all the time: it is
/// back within one connect of the moment at which the heartbeat knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_idle_connections_hold_up_no_reconnect() {
    for kind in ["http", "sse"] {
        let http = HttpFixture::start(Behavior::new()).unwrap();
        let sse = SseFixture::start(Behavior::new()).unwrap();
        let (target, path) = match kind {
            "http" => (http.address(), "/mcp"),
            _ => (sse.address(), "/sse"),
        };
        let proxy = TcpProxy::start(target).unwrap();
        let spec = HttpSpec::new(format!("http://{}{path}", proxy.address()));
        let spec = match kind {
            "http" => ServerSpec::http("victim", spec),
            _ => ServerSpec::sse("victim", spec),
        };
        let manager = manager();
        let spec = spec.unwrap().with_policy(policy());
        manager
            .start(vec![spec])
            .await
            .unwrap()
            .all_connected()
            .unwrap();
        let server = manager.server("victim").unwrap();
        // Answered together, so that each has a connection of its own.
        let calls = (0..32).map(|n| {
            let server = server.clone();
            tokio::spawn(async move {
                let arguments = json!({"count": 32, "message": format!("{n}")});
                server.call_tool("gather", arguments).await
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        let before = proxy.accepted();
        assert!(
            before >= 32 || kind == "sse",
            "{kind}: {before} connections"
        );
        let mut events = manager.events();
        proxy.half_open_all();
        let broken = Instant::now();
        let back = async {
            loop {
                let options = CallOptions::new().with_timeout(Duration::from_millis(500));
                let patient = server.clone().with_call_options(options);
                let echo = patient.call_tool("echo", json!({"message": "hi"}));
                if echo.await.is_ok() {
                    return broken.elapsed();
                }
            }
        };
        let back = tokio::time::timeout(Duration::from_secs(60), back).await;
        let back = back.expect("it does not come back");
        println!("{kind}: back after {back:?}");
        assert!(
            proxy.accepted() > before,
            "{kind}: no new connection was opened"
        );
        // Two missed heartbeats of half a second each, the interval before them, one connect, and
        // as much again for a busy machine.
        assert!(back < Duration::from_secs(6), "{kind}: {back:?}");
        manager.shutdown(Duration::from_secs(10)).await;
        while let Some(event) = events.next_event().await {
            let failed = matches!(event.kind, EventKind::ConnectFailed { .. });
            assert!(
                !failed,
                "{kind}: a connect was tied to dead sockets: {event:?}"
            );
        }
    }
}

/// One POST in a hundred is refused, and one answer in five is over the limit: each call gets its
/// own outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_sse_each_call_gets_its_own_outcome() {
    const LIMIT: usize = 200_000;
    let directory = tempfile::tempdir().unwrap();
    let effects = directory.path().join("effects");
    let mut options = SseOptions::default();
    options.refuse_one_in = Some(100);
    let fixture = SseFixture::start_with(journaling(&effects), options).unwrap();
    let mut policy = policy();
    policy.limits.max_message_bytes = LIMIT;
    let spec = ServerSpec::sse("victim", HttpSpec::new(fixture.url())).unwrap();
    let manager = manager();
    manager
        .start(vec![spec.with_policy(policy)])
        .await
        .unwrap()
        .all_connected()
        .unwrap();
    let server = manager.server("victim").unwrap();
    let next = Arc::new(AtomicU64::new(0));
    let calls = rounds(600, 5_000) as u64;
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (server, next) = (server.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut ended = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= calls {
                        return ended;
                    }
                    let bytes = (number % 5) as usize * 60_000;
                    let arguments = json!({"key": format!("k{number}"), "bytes": bytes});
                    let outcome = server.call_tool("count", arguments).await;
                    ended.push((number, bytes, outcome.map(drop)));
                }
            })
        })
        .collect();
    let mut ended = Vec::new();
    for caller in callers {
        ended.extend(caller.await.unwrap());
    }
    manager.shutdown(Duration::from_secs(10)).await;
    let journal = std::fs::read_to_string(&effects).unwrap();
    let mut ran: HashMap<&str, usize> = HashMap::new();
    for key in journal.lines() {
        *ran.entry(key).or_default() += 1;
    }
    for (number, bytes, outcome) in ended {
        let times = ran.get(format!("k{number}").as_str()).copied();
        assert_eq!(times, Some(1), "k{number} ran {times:?}: {outcome:?}");
        match outcome {
            Ok(()) => assert!(bytes < LIMIT, "k{number}"),
            Err(error) => {
                let own = error.kind() == ErrorKind::TooLarge && bytes > LIMIT;
                assert!(own, "k{number}, {bytes} bytes: {error:?}");
            }
        }
    }
}

/// A stopped process whose successor may start beside it: no call waits for the graces of the old
/// one.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_succeeded_while_it_is_being_ended() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let directory = tempfile::tempdir().unwrap();
    let effects = directory.path().join("effects");
    let fixture = StdioFixture::new(journaling(&effects));
    let mut policy = policy();
    policy.shutdown.overlap = true;
    // Long enough that each loss is a first one.
    policy.reconnect.reset_after = Duration::from_millis(100);
    let manager = manager();
    manager
        .start(vec![fixture.spec("victim").with_policy(policy)])
        .await
        .unwrap()
        .all_connected()
        .unwrap();
    let load = Load::start(&manager, 8, rounds(4_000, 100_000));
    for round in 0..rounds(2, 20) {
        let before = load.ended();
        let calm =
            mcpool_testkit::eventually(Duration::from_secs(30), || load.ended() > before + 50);
        if !calm.await {
            break;
        }
        let status = manager.server("victim").unwrap().status().unwrap();
        let Some(pid) = status.instances[0].pid else {
            continue;
        };
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGSTOP).unwrap();
        println!("round {round}: {pid} is stopped");
        let succeeded = mcpool_testkit::eventually(Duration::from_secs(30), || {
            let status = manager.server("victim").unwrap().status().unwrap();
            status.instances[0].pid.is_some_and(|next| next != pid)
        });
        assert!(succeeded.await, "no successor");
    }
    let (begun, ended) = load.settle().await;
    manager.shutdown(Duration::from_secs(10)).await;
    let journal = std::fs::read_to_string(&effects).unwrap();
    let tally = Tally::of(begun, &ended, &journal);
    println!("stopped: {tally}");
    assert!(tally.is_sound(), "{tally}");
    assert_eq!(tally.not_run, 0, "a call did not run: {tally}");
    let left = fixture.marker().processes();
    assert!(left.is_empty(), "{left:?}");
}
