//! Losing connections and getting them back: schedule, evidence, suspend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    ConnectBudget, Error, ErrorKind, EventKind, Jitter, ReconnectPolicy, ServerNotice,
    ServerPolicy, ServerSpec, ServerState, StartMode, StateKind, model::LoggingLevel,
};
use mcpool_manager::{CallOptions, ConnectionManager, Refresh, SuspendClock};
use tokio::time::Instant;

use crate::scripted::*;

fn with_reconnect(name: &str, reconnect: ReconnectPolicy) -> ServerSpec {
    let mut policy = ServerPolicy::default();
    policy.reconnect = reconnect;
    spec(name).with_policy(policy)
}

fn exact(mut policy: ReconnectPolicy) -> ReconnectPolicy {
    policy.jitter = Jitter::None;
    policy
}

/// The pauses between the connects that were asked for, in milliseconds.
fn pauses(world: &World, name: &str) -> Vec<u128> {
    let times = world.server(name).connect_times();
    times
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_millis())
        .collect()
}

async fn until(manager: &ConnectionManager, name: &str, state: StateKind) {
    let mut watch = of(manager, name).watch().unwrap();
    tokio::time::timeout(
        Duration::from_secs(100_000),
        watch.wait_for(|s| s.kind() == state),
    )
    .await
    .unwrap_or_else(|_| panic!("{name} never became {state}"))
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_schedule_is_exact() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    for (name, policy) in [
        ("default", exact(ReconnectPolicy::default())),
        ("five", ReconnectPolicy::five_then_stop()),
        ("retrying", exact(ReconnectPolicy::retrying(6))),
    ] {
        world.server(name).always(Op::Connect, Act::Fail(refused()));
        manager.add(with_reconnect(name, policy)).unwrap();
    }
    for name in ["default", "five", "retrying"] {
        until(&manager, name, StateKind::Dormant).await;
    }
    assert_eq!(
        pauses(&world, "default")[..10],
        [
            500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000
        ]
    );
    assert_eq!(pauses(&world, "five"), [1000, 2000, 4000, 8000, 16_000]);
    assert_eq!(
        pauses(&world, "retrying"),
        [1000, 2000, 4000, 8000, 16_000, 30_000]
    );
    // The default goes on, slowly; the other two have given up for good.
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    let slow = &pauses(&world, "default")[10..];
    assert!(slow.len() >= 29, "{slow:?}");
    assert!(
        slow.iter().all(|p| (240_000..=360_000).contains(p)),
        "{slow:?}"
    );
    assert_eq!(world.server("five").count(Op::Connect), 6);
    let status = of(&manager, "five").status().unwrap();
    assert_eq!(status.state, StateKind::Dormant);
    assert_eq!(status.next_retry_at, None);
    let error = call_tool(&manager, "five", "echo", None, &CallOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GivenUp);
    // A caller's word starts it again.
    world.server("five").always(Op::Connect, Act::Answer);
    of(&manager, "five").connect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_connects_and_dies_climbs_the_ladder() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager
        .start(vec![with_reconnect("a", exact(ReconnectPolicy::default()))])
        .await
        .unwrap();
    let fake = world.server("a");
    for _ in 0..6 {
        until(&manager, "a", StateKind::Ready).await;
        die(&fake);
        until(&manager, "a", StateKind::Backoff).await;
    }
    until(&manager, "a", StateKind::Ready).await;
    assert_eq!(pauses(&world, "a"), [500, 1000, 2000, 4000, 8000, 16_000]);
    // A stable minute, and the next loss is mended at once.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let died = Instant::now();
    die(&fake);
    call_tool(&manager, "a", "echo", None, &CallOptions::new())
        .await
        .unwrap();
    assert_eq!(died.elapsed(), Duration::ZERO);
    assert_eq!(of(&manager, "a").status().unwrap().attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn permanent_errors_are_not_retried() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    for (name, kind, state) in [
        ("command", ErrorKind::CommandNotFound, StateKind::Dormant),
        ("config", ErrorKind::InvalidSpec, StateKind::Dormant),
        ("version", ErrorKind::VersionMismatch, StateKind::Dormant),
        ("login", ErrorKind::AuthRequired, StateKind::AuthRequired),
        ("forbidden", ErrorKind::Forbidden, StateKind::AuthRequired),
    ] {
        let error = Error::new(kind, "no");
        world.server(name).always(Op::Connect, Act::Fail(error));
        manager.add(spec(name)).unwrap();
        let error = of(&manager, name).connect().await.unwrap_err();
        assert_eq!(error.kind(), kind);
        tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
        assert_eq!(of(&manager, name).status().unwrap().state, state, "{name}");
        assert!(world.server(name).count(Op::Connect) <= 2, "{name}");
    }
    let error = call_tool(&manager, "login", "echo", None, &CallOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    // After a login it connects at once.
    world.server("login").always(Op::Connect, Act::Answer);
    of(&manager, "login").connect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_has_worked_before_is_tried_again_after_not_found() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    // A proxy in front of a server that restarts; a package that is being upgraded.
    let proxy = Error::new(ErrorKind::HttpStatus, "404 Not Found").with_http_status(404);
    fake.next(Op::Connect, Act::Fail(proxy));
    fake.next(
        Op::Connect,
        Act::Fail(Error::new(ErrorKind::CommandNotFound, "no such command")),
    );
    die(&fake);
    call_tool(&manager, "a", "echo", None, &CallOptions::new())
        .await
        .unwrap();
    assert_eq!(fake.count(Op::Connect), 4);
}

#[tokio::test]
async fn the_announced_pause_is_that_of_the_policy() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let mut events = manager.events();
    world.server("a").next(Op::Connect, Act::Fail(refused()));
    let mut policy = exact(ReconnectPolicy::default());
    policy.base = Duration::from_secs(1);
    manager.add(with_reconnect("a", policy)).unwrap();
    // On the clock that runs: what passes between the plan and the telling must not count.
    let delay = loop {
        let event = events.next_event().await.unwrap();
        if let EventKind::RetryScheduled { delay, .. } = event.kind {
            break delay;
        }
    };
    assert_eq!(delay, Duration::from_secs(1));
    manager.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_ready_is_said_so_in_words() {
    let world = World::new();
    world.server("a").always(Op::Connect, Act::Fail(refused()));
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fast = CallOptions::new().fail_fast();
    let error = call_tool(&manager, "a", "echo", None, &fast)
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "the server is not ready: it waits for the next attempt to connect"
    );
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let busy = Error::new(ErrorKind::RateLimited, "come back later")
        .with_retry_after(Duration::from_secs(90));
    world.server("a").next(Op::Connect, Act::Fail(busy));
    manager.add(spec("a")).unwrap();
    until(&manager, "a", StateKind::Ready).await;
    assert_eq!(pauses(&world, "a"), [90_000]);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_runs_out_is_noticed_by_a_call() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let expired = Error::new(ErrorKind::AuthRequired, "the token has expired");
    world.server("a").next(Op::Call, Act::Fail(expired));
    let error = call_tool(&manager, "a", "echo", None, &CallOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    until(&manager, "a", StateKind::AuthRequired).await;
    assert_eq!(world.server("a").count(Op::Call), 1);
}

#[tokio::test(start_paused = true)]
async fn a_login_connects_a_server_that_waits_for_one_at_once() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let fake = world.server("a");
    let refused = || Act::Fail(Error::new(ErrorKind::AuthRequired, "a login is needed"));
    fake.next(Op::Connect, refused());
    fake.next(Op::Connect, refused());
    manager.add(spec("a")).unwrap();
    until(&manager, "a", StateKind::AuthRequired).await;
    let waiting = async || {
        while fake.waiting_for_login() == 0 {
            tokio::task::yield_now().await;
        }
    };
    waiting().await;
    let before = Instant::now();
    fake.log_in();
    // The first login is not good either: it waits for the next, and tries nothing meanwhile.
    while fake.count(Op::Connect) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    until(&manager, "a", StateKind::AuthRequired).await;
    waiting().await;
    fake.log_in();
    until(&manager, "a", StateKind::Ready).await;
    // Credentials that do not help must not make a loop.
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    assert_eq!(fake.count(Op::Connect), 3);
    // Nobody waits where nothing is needed.
    assert_eq!(fake.waiting_for_login(), 0);
}

/// The server `a`, which wants a login and takes none.
fn logged_out() -> (World, ConnectionManager, FakeServer) {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let fake = world.server("a");
    fake.always(
        Op::Connect,
        Act::Fail(Error::new(ErrorKind::AuthRequired, "a login is needed")),
    );
    manager.add(spec("a")).unwrap();
    (world, manager, fake)
}

#[tokio::test(start_paused = true)]
async fn credentials_that_change_all_the_time_and_never_help_make_no_loop() {
    let (_world, _manager, fake) = logged_out();
    let day = Instant::now() + Duration::from_secs(24 * 3600);
    while Instant::now() < day {
        fake.log_in();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Every five minutes at last, after a ladder of nine.
    let connects = fake.count(Op::Connect);
    assert!((280..=310).contains(&connects), "{connects}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_waits_for_a_login_can_be_removed() {
    let (_world, manager, fake) = logged_out();
    until(&manager, "a", StateKind::AuthRequired).await;
    manager.remove("a").await.unwrap();
    assert_eq!(fake.waiting_for_login(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_is_heard_over_all_its_connections() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    let mut notices = of(&manager, "a").notices();
    let log = |text: &str| ServerNotice::Log {
        level: "info".into(),
        logger: None,
        data: mcpool_core::Raw::of(text).unwrap(),
    };
    let mut hear = async |text: &str| loop {
        if let ServerNotice::Log { data, .. } = notices.next().await.unwrap() {
            assert_eq!(data.parse::<String>().unwrap(), text);
            return;
        }
    };
    fake.notify(&log("before"));
    hear("before").await;
    die(&fake);
    until(&manager, "a", StateKind::Backoff).await;
    until(&manager, "a", StateKind::Ready).await;
    fake.notify(&log("after"));
    hear("after").await;
    manager.remove("a").await.unwrap();
    drop(fake);
    while notices.next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_restores_what_the_application_had_set_up() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    for uri in ["file:///a", "file:///b", "file:///c"] {
        of(&manager, "a").subscribe(uri).await.unwrap();
    }
    of(&manager, "a").unsubscribe("file:///b").await.unwrap();
    of(&manager, "a")
        .set_log_level(LoggingLevel::Warning)
        .await
        .unwrap();
    fake.forget_subscriptions();
    let mut events = manager.events();
    fake.set_tool_names(&["echo", "brand_new"]);
    die(&fake);
    until(&manager, "a", StateKind::Backoff).await;
    until(&manager, "a", StateKind::Ready).await;
    assert_eq!(fake.subscriptions(), ["file:///a", "file:///c"]);
    assert_eq!(fake.log_levels(), ["warning"; 2]);
    loop {
        if let EventKind::ToolsChanged {
            added,
            removed,
            changed,
            generation,
        } = events.next_event().await.unwrap().kind
        {
            assert_eq!(
                (&*added, &*removed),
                (&["brand_new".to_owned()][..], &["add".to_owned()][..])
            );
            assert!(changed.is_empty());
            let tools = manager.tools(Refresh::Cached).await;
            assert_eq!(tools.generation, generation);
            break;
        }
    }
}

struct Sleeper(AtomicU64);

impl SuspendClock for Sleeper {
    fn drift(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_everything_is_probed_once_within_the_budget() {
    let world = World::new();
    let clock = Arc::new(Sleeper(AtomicU64::new(1000)));
    let manager = ConnectionManager::builder(world.factory())
        .with_budget(ConnectBudget::new(3, 3))
        .with_suspend_clock(Arc::clone(&clock) as Arc<dyn SuspendClock>)
        .build();
    let names: Vec<String> = (0..20).map(|n| format!("s{n:02}")).collect();
    manager
        .start(names.iter().map(|name| spec(name)).collect())
        .await
        .unwrap();
    let mut events = manager.events();
    for (n, name) in names.iter().enumerate() {
        // Half of the connections did not survive.
        let act = if n % 2 == 0 {
            Act::Never
        } else {
            Act::AnswerAfter(Duration::from_millis(200))
        };
        world.server(name).next(Op::Probe, act);
    }
    clock.0.store(1000 + 3600, Ordering::SeqCst);
    let slept = Instant::now();
    eventually("the dead half is connected again", || {
        names
            .iter()
            .step_by(2)
            .all(|n| world.server(n).count(Op::Connect) == 2)
    })
    .await;
    // 20 probes, three at a time, ten of them five seconds long, then the connects.
    assert!(
        slept.elapsed() < Duration::from_secs(45),
        "{:?}",
        slept.elapsed()
    );
    assert!(world.probing().most() <= 3, "{}", world.probing().most());
    for name in &names {
        assert_eq!(world.server(name).count(Op::Probe), 1, "{name}");
    }
    let resumed = events.next_event().await.unwrap();
    assert!(
        matches!(resumed.kind, EventKind::Resumed { asleep } if asleep == Duration::from_secs(3600))
    );
}

#[tokio::test(start_paused = true)]
async fn a_panicking_factory_is_an_error_not_an_end() {
    struct Panics(World, AtomicU64);
    #[async_trait::async_trait]
    impl mcpool_core::ClientFactory for Panics {
        async fn connect(
            &self,
            spec: &ServerSpec,
            options: &mcpool_core::ConnectOptions,
        ) -> mcpool_core::Result<Arc<dyn mcpool_core::Client>> {
            assert!(
                self.1.fetch_add(1, Ordering::SeqCst) > 0,
                "the first connect panics"
            );
            mcpool_core::ClientFactory::connect(&self.0, spec, options).await
        }

        async fn credentials_changed(&self, _: &ServerSpec) {
            std::future::pending().await
        }
    }
    let world = World::new();
    let manager = ConnectionManager::new(Arc::new(Panics(world.clone(), AtomicU64::new(0))));
    manager
        .add(spec("a").with_start(StartMode::Lazy(None)))
        .unwrap();
    let error = of(&manager, "a").connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    until(&manager, "a", StateKind::Ready).await;
    assert!(matches!(
        &*of(&manager, "a").watch().unwrap().borrow(),
        ServerState::Ready
    ));
}
