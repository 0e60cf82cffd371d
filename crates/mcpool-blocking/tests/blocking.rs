//! The blocking manager: outside and inside a runtime, bounded, cancelled, dropped anywhere.
#![allow(clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcpool_blocking::{BlockingManager, CancelToken};
use mcpool_core::{
    ErrorKind, Reply, Result, ServerSpec, StateKind, StdioSpec, Verbs, model::CallToolResult,
};
use mcpool_manager::{EventItem, Refresh};
use mcpool_testkit::{Act, FakeFactory, Op};

fn spec(name: &str) -> ServerSpec {
    ServerSpec::stdio(name, StdioSpec::new("fake")).unwrap()
}

fn pool(factory: &FakeFactory) -> BlockingManager {
    BlockingManager::new(Arc::new(factory.clone())).unwrap()
}

fn start(pool: &BlockingManager, names: &[&str]) {
    let specs: Vec<ServerSpec> = names.iter().map(|name| spec(name)).collect();
    pool.try_run(|m| async move { m.start(specs).await })
        .unwrap()
        .all_connected()
        .unwrap();
}

fn call(pool: &BlockingManager) -> Result<Reply<CallToolResult>> {
    pool.with_server("a", |a| async move { a.call_tool("echo", ()).await })
}

fn use_it(factory: &FakeFactory) {
    let pool = pool(factory);
    let mut events = pool.events();
    start(&pool, &["a", "b"]);
    call(&pool).unwrap();
    pool.try_run(|m| async move { m.call("b__echo", ()).await })
        .unwrap();
    let tools = pool.run(|m| async move { m.tools(Refresh::IfStale).await });
    assert_eq!(tools.unwrap().len(), 2);
    pool.with_server("a", |a| async move { a.disconnect().await })
        .unwrap();
    let state = pool.manager().server("a").unwrap().status().unwrap().state;
    assert_eq!(state, StateKind::Idle);
    pool.with_server("a", |a| async move { a.connect_retrying(2).await })
        .unwrap();
    let first = events.next_within(Duration::from_secs(10)).unwrap();
    assert!(matches!(first, Some(EventItem::Event(_))));
    let report = pool.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(report.closed.len(), 2);
    assert_eq!(factory.clients().now(), 0);
    // Once more is the same end.
    let again = pool.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(again.closed, report.closed);
    assert_eq!(call(&pool).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(events.find(|_| false).map(drop), None);
}

#[test]
fn outside_a_runtime() {
    use_it(&FakeFactory::new());
}

#[tokio::test]
async fn inside_a_runtime_of_one_thread() {
    use_it(&FakeFactory::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_runtime_of_many_threads() {
    let tasks: Vec<_> = (0..4)
        .map(|_| tokio::spawn(async { use_it(&FakeFactory::new()) }))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn a_timeout_ends_a_verb_and_its_call() {
    let factory = FakeFactory::new();
    let pool = pool(&factory);
    start(&pool, &["a"]);
    factory.server("a").always(Op::Call, Act::Never);
    let begun = Instant::now();
    let hurried = pool.with_timeout(Duration::from_millis(100));
    let error = call(&hurried).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("100ms"), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    // The call was dropped before the verb returned, or is about to be.
    pool.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(factory.calling().now(), 0);
}

#[test]
fn another_thread_cancels_a_verb() {
    let factory = FakeFactory::new();
    let pool = pool(&factory);
    start(&pool, &["a"]);
    factory.server("a").always(Op::Call, Act::Never);
    let cancel = CancelToken::new();
    let person = {
        let (cancel, factory) = (cancel.clone(), factory.clone());
        std::thread::spawn(move || {
            while factory.calling().now() == 0 {
                std::thread::yield_now();
            }
            cancel.cancel();
        })
    };
    let bound = pool.with_cancel(cancel.clone());
    assert_eq!(call(&bound).unwrap_err().kind(), ErrorKind::Cancelled);
    person.join().unwrap();
    assert!(cancel.is_cancelled());
    // A cancelled token stays so; other handles do not mind.
    assert_eq!(call(&bound).unwrap_err().kind(), ErrorKind::Cancelled);
    pool.with_server("a", |a| async move { a.health_check().await })
        .unwrap();
    pool.shutdown(Duration::from_secs(10)).unwrap();
}

#[test]
fn its_own_threads_are_refused_not_blocked() {
    let pool = pool(&FakeFactory::new());
    let inner = pool.clone();
    let kind = pool
        .run(|_| async move { inner.run(|_| async {}).unwrap_err().kind() })
        .unwrap();
    assert_eq!(kind, ErrorKind::InvalidArgument);
    pool.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn work_that_panics_is_no_shutdown() {
    let pool = pool(&FakeFactory::new());
    let error = pool.run(|_| async { panic!("boom") }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    pool.run(|_| async {}).unwrap();
    pool.shutdown(Duration::from_secs(5)).unwrap();
    assert_eq!(
        pool.run(|_| async {}).unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[test]
fn no_timeout_panics() {
    let factory = FakeFactory::new();
    let pool = pool(&factory).with_timeout(Duration::MAX);
    start(&pool, &["a"]);
    call(&pool).unwrap();
    let mut events = pool.events();
    pool.with_server("a", |a| async move { a.disconnect().await })
        .unwrap();
    assert!(events.next_within(Duration::MAX).unwrap().is_some());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || pool.shutdown(Duration::MAX).unwrap())
        })
        .collect();
    // Anybody who asks at the same time gets the same report.
    for thread in threads {
        assert_eq!(thread.join().unwrap().closed.len(), 1);
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes_everything_also_inside_a_runtime() {
    let factory = FakeFactory::new();
    let pool = pool(&factory);
    start(&pool, &["a", "b"]);
    assert_eq!(factory.clients().now(), 2);
    drop(pool.clone());
    call(&pool).unwrap();
    drop(pool);
    let gone = tokio::time::timeout(Duration::from_secs(30), async {
        while factory.clients().now() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.unwrap();
    assert_eq!(factory.server("a").count(Op::Close), 1);
}

#[test]
fn a_thread_that_waits_for_events_does_not_keep_the_manager() {
    let factory = FakeFactory::new();
    let pool = pool(&factory);
    let events = pool.events();
    let reader = std::thread::spawn(move || events.count());
    start(&pool, &["a"]);
    drop(pool);
    assert!(reader.join().unwrap() > 0);
    assert_eq!(factory.clients().now(), 0);
}
