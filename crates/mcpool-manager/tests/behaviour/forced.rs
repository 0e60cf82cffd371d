//! What is forced, what hangs, what stands still: the bounds hold, and what is left behind is named.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use mcpool_core::{ConnectBudget, Error, ErrorKind, Jitter, ServerSpec, StateKind};
use mcpool_manager::{CallOptions, ConnectionManager};
use tokio::time::Instant;

use crate::scripted::*;

/// A door that a thread stands before until it is opened.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    fn wait(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// A server that one missed heartbeat ends.
fn watched(name: &str) -> ServerSpec {
    let mut spec = spec(name);
    spec.policy.health.misses = 1;
    spec.policy.reconnect.jitter = Jitter::None;
    spec
}

/// Misses a heartbeat: the server hangs, and is given up.
async fn hang(manager: &ConnectionManager, server: &FakeServer, name: &str) {
    let silent = Error::new(ErrorKind::Timeout, "silence");
    server.next(Op::Probe, Act::Fail(silent));
    of(manager, name).health_check().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_is_killed_before_the_shutdown_returns() {
    for deadline in [Duration::ZERO, Duration::from_millis(300)] {
        let world = World::new();
        world.server("deaf").always(Op::Close, Act::Never);
        let manager = ConnectionManager::new(world.factory());
        manager
            .start(vec![spec("deaf"), spec("good")])
            .await
            .unwrap()
            .all_connected()
            .unwrap();
        let report = manager.shutdown(deadline).await;
        assert!(report.forced.iter().any(|name| name.as_str() == "deaf"));
        assert_eq!(world.server("deaf").kills(), 1, "{deadline:?}");
        assert_eq!(world.clients().now(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_already_being_closed_is_killed_too() {
    let world = World::new();
    let server = world.server("deaf");
    server.always(Op::Close, Act::Never);
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![watched("deaf")]).await.unwrap();
    hang(&manager, &server, "deaf").await;
    manager.shutdown(Duration::from_millis(300)).await;
    assert_eq!(server.kills(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connect_under_way_is_closed_before_disconnect_returns() {
    let world = World::new();
    let server = world.server("slow");
    // Connected, and busy with its list: there is a client already.
    server.always(Op::ListTools, Act::Never);
    server.always(Op::Close, Act::AnswerAfter(Duration::from_millis(700)));
    let manager = ConnectionManager::new(world.factory());
    manager.add(spec("slow")).unwrap();
    eventually("it lists", || server.count(Op::ListTools) == 1).await;
    let began = Instant::now();
    of(&manager, "slow").disconnect().await.unwrap();
    assert_eq!(server.count(Op::Close), 1);
    assert_eq!(began.elapsed(), Duration::from_millis(700));
    assert_eq!(world.clients().now(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_task_that_blocks_its_thread_delays_no_shutdown_and_is_named() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let (door, inside) = (Door::default(), Door::default());
    let (waits, enters) = (door.clone(), inside.clone());
    manager
        .spawn_task("stuck", async move {
            enters.open();
            waits.wait();
        })
        .unwrap();
    tokio::task::spawn_blocking(move || inside.wait())
        .await
        .unwrap();
    let ending = manager.shutdown(Duration::from_millis(200));
    // Far less than for ever: the task ends only when the door opens, below.
    let report = tokio::time::timeout(Duration::from_secs(20), ending)
        .await
        .expect("the shutdown waits for what blocks");
    assert_eq!(report.unfinished_tasks, ["stuck"]);
    assert_eq!(report.closed.len(), 1);
    assert!(report.forced.is_empty());
    door.open();
    eventually("it ends after all", || manager.task_names().is_empty()).await;
}

#[test]
fn a_shutdown_needs_no_runtime() {
    let world = World::new();
    let never_started = ConnectionManager::new(world.factory());
    let report = futures::executor::block_on(never_started.shutdown(Duration::from_secs(5)));
    assert!(report.closed.is_empty() && never_started.is_shut_down());

    // A runtime that stands still: nothing there can close, and nothing is waited for past the
    // deadline.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let manager = ConnectionManager::new(world.factory());
    runtime.block_on(manager.start(vec![spec("a")])).unwrap();
    let report = futures::executor::block_on(manager.shutdown(Duration::from_millis(50)));
    assert_eq!(report.forced.len(), 1);
    assert_eq!(world.server("a").kills(), 1);
    drop(runtime);
    assert_eq!(world.clients().now(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connect_is_bounded_as_a_whole() {
    let world = World::new();
    let server = world.server("mute");
    server.always(Op::ListTools, Act::Never);
    let manager = ConnectionManager::new(world.factory());
    let mut mute = spec("mute");
    mute.policy.timeouts.startup = Duration::from_secs(2);
    let began = Instant::now();
    let report = manager.start(vec![mute]).await.unwrap();
    let error = report.all_connected().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("startup_timeout"), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(2));

    // Connected at the last moment: the list has two seconds more, and no longer.
    let late = world.server("late");
    late.always(Op::Connect, Act::AnswerAfter(Duration::from_millis(1_900)));
    late.always(Op::ListTools, Act::Never);
    let mut late = spec("late");
    late.policy.timeouts.startup = Duration::from_secs(2);
    let began = Instant::now();
    manager.add(late).unwrap();
    of(&manager, "late").connect().await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_millis(3_900));
}

#[tokio::test(start_paused = true)]
async fn connects_that_hang_give_their_places_to_others() {
    let world = World::new();
    let manager = ConnectionManager::builder(world.factory())
        .with_budget(ConnectBudget::new(8, 32))
        .build();
    for n in 0..16 {
        let name = format!("hangs{n:02}");
        world.server(&name).always(Op::Connect, Act::Never);
        manager.add(spec(&name)).unwrap();
    }
    eventually("they fill the budget", || world.connecting().now() == 8).await;
    let began = Instant::now();
    manager.add(spec("good")).unwrap();
    of(&manager, "good").connect().await.unwrap();
    // Two rounds of hanging ones, 5 s each, and not two start-ups of 30 s.
    assert!(
        began.elapsed() <= Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn no_duration_panics() {
    for extreme in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::ZERO] {
        let world = World::new();
        let manager = ConnectionManager::builder(world.factory())
            .with_drain(extreme)
            .build();
        let mut odd = spec("odd");
        let policy = &mut odd.policy;
        policy.reconnect.base = extreme;
        policy.reconnect.cap = extreme;
        policy.reconnect.factor = f64::INFINITY;
        policy.reconnect.reset_after = extreme;
        policy.reconnect.dormant_interval = Some(extreme);
        policy.health.interval = extreme;
        policy.health.timeout = extreme;
        policy.timeouts.request = extreme;
        policy.timeouts.request_max = extreme;
        policy.timeouts.discover = extreme;
        policy.shutdown.stdin_grace = extreme;
        policy.shutdown.term_grace = extreme;
        policy.shutdown.total = extreme;
        policy.catalog_ttl = Some(extreme);
        if !extreme.is_zero() {
            policy.timeouts.startup = extreme;
        }
        let odd = odd.with_start(mcpool_core::StartMode::Lazy(Some(extreme)));
        manager.start(vec![odd.clone()]).await.unwrap();
        let options = CallOptions::new().with_timeout(extreme);
        let called = call_tool(&manager, "odd", "echo", None, &options).await;
        let by_name = manager.call_with("odd__echo", (), &options).await;
        if !extreme.is_zero() {
            called.unwrap();
            by_name.unwrap();
            of(&manager, "odd").ready_client(extreme).await.unwrap();
        } else {
            assert!(called.is_err() && by_name.is_err());
            of(&manager, "odd").connect().await.unwrap();
        }
        of(&manager, "odd").health_check().await.ok();
        let server = world.server("odd");
        server.next(Op::Connect, Act::Fail(refused().with_retry_after(extreme)));
        die(&server);
        eventually("it is noticed", || {
            of(&manager, "odd").status().unwrap().state != StateKind::Ready
                || server.count(Op::Connect) > 1
        })
        .await;
        of(&manager, "odd").connect().await.ok();
        let status = of(&manager, "odd").status().unwrap();
        assert_ne!(
            status.state,
            StateKind::Closed,
            "the supervisor lives: {status:?}"
        );
        manager.shutdown(extreme).await;
        assert_eq!(world.clients().now(), 0, "{extreme:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_interval_of_nothing_is_no_flood() {
    let world = World::new();
    let mut odd = spec("odd");
    odd.policy.health.interval = Duration::ZERO;
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![odd]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let probes = world.server("odd").count(Op::Probe);
    assert!((80..=112).contains(&probes), "{probes} probes in 10 s");
}

#[tokio::test(start_paused = true)]
async fn the_next_process_starts_beside_the_last_one_where_the_policy_allows_two() {
    for overlap in [false, true] {
        let world = World::new();
        let server = world.server("hung");
        server.always(Op::Close, Act::AnswerAfter(Duration::from_secs(4)));
        let mut hung = watched("hung");
        hung.policy.shutdown.overlap = overlap;
        let manager = ConnectionManager::new(world.factory());
        manager.start(vec![hung]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let killed = Instant::now();
        hang(&manager, &server, "hung").await;
        call_tool(&manager, "hung", "echo", None, &CallOptions::new())
            .await
            .unwrap();
        let waited = killed.elapsed();
        match overlap {
            true => assert!(waited < Duration::from_secs(1), "{waited:?}"),
            false => assert!(waited >= Duration::from_secs(4), "{waited:?}"),
        }
        assert_eq!(server.clients().most(), if overlap { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn never_more_than_two_processes_side_by_side() {
    let world = World::new();
    let server = world.server("flaps");
    server.always(Op::Close, Act::AnswerAfter(Duration::from_secs(4)));
    let mut flaps = watched("flaps");
    flaps.policy.shutdown.overlap = true;
    flaps.policy.reconnect.base = Duration::from_millis(1);
    flaps.policy.reconnect.cap = Duration::from_millis(1);
    flaps.policy.reconnect.max_attempts = None;
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![flaps]).await.unwrap();
    for _ in 0..6 {
        eventually("it is back", || {
            of(&manager, "flaps").status().unwrap().state == StateKind::Ready
        })
        .await;
        hang(&manager, &server, "flaps").await;
    }
    assert_eq!(server.clients().most(), 2);
}
