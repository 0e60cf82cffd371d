//! Starting, connecting, switching: the verbs of the life cycle.

use std::{
    sync::{Arc, Barrier},
    time::Duration,
};

use mcpool_core::{ErrorKind, ServerState, StartMode, StateKind};
use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
use tokio::time::Instant;

use crate::scripted::*;

fn options() -> CallOptions {
    CallOptions::new()
}

#[tokio::test(start_paused = true)]
async fn start_connects_calls_and_shuts_down() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let report = manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    assert_eq!(report.diff.added.len(), 2);
    assert!(report.connected.iter().all(|(_, result)| result.is_ok()));

    let result = call_tool(&manager, "a", "echo", None, &options())
        .await
        .unwrap();
    assert_eq!(result.content[0].as_text().unwrap().text, "a:echo");
    let tools = manager.tools(Refresh::IfStale).await;
    let names: Vec<_> = tools.entries.iter().map(|e| &*e.qualified_name).collect();
    assert_eq!(names, ["a__echo", "a__add", "b__echo", "b__add"]);
    manager.call_with("b__add", (), &options()).await.unwrap();

    let status = of(&manager, "a").status().unwrap();
    assert_eq!((status.state, status.tools), (StateKind::Ready, 2));

    let report = manager.shutdown(Duration::from_secs(10)).await;
    assert_eq!(report.closed.len(), 2);
    assert!(report.forced.is_empty());
    assert_eq!(world.clients().now(), 0);
    let error = call_tool(&manager, "a", "echo", None, &options())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = manager.start(vec![spec("a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let again = manager.shutdown(Duration::from_secs(10)).await;
    assert!(again.closed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_client_of_the_first_call_is_the_client_of_the_last() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let first = of(&manager, "a").client().unwrap();
    for _ in 0..10_000 {
        call_tool(&manager, "a", "echo", None, &options())
            .await
            .unwrap();
    }
    assert!(Arc::ptr_eq(&first, &of(&manager, "a").client().unwrap()));
    assert_eq!(world.server("a").count(Op::Connect), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_a_slow_and_a_hanging_server_delay_nobody() {
    let world = World::new();
    world
        .server("dead")
        .always(Op::Connect, Act::Fail(refused()));
    world.server("hanging").always(Op::Connect, Act::Never);
    world
        .server("slow")
        .always(Op::Connect, Act::AnswerAfter(Duration::from_secs(20)));
    let manager = ConnectionManager::new(world.factory());
    for name in ["dead", "hanging", "slow", "good"] {
        manager.add(spec(name)).unwrap();
    }
    let started = Instant::now();
    call_tool(&manager, "good", "echo", None, &options())
        .await
        .unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);

    let results = manager.connect_all().await;
    let of = |name: &str| {
        let found = results.iter().find(|(n, _)| n.as_str() == name).unwrap();
        found.1.as_ref().map_err(|error| error.kind())
    };
    assert_eq!(of("good"), Ok(&()));
    assert_eq!(of("slow"), Ok(&()));
    assert_eq!(of("dead"), Err(ErrorKind::Connect));
    assert_eq!(of("hanging"), Err(ErrorKind::Timeout));
    // The start-up timeout of the hanging one, and no more.
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "{:?}",
        started.elapsed()
    );

    // The view has what there is, and says what is missing.
    let tools = manager.tools(Refresh::IfStale).await;
    assert_eq!(tools.of("good").count(), 2);
    let problems: Vec<_> = tools.problems.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(problems, ["dead", "hanging"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_first_calls_make_one_connect() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager
        .add(spec("a").with_start(StartMode::Lazy(None)))
        .unwrap();
    let fake = world.server("a");
    fake.always(Op::Connect, Act::AnswerAfter(Duration::from_secs(1)));
    assert_eq!(fake.count(Op::Connect), 0);
    let call = |_| {
        let manager = manager.clone();
        tokio::spawn(async move { call_tool(&manager, "a", "echo", None, &options()).await })
    };
    // Anybody who triggers the connect is cancelled before it is done.
    let first = call(0);
    eventually("the connect is under way", || fake.count(Op::Connect) == 1).await;
    let calls: Vec<_> = (1..1000).map(call).collect();
    first.abort();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(fake.count(Op::Connect), 1);

    // The same when it drops under load.
    fake.always(Op::Call, Act::AnswerAfter(Duration::from_millis(10)));
    let calls: Vec<_> = (0..1000).map(call).collect();
    tokio::time::sleep(Duration::from_millis(5)).await;
    die(&fake);
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::OutcomeUnknown),
        }
    }
    assert_eq!(fake.count(Op::Connect), 2);
    assert!(matches!(
        &*of(&manager, "a").watch().unwrap().borrow(),
        ServerState::Ready
    ));
}

#[tokio::test(start_paused = true)]
async fn a_background_server_is_not_waited_for_and_an_eager_one_is() {
    let world = World::new();
    for name in ["eager", "background"] {
        world
            .server(name)
            .always(Op::Connect, Act::AnswerAfter(Duration::from_secs(3)));
    }
    let manager = ConnectionManager::new(world.factory());
    let background = spec("background").with_start(StartMode::Background);
    let started = Instant::now();
    let report = manager.start(vec![background]).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(report.connected.is_empty());
    manager
        .start(vec![
            spec("eager"),
            spec("background").with_start(StartMode::Background),
        ])
        .await
        .unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    assert_eq!(
        of(&manager, "background").status().unwrap().state,
        StateKind::Ready
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_lazy_server_is_closed_and_comes_back_on_use() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let idle = Duration::from_secs(60);
    manager
        .add(spec("a").with_start(StartMode::Lazy(Some(idle))))
        .unwrap();
    let fake = world.server("a");
    let mut state = of(&manager, "a").watch().unwrap();
    for round in 1..=3 {
        call_tool(&manager, "a", "echo", None, &options())
            .await
            .unwrap();
        assert_eq!(fake.count(Op::Connect), round);
        let used = Instant::now();
        state
            .wait_for(|state| matches!(state, ServerState::Idle))
            .await
            .unwrap();
        // Heartbeats are no use: they did not keep it open.
        let late = used.elapsed();
        assert!(
            (idle..idle + Duration::from_secs(1)).contains(&late),
            "{late:?}"
        );
        // Its tools stay known while it sleeps.
        let tools = manager.tools(Refresh::IfStale).await;
        assert_eq!(tools.len(), 2);
        assert_eq!(fake.count(Op::Connect), round);
        eventually("the old connection is closed", || {
            world.clients().now() == 0
        })
        .await;
    }
    assert!(fake.count(Op::Probe) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_running_keeps_a_lazy_server_open() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let idle = Duration::from_secs(5);
    manager
        .add(spec("a").with_start(StartMode::Lazy(Some(idle))))
        .unwrap();
    let fake = world.server("a");
    fake.next(Op::Call, Act::AnswerAfter(Duration::from_secs(300)));
    call_tool(&manager, "a", "echo", None, &options())
        .await
        .unwrap();
    assert_eq!(fake.count(Op::Connect), 1);
}

#[tokio::test(start_paused = true)]
async fn disconnect_stays_so_until_connect() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    world.server("a").always(Op::Call, Act::Never);
    let in_flight = {
        let manager = manager.clone();
        tokio::spawn(async move { call_tool(&manager, "a", "echo", None, &options()).await })
    };
    eventually("the call runs", || world.server("a").count(Op::Call) == 1).await;
    of(&manager, "a").disconnect().await.unwrap();
    assert_eq!(world.clients().now(), 1);
    let error = in_flight.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(error.delivery(), mcpool_core::Delivery::Unknown);
    let error = call_tool(&manager, "a", "echo", None, &options())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(
        of(&manager, "a").client().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    // Its tools left the view with it.
    let tools = manager.tools(Refresh::IfStale).await;
    assert_eq!(tools.len(), 2);
    assert_eq!(tools.of("a").count(), 0);
    world.server("a").always(Op::Call, Act::Answer);
    of(&manager, "a").connect().await.unwrap();
    call_tool(&manager, "a", "echo", None, &options())
        .await
        .unwrap();
    assert_eq!(manager.tools(Refresh::IfStale).await.len(), 4);
    manager.disconnect_all().await;
    assert_eq!(world.clients().now(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_cancels_a_pending_reconnect() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let fake = world.server("a");
    fake.always(Op::Connect, Act::Fail(refused()));
    manager.start(vec![spec("a")]).await.unwrap();
    assert!(of(&manager, "a").is_reconnecting().unwrap());
    of(&manager, "a").disconnect().await.unwrap();
    assert!(!of(&manager, "a").is_reconnecting().unwrap());
    let before = fake.count(Op::Connect);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(fake.count(Op::Connect), before);
    // One that hangs is dropped.
    fake.always(Op::Connect, Act::Never);
    let connecting = {
        let manager = manager.clone();
        tokio::spawn(async move { of(&manager, "a").connect().await })
    };
    eventually("it connects", || world.connecting().now() == 1).await;
    of(&manager, "a").disconnect().await.unwrap();
    assert_eq!(world.connecting().now(), 0);
    let error = connecting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_server_refuses_with_its_own_kind() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager
        .start(vec![spec("a"), spec("off").with_enabled(false)])
        .await
        .unwrap();
    let refusal = async |name: &str| {
        let call = call_tool(&manager, name, "echo", None, &options()).await;
        call.unwrap_err().kind()
    };
    assert_eq!(refusal("off").await, ErrorKind::Disabled);
    assert_eq!(
        of(&manager, "off").connect().await.unwrap_err().kind(),
        ErrorKind::Disabled
    );
    assert!(!of(&manager, "off").status().unwrap().enabled);
    assert_eq!(world.server("off").count(Op::Connect), 0);
    of(&manager, "off").enable().await.unwrap();
    call_tool(&manager, "off", "echo", None, &options())
        .await
        .unwrap();
    of(&manager, "a").disable().await.unwrap();
    assert_eq!(refusal("a").await, ErrorKind::Disabled);
    // `connect_all` leaves it alone.
    let all = manager.connect_all().await;
    assert_eq!(all.len(), 1);
    assert_eq!(manager.tools(Refresh::IfStale).await.of("a").count(), 0);
}

#[tokio::test(start_paused = true)]
async fn connect_with_retries_as_often_as_asked() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let fake = world.server("a");
    fake.always(Op::Connect, Act::Fail(refused()));
    let mut policy = mcpool_core::ServerPolicy::default();
    policy.reconnect = mcpool_core::ReconnectPolicy::retrying(0);
    policy.reconnect.jitter = mcpool_core::Jitter::None;
    manager
        .add(
            spec("a")
                .with_policy(policy)
                .with_start(StartMode::Lazy(None)),
        )
        .unwrap();
    let started = Instant::now();
    let error = of(&manager, "a").connect_retrying(3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(fake.count(Op::Connect), 4);
    assert_eq!(started.elapsed(), Duration::from_secs(1 + 2 + 4));
    // A permanent error ends it at once.
    let missing = mcpool_core::Error::new(ErrorKind::CommandNotFound, "no such command");
    fake.always(Op::Connect, Act::Fail(missing));
    let error = of(&manager, "a").connect_retrying(3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    assert_eq!(fake.count(Op::Connect), 5);
}

#[tokio::test(start_paused = true)]
async fn a_callers_retries_count_from_its_call() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let fake = world.server("a");
    fake.always(Op::Connect, Act::Fail(refused()));
    let mut policy = mcpool_core::ServerPolicy::default();
    policy.reconnect = mcpool_core::ReconnectPolicy::retrying(2);
    policy.reconnect.jitter = mcpool_core::Jitter::None;
    manager.add(spec("a").with_policy(policy)).unwrap();
    // On the last rung.
    eventually("two have failed", || fake.count(Op::Connect) == 2).await;
    of(&manager, "a").connect_retrying(3).await.unwrap_err();
    assert_eq!(fake.count(Op::Connect), 2 + 4);
}

#[tokio::test(start_paused = true)]
async fn a_required_server_that_fails_fails_the_start_and_the_others_run() {
    let world = World::new();
    world
        .server("must")
        .always(Op::Connect, Act::Fail(refused()));
    let manager = ConnectionManager::new(world.factory());
    let must = spec("must").with_required(true);
    let error = manager.start(vec![must, spec("other")]).await.unwrap_err();
    assert_eq!(error.server().unwrap().as_str(), "must");
    call_tool(&manager, "other", "echo", None, &options())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_own_client_is_its_callers_alone() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let mine = of(&manager, "a")
        .own_client(&mcpool_core::ConnectOptions::new())
        .await
        .unwrap();
    assert_eq!(world.clients().now(), 2);
    // Another task closes it; the shared one does not mind.
    tokio::spawn(async move { mine.close().await })
        .await
        .unwrap();
    assert_eq!(world.clients().now(), 1);
    call_tool(&manager, "a", "echo", None, &options())
        .await
        .unwrap();
    assert_eq!(world.server("a").count(Op::Connect), 2);
}

#[test]
fn without_a_runtime_there_is_an_error_not_a_panic() {
    let manager = ConnectionManager::new(World::new().factory());
    let error = manager.add(spec("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(manager.spawn_task("t", async {}).is_err());
    assert!(manager.names().is_empty());
}

#[test]
fn one_global_manager_whoever_asks_first() {
    let makers = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(16));
    let make = |makers: Arc<std::sync::atomic::AtomicUsize>| {
        ConnectionManager::global(move || {
            makers.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            ConnectionManager::new(World::new().factory())
        })
    };
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let (makers, barrier) = (Arc::clone(&makers), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                make(makers)
            })
        })
        .collect();
    let managers: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(makers.load(std::sync::atomic::Ordering::SeqCst), 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        managers[0].start(vec![spec("a")]).await.unwrap();
        assert_eq!(managers[15].names().len(), 1);
        managers[3].shutdown(Duration::from_secs(5)).await;
    });
    // After its end the next one to ask gets a new one.
    assert!(!make(Arc::clone(&makers)).is_shut_down());
    assert_eq!(makers.load(std::sync::atomic::Ordering::SeqCst), 2);
    // A maker that asks for it itself.
    let again = ConnectionManager::global(|| unreachable!("it is there"));
    futures::executor::block_on(again.shutdown(Duration::from_secs(5)));
    let inner = ConnectionManager::global(|| {
        let inner = make(Arc::clone(&makers));
        assert!(!inner.is_shut_down());
        ConnectionManager::new(World::new().factory())
    });
    assert_eq!(makers.load(std::sync::atomic::Ordering::SeqCst), 3);
    assert!(!inner.is_shut_down());
}
