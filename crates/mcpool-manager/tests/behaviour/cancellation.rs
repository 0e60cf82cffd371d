//! The cancellation matrix: every await point goes well, fails, is slow, never ends, and is
//! dropped; afterwards no task, no slot, no client is left, and the server is as usable as before.

use std::time::Duration;

use mcpool_core::{Error, ErrorKind, Jitter, ServerPolicy, ServerSpec};
use mcpool_manager::{CallOptions, ConnectionManager, Refresh};

use crate::scripted::*;

const LIMIT: usize = 2;

fn quick(name: &str) -> ServerSpec {
    let mut policy = ServerPolicy::default();
    policy.limits.max_in_flight = LIMIT;
    policy.reconnect.base = Duration::from_millis(10);
    policy.reconnect.jitter = Jitter::None;
    policy.reconnect.max_attempts = None;
    policy.timeouts.startup = Duration::from_secs(1);
    policy.timeouts.request = Duration::from_secs(1);
    policy.shutdown.total = Duration::from_secs(1);
    spec(name).with_policy(policy)
}

/// The verb that meets this await point.
async fn verb(manager: &ConnectionManager, op: Op) {
    let options = CallOptions::new().with_timeout(Duration::from_secs(2));
    let subscribed = CallOptions::new().with_timeout(Duration::from_secs(2));
    // What comes of it is the matrix's business only in what it leaves behind.
    match op {
        Op::Connect => {
            let _ = of(manager, "a").disconnect().await;
            let _ = of(manager, "a").connect().await;
        }
        Op::ListTools => {
            let _ = manager.tools(Refresh::Force).await;
        }
        Op::Call => {
            let calls = (0..3 * LIMIT).map(|_| call_tool(manager, "a", "echo", None, &options));
            futures::future::join_all(calls).await;
        }
        Op::Probe => {
            let _ = of(manager, "a").health_check().await;
        }
        Op::Close => {
            let _ = of(manager, "a").disconnect().await;
        }
        Op::Subscribe => {
            let _ = of(manager, "a")
                .with_call_options(subscribed)
                .subscribe("file:///a")
                .await;
        }
        Op::List => {
            let _ = manager.prompts(Refresh::Force).await;
        }
        other => panic!("no verb for {other:?}"),
    }
}

async fn one(op: Op, act: Act, drop_after: Option<Duration>) {
    let what = format!("{op:?} {act:?} dropped after {drop_after:?}");
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![quick("a")]).await.unwrap();
    let fake = world.server("a");
    fake.always(op, act);
    let patience = drop_after.unwrap_or(Duration::from_secs(60));
    let _ = tokio::time::timeout(patience, verb(&manager, op)).await;
    assert!(
        drop_after.is_some() || op == Op::Subscribe || world.calling().now() == 0,
        "{what}: a call is left"
    );
    // The server is well again; what hung on its old connections ends with them.
    fake.always(op, Act::Answer);
    die(&fake);
    // A connect that still hangs is joined; the one after it goes well.
    of(&manager, "a")
        .connect_retrying(3)
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    eventually("no call is left", || world.calling().now() == 0).await;
    let options = CallOptions::new().with_timeout(Duration::from_secs(5));
    let calls = (0..4 * LIMIT).map(|_| call_tool(&manager, "a", "echo", None, &options));
    for result in futures::future::join_all(calls).await {
        result.unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    of(&manager, "a")
        .health_check()
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(manager.tools(Refresh::Force).await.len(), 2, "{what}");
    let prompts = manager.prompts(Refresh::Force).await;
    assert!(
        prompts.problems.is_empty(),
        "{what}: {:?}",
        prompts.problems
    );
    assert_eq!(of(&manager, "a").status().unwrap().in_flight, 0, "{what}");
    assert!(world.calling().most() <= LIMIT, "{what}");
    assert_eq!(world.clients().now(), 1, "{what}: a client is left");
    assert_eq!(world.connecting().now(), 0, "{what}: a connect is left");

    let report = manager.shutdown(Duration::from_secs(5)).await;
    assert!(report.forced.is_empty(), "{what}");
    assert_eq!(
        world.clients().now(),
        0,
        "{what}: a client is left at the end"
    );
    assert_eq!(
        world.probing().now(),
        0,
        "{what}: a probe is left at the end"
    );
    assert_eq!(tasks(), before, "{what}: a task is left at the end");
}

#[tokio::test(start_paused = true)]
async fn no_await_point_leaks() {
    let broken = Error::new(ErrorKind::ConnectionLost, "it broke");
    let mut combinations = 0;
    for op in [
        Op::Connect,
        Op::ListTools,
        Op::Call,
        Op::Probe,
        Op::Close,
        Op::Subscribe,
        Op::List,
    ] {
        for act in [
            Act::Answer,
            Act::Fail(broken.clone()),
            Act::AnswerAfter(Duration::from_millis(100)),
            Act::Never,
        ] {
            for drop_after in [None, Some(Duration::ZERO), Some(Duration::from_millis(50))] {
                one(op, act.clone(), drop_after).await;
                combinations += 1;
            }
        }
    }
    assert_eq!(combinations, 7 * 4 * 3);
}

/// The same with the whole manager dropped in the middle.
#[tokio::test(start_paused = true)]
async fn the_manager_may_be_dropped_at_any_moment() {
    let broken = Error::new(ErrorKind::ConnectionLost, "it broke");
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    for op in [
        Op::Connect,
        Op::ListTools,
        Op::Call,
        Op::Probe,
        Op::Close,
        Op::List,
    ] {
        for act in [
            Act::Fail(broken.clone()),
            Act::AnswerAfter(Duration::from_millis(100)),
            Act::Never,
        ] {
            let world = World::new();
            let manager = ConnectionManager::new(world.factory());
            let fake = world.server("a");
            if matches!(op, Op::Connect | Op::ListTools) {
                fake.always(op, act.clone());
                manager.add(quick("a")).unwrap();
            } else {
                manager.start(vec![quick("a")]).await.unwrap();
                fake.always(op, act.clone());
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), verb(&manager, op)).await;
            drop(manager);
            eventually("all is gone", || {
                tasks() == 0 && world.clients().now() == 0 && world.connecting().now() == 0
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_its_place_to_the_next() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![quick("a")]).await.unwrap();
    let fake = world.server("a");
    for _ in 0..LIMIT {
        fake.next(Op::Call, Act::Never);
    }
    let stuck: Vec<_> = (0..LIMIT)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move {
                call_tool(&manager, "a", "echo", None, &CallOptions::new()).await
            })
        })
        .collect();
    eventually("all places are taken", || world.calling().now() == LIMIT).await;
    let queued = {
        let manager = manager.clone();
        tokio::spawn(
            async move { call_tool(&manager, "a", "echo", None, &CallOptions::new()).await },
        )
    };
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!queued.is_finished());
    for call in stuck {
        call.abort();
    }
    queued.await.unwrap().unwrap();
    assert_eq!(world.calling().now(), 0);
}
