//! Several instances of one server, and the limit of calls in flight.

use std::time::Duration;

use mcpool_core::{ErrorKind, ServerPolicy, ServerSpec, StartMode, StateKind};
use mcpool_manager::{CallOptions, ConnectionManager};
use tokio::time::Instant;

use crate::scripted::*;

fn limited(name: &str, max_in_flight: usize) -> ServerSpec {
    let mut policy = ServerPolicy::default();
    policy.limits.max_in_flight = max_in_flight;
    spec(name).with_policy(policy)
}

#[tokio::test(start_paused = true)]
async fn calls_go_to_the_least_busy_instance() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager
        .start(vec![limited("a", 1).with_instances(3)])
        .await
        .unwrap();
    let fake = world.server("a");
    assert_eq!(fake.count(Op::Connect), 3);
    fake.always(Op::Call, Act::AnswerAfter(Duration::from_secs(1)));
    let begun = Instant::now();
    let calls: Vec<_> = (0..9)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move {
                call_tool(&manager, "a", "echo", None, &CallOptions::new()).await
            })
        })
        .collect();
    eventually("three run", || world.calling().now() == 3).await;
    let status = of(&manager, "a").status().unwrap();
    let busy: Vec<_> = status.instances.iter().map(|i| i.in_flight).collect();
    assert_eq!(busy, [1, 1, 1]);
    assert_eq!(status.tools, 2);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    // Three at a time, three times.
    assert_eq!(world.calling().most(), 3);
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_replaced_alone() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager
        .start(vec![spec("a").with_instances(3)])
        .await
        .unwrap();
    let fake = world.server("a");
    fake.kill_nth(1, lost());
    // The others serve meanwhile, and the server is ready all the time.
    call_tool(&manager, "a", "echo", None, &CallOptions::new().fail_fast())
        .await
        .unwrap();
    assert_eq!(of(&manager, "a").status().unwrap().state, StateKind::Ready);
    eventually("it is replaced", || fake.live() == 3).await;
    assert_eq!(fake.count(Op::Connect), 4);
    // Four clients were made, one died, nobody closed another.
    assert_eq!(fake.count(Op::Close), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_instance_is_woken_when_the_others_are_full() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let idle = Duration::from_secs(10);
    manager
        .add(
            limited("a", 1)
                .with_instances(2)
                .with_start(StartMode::Lazy(Some(idle))),
        )
        .unwrap();
    let fake = world.server("a");
    fake.always(Op::Call, Act::AnswerAfter(Duration::from_secs(60)));
    let call = || {
        let manager = manager.clone();
        tokio::spawn(
            async move { call_tool(&manager, "a", "echo", None, &CallOptions::new()).await },
        )
    };
    let first = call();
    // One works, the other falls asleep.
    eventually("one sleeps", || {
        fake.count(Op::Connect) == 2 && fake.live() == 1
    })
    .await;
    let second = call();
    eventually("it was woken", || fake.live() == 2).await;
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(world.calling().most(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_limit_queues_within_the_callers_deadline() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![limited("a", 2)]).await.unwrap();
    let fake = world.server("a");
    fake.always(Op::Call, Act::AnswerAfter(Duration::from_secs(2)));
    let call = |timeout| {
        let manager = manager.clone();
        tokio::spawn(async move {
            let options = CallOptions::new().with_timeout(Duration::from_secs(timeout));
            call_tool(&manager, "a", "echo", None, &options).await
        })
    };
    let calls = [call(60), call(60), call(60)];
    eventually("two run", || world.calling().now() == 2).await;
    let begun = Instant::now();
    let error = call(1).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.delivery(), mcpool_core::Delivery::NotSent);
    assert_eq!(begun.elapsed().as_secs(), 1);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(world.calling().most(), 2);
    assert_eq!(of(&manager, "a").status().unwrap().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn every_instance_is_subscribed_and_a_subscription_is_use() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let idle = Duration::from_secs(10);
    let lazy = spec("a")
        .with_instances(3)
        .with_start(StartMode::Lazy(Some(idle)));
    manager.start(vec![lazy]).await.unwrap();
    of(&manager, "a").connect().await.unwrap();
    let fake = world.server("a");
    eventually("all are there", || fake.live() == 3).await;
    of(&manager, "a").subscribe("file:///x").await.unwrap();
    // One of them is asked twice, which does no harm.
    assert_eq!(fake.subscriptions().len(), 4);
    fake.forget_subscriptions();
    fake.kill_nth(2, lost());
    eventually("it is replaced", || fake.live() == 3).await;
    assert_eq!(fake.subscriptions(), ["file:///x"]);
    tokio::time::sleep(idle * 10).await;
    assert_eq!(fake.live(), 3);
    of(&manager, "a").unsubscribe("file:///x").await.unwrap();
    eventually("they sleep", || fake.live() == 0).await;
}
