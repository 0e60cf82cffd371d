//! The blocking verbs: outside and inside a runtime, bounded, cancelled, dropped anywhere.

use std::time::{Duration, Instant};

use mcpool_core::ErrorKind;
use mcpool_manager::{
    CallOptions, EventItem, Refresh,
    blocking::{BlockingManager, CancelToken},
};

use crate::scripted::{Act, Op, World, spec};

fn use_it(world: &World) {
    let manager = BlockingManager::new(world.factory()).unwrap();
    let mut events = manager.events();
    let report = manager.start(vec![spec("a"), spec("b")]).unwrap();
    assert!(report.connected.iter().all(|(_, r)| r.is_ok()));
    let options = CallOptions::new();
    manager.call_tool("a", "echo", None, &options).unwrap();
    manager.call("b__add", None, &options).unwrap();
    assert_eq!(manager.tools(Refresh::IfStale).unwrap().len(), 4);
    assert!(
        manager
            .health_check_all()
            .unwrap()
            .iter()
            .all(|(_, r)| r.is_ok())
    );
    manager.disconnect("a").unwrap();
    assert_eq!(manager.status("a").unwrap().state, "idle");
    manager.connect_with("a", 2).unwrap();
    manager.disable("b").unwrap();
    let error = manager.call("b__add", None, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTool);
    let first = events.next_within(Duration::from_secs(10)).unwrap();
    assert!(matches!(first, Some(EventItem::Event(_))));
    let report = manager.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(report.closed.len(), 2);
    assert_eq!(world.clients().now(), 0);
    let error = manager.connect("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(events.find(|_| false).map(drop), None);
}

#[test]
fn outside_a_runtime() {
    use_it(&World::new());
}

#[tokio::test]
async fn inside_a_runtime_of_one_thread() {
    use_it(&World::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_runtime_of_many_threads() {
    let tasks: Vec<_> = (0..4)
        .map(|_| tokio::spawn(async { use_it(&World::new()) }))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn a_time_out_ends_a_verb_and_its_call() {
    let world = World::new();
    let manager = BlockingManager::new(world.factory()).unwrap();
    manager.start(vec![spec("a")]).unwrap();
    world.server("a").always(Op::Call, Act::Never);
    let begun = Instant::now();
    let hurried = manager.with_timeout(Duration::from_millis(100));
    let error = hurried
        .call_tool("a", "echo", None, &CallOptions::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("100ms"), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    // The call was dropped before the verb returned, or is about to be.
    manager.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(world.calling().now(), 0);
}

#[test]
fn another_thread_cancels_a_verb() {
    let world = World::new();
    let manager = BlockingManager::new(world.factory()).unwrap();
    manager.start(vec![spec("a")]).unwrap();
    world.server("a").always(Op::Call, Act::Never);
    let cancel = CancelToken::new();
    let person = {
        let (cancel, world) = (cancel.clone(), world.clone());
        std::thread::spawn(move || {
            while world.calling().now() == 0 {
                std::thread::yield_now();
            }
            cancel.cancel();
        })
    };
    let bound = manager.with_cancel(cancel.clone());
    let call = || bound.call_tool("a", "echo", None, &CallOptions::new());
    assert_eq!(call().unwrap_err().kind(), ErrorKind::Cancelled);
    person.join().unwrap();
    assert!(cancel.is_cancelled());
    // A cancelled token stays so; other handles do not mind.
    assert_eq!(call().unwrap_err().kind(), ErrorKind::Cancelled);
    manager.health_check("a").unwrap();
    manager.shutdown(Duration::from_secs(10)).unwrap();
}

#[test]
fn its_own_threads_are_refused_not_blocked() {
    let manager = BlockingManager::new(World::new().factory()).unwrap();
    let inner = manager.clone();
    let kind = manager
        .run(|_| async move { inner.connect_all().unwrap_err().kind() })
        .unwrap();
    assert_eq!(kind, ErrorKind::InvalidArgument);
    manager.shutdown(Duration::from_secs(5)).unwrap();
}

#[tokio::test]
async fn dropping_the_last_handle_closes_everything_also_inside_a_runtime() {
    let world = World::new();
    let manager = BlockingManager::new(world.factory()).unwrap();
    manager.start(vec![spec("a"), spec("b")]).unwrap();
    assert_eq!(world.clients().now(), 2);
    drop(manager.clone());
    manager.call("a__echo", None, &CallOptions::new()).unwrap();
    drop(manager);
    let gone = tokio::time::timeout(Duration::from_secs(30), async {
        while world.clients().now() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.unwrap();
    assert_eq!(world.server("a").count(Op::Close), 1);
}

#[test]
fn a_thread_that_waits_for_events_does_not_keep_the_manager() {
    let world = World::new();
    let manager = BlockingManager::new(world.factory()).unwrap();
    let events = manager.events();
    let reader = std::thread::spawn(move || events.count());
    manager.start(vec![spec("a")]).unwrap();
    drop(manager);
    assert!(reader.join().unwrap() > 0);
    assert_eq!(world.clients().now(), 0);
}
