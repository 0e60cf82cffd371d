//! The end of a manager, asked for or not: what is closed, what is forced, what is left.

use std::time::Duration;

use mcpool_core::{ErrorKind, ServerName, StartMode};
use mcpool_manager::{CallOptions, ConnectionManager};
use tokio::{sync::mpsc, time::Instant};

use crate::scripted::*;

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_shutdown_holds_against_a_client_that_never_closes() {
    let world = World::new();
    world.server("stubborn").always(Op::Close, Act::Never);
    let manager = ConnectionManager::new(world.factory());
    manager
        .start(vec![spec("stubborn"), spec("good")])
        .await
        .unwrap();
    let started = Instant::now();
    let report = manager.shutdown(Duration::from_secs(1)).await;
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    let names =
        |list: &[ServerName]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
    assert_eq!(names(&report.forced), ["stubborn"]);
    assert_eq!(names(&report.closed), ["good"]);
    assert_eq!(world.clients().now(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_end_with_the_shutdown() {
    let world = World::new();
    world.server("a").always(Op::Call, Act::Never);
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move {
                call_tool(&manager, "a", "echo", None, &CallOptions::new()).await
            })
        })
        .collect();
    eventually("they run", || world.calling().now() == 5).await;
    let report = manager.shutdown(Duration::from_secs(5)).await;
    assert_eq!(report.cancelled_calls, 5);
    for call in calls {
        assert_eq!(
            call.await.unwrap().unwrap_err().kind(),
            ErrorKind::Cancelled
        );
    }
    assert_eq!(world.calling().now(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_everything() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    manager
        .add(spec("c").with_start(StartMode::Lazy(None)))
        .unwrap();
    world
        .server("down")
        .always(Op::Connect, Act::Fail(refused()));
    manager.add(spec("down")).unwrap();
    let mut events = manager.events();
    let other = manager.clone();
    drop(manager);
    call_tool(&other, "a", "echo", None, &CallOptions::new())
        .await
        .unwrap();
    drop(other);
    while events.recv().await.is_some() {}
    eventually("all is gone", || {
        world.clients().now() == 0
            && tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
                == 0
    })
    .await;
    assert_eq!(world.server("a").count(Op::Close), 1);
}

#[test]
fn dropping_the_manager_after_its_runtime_releases_every_client() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let manager = ConnectionManager::new(world.factory());
    runtime
        .block_on(manager.start(vec![spec("a"), spec("b")]))
        .unwrap();
    assert_eq!(world.clients().now(), 2);
    drop(runtime);
    drop(manager);
    assert_eq!(world.clients().now(), 0);
}

#[tokio::test(start_paused = true)]
async fn named_tasks_end_with_the_manager() {
    struct OnDrop(mpsc::UnboundedSender<&'static str>, &'static str);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let manager = ConnectionManager::new(World::new().factory());
    let (sender, mut dropped) = mpsc::unbounded_channel();
    for name in ["one", "two", "three"] {
        let guard = OnDrop(sender.clone(), name);
        manager
            .spawn_task(name, async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            })
            .unwrap();
    }
    let twice = manager.spawn_task("one", async {}).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::InvalidArgument);
    assert!(manager.cancel_task("two").await);
    assert_eq!(dropped.try_recv().unwrap(), "two");
    assert!(!manager.cancel_task("two").await);
    assert_eq!(manager.task_names(), ["one", "three"]);
    manager.shutdown(Duration::from_secs(1)).await;
    assert!(dropped.try_recv().is_ok() && dropped.try_recv().is_ok());
    assert!(manager.task_names().is_empty());
    assert!(manager.spawn_task("late", async {}).is_err());
}

#[test]
fn a_start_from_another_runtime_brings_back_what_ended_with_the_first() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let options = CallOptions::new();
    for round in 1..=3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let report = manager.start(vec![spec("a"), spec("b")]).await.unwrap();
            assert_eq!(report.connected.len(), 2, "round {round}");
            call_tool(&manager, "a", "echo", None, &options)
                .await
                .unwrap();
            assert_eq!(
                manager.tools(mcpool_manager::Refresh::IfStale).await.len(),
                4
            );
            // Idempotent within one runtime.
            let again = manager.start(vec![spec("a"), spec("b")]).await.unwrap();
            assert!(again.diff.is_empty());
        });
        drop(runtime);
        assert_eq!(world.clients().now(), 0, "round {round}");
    }
}

#[test]
fn the_builders_runtime_serves_a_shutdown_from_a_thread_without_one() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let manager = ConnectionManager::builder(world.factory())
        .with_runtime(runtime.handle().clone())
        .build();
    runtime.block_on(manager.start(vec![spec("a")])).unwrap();
    let report = futures::executor::block_on(manager.shutdown(Duration::from_secs(10)));
    assert_eq!(report.closed.len(), 1);
}

/// A runtime that goes in the background while the next one starts the same servers.
#[test]
fn a_start_while_the_last_runtime_goes_connects_again() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let mut last = None;
    for round in 0..30 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        if let Some(last) = last.replace(runtime) {
            tokio::runtime::Runtime::shutdown_background(last);
        }
        let runtime = last.as_ref().unwrap();
        runtime.block_on(async {
            let report = manager.start(vec![spec("a"), spec("b")]).await.unwrap();
            report.all_connected().unwrap();
            for name in ["a", "b"] {
                let called = call_tool(&manager, name, "echo", None, &CallOptions::new()).await;
                called.unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
        });
    }
}
