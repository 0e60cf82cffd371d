//! A new configuration as a difference: what stays keeps its connection, what goes drains.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcpool_core::{ErrorKind, StartMode, StateKind, StdioSpec, ToolFilter, TransportSpec};
use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
use tokio::{sync::watch, time::Instant};

use crate::scripted::*;

fn names(list: &[mcpool_core::ServerName]) -> Vec<&str> {
    list.iter().map(mcpool_core::ServerName::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn the_same_config_is_no_work_and_a_changed_one_is_a_difference() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let specs = vec![spec("keep"), spec("change"), spec("adjust"), spec("drop")];
    manager.start(specs.clone()).await.unwrap();
    assert!(manager.start(specs).await.unwrap().diff.is_empty());
    assert_eq!(world.clients().most(), 4);

    let (keep, adjust) = (
        of(&manager, "keep").client().unwrap(),
        of(&manager, "adjust").client().unwrap(),
    );
    let mut changed = spec("change");
    changed.transport = TransportSpec::Stdio(StdioSpec::new("another"));
    let adjusted = spec("adjust").with_tools(ToolFilter::allow(["echo"]));
    let wanted = vec![spec("new"), spec("keep"), changed, adjusted];

    let plan = manager.plan(&wanted).unwrap();
    assert_eq!(names(&plan.added), ["new"]);
    assert_eq!(names(&plan.removed), ["drop"]);
    assert_eq!(names(&plan.replaced), ["change"]);
    assert_eq!(names(&plan.adjusted), ["adjust"]);
    assert_eq!(names(&plan.unchanged), ["keep"]);
    // A plan changes nothing.
    assert_eq!(
        names(&manager.names()),
        ["adjust", "change", "drop", "keep"]
    );
    assert_eq!(world.server("change").count(Op::Connect), 1);

    assert_eq!(manager.apply(wanted).await.unwrap(), plan);
    assert_eq!(names(&manager.names()), ["adjust", "change", "keep", "new"]);
    assert!(Arc::ptr_eq(&keep, &of(&manager, "keep").client().unwrap()));
    assert!(Arc::ptr_eq(
        &adjust,
        &of(&manager, "adjust").client().unwrap()
    ));
    eventually("the new ones are there", || {
        manager
            .status_all()
            .iter()
            .all(|s| s.state == StateKind::Ready)
    })
    .await;
    assert_eq!(world.server("change").count(Op::Connect), 2);
    assert_eq!(world.server("drop").live(), 0);
    let tools = manager.tools(Refresh::IfStale).await;
    assert_eq!(tools.of("adjust").count(), 1);
    assert_eq!(tools.len(), 7);
    let error = call_tool(&manager, "drop", "echo", None, &CallOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownServer);
}

#[tokio::test(start_paused = true)]
async fn two_servers_of_one_name_are_refused_and_nothing_changes() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let error = manager.apply(vec![spec("b"), spec("b")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    assert_eq!(names(&manager.names()), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_on_a_removed_server_drain() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    for name in ["a", "b"] {
        world
            .server(name)
            .next(Op::Call, Act::AnswerAfter(Duration::from_secs(5)));
    }
    world.server("b").next(Op::Call, Act::Never);
    let call = |name: &'static str| {
        let manager = manager.clone();
        tokio::spawn(
            async move { call_tool(&manager, name, "echo", None, &CallOptions::new()).await },
        )
    };
    let (drains, also, hangs) = (call("a"), call("b"), call("b"));
    eventually("they run", || world.calling().now() == 3).await;
    let begun = Instant::now();
    manager.apply(Vec::new()).await.unwrap();
    // Until the drain time, because one of them never ends.
    assert_eq!(begun.elapsed().as_secs(), 10);
    drains.await.unwrap().unwrap();
    let mut ends = [also.await.unwrap(), hangs.await.unwrap()];
    ends.sort_by_key(Result::is_err);
    assert!(ends[0].is_ok());
    assert!(ends[1].is_err());
    assert_eq!(world.clients().now(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_goes_to_the_replacement() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let fake = world.server("a");
    fake.next(Op::Connect, Act::Never);
    manager.add(spec("a")).unwrap();
    let waiting = {
        let manager = manager.clone();
        tokio::spawn(
            async move { call_tool(&manager, "a", "echo", None, &CallOptions::new()).await },
        )
    };
    eventually("it connects", || fake.count(Op::Connect) == 1).await;
    let mut better = spec("a");
    better.transport = TransportSpec::Stdio(StdioSpec::new("better"));
    manager.add(better).unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(fake.count(Op::Connect), 2);
    assert_eq!(world.connecting().now(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_server_keeps_its_tools_in_the_view() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let generation = manager.tools(Refresh::Cached).await.generation;
    world
        .server("a")
        .next(Op::Connect, Act::AnswerAfter(Duration::from_secs(5)));
    let mut other = spec("a");
    other.transport = TransportSpec::Stdio(StdioSpec::new("other"));
    manager.apply(vec![other]).await.unwrap();
    assert_eq!(manager.tools(Refresh::Cached).await.len(), 2);
    of(&manager, "a").connect().await.unwrap();
    // It came back with the same tools: nobody was bothered.
    assert_eq!(manager.tools(Refresh::Cached).await.generation, generation);
}

#[tokio::test(start_paused = true)]
async fn the_config_may_switch_a_server_off_and_on() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    manager
        .apply(vec![spec("a").with_enabled(false)])
        .await
        .unwrap();
    eventually("it is off", || {
        of(&manager, "a").status().unwrap().state == StateKind::Disabled
    })
    .await;
    eventually("it is closed", || world.clients().now() == 0).await;
    manager.apply(vec![spec("a")]).await.unwrap();
    eventually("it is on", || {
        of(&manager, "a").status().unwrap().state == StateKind::Ready
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_with_the_servers_that_run_does_nothing_however_many_they_are() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let specs: Vec<_> = (0..10_000)
        .map(|n| spec(&format!("s{n:05}")).with_start(StartMode::Lazy(None)))
        .collect();
    manager.start(specs.clone()).await.unwrap();
    let mut events = manager.events();
    let began = std::time::Instant::now();
    let report = manager.start(specs).await.unwrap();
    println!("a start that changes nothing: {:?}", began.elapsed());
    assert!(report.diff.is_empty() && report.connected.is_empty());
    assert_eq!(report.diff.unchanged.len(), 10_000);
    manager.shutdown(Duration::from_secs(5)).await;
    // Each has ended, and nothing else has happened to any.
    let mut ended = 0;
    while let Some(event) = events.next_event().await {
        ended += 1;
        assert!(matches!(
            event.kind,
            mcpool_core::EventKind::StateChanged { .. }
        ));
    }
    assert!(ended > 0 && world.clients().most() == 0);
}

/// Two hundred changes that each replace the server, under callers who call all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_under_load_costs_no_call() {
    const CALLERS: usize = 32;
    const CHANGES: usize = 200;
    let world = World::new();
    world
        .server("a")
        .always(Op::Connect, Act::AnswerAfter(Duration::from_millis(2)));
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let ended = watch::Sender::new(0_usize);
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (manager, stop, ended) = (manager.clone(), Arc::clone(&stop), ended.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match caller % 2 {
                        0 => call_tool(&manager, "a", "echo", None, &CallOptions::new()).await,
                        _ => manager.call("a__echo", ()).await,
                    }
                    .unwrap();
                    ended.send_modify(|ended| *ended += 1);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for change in 0..CHANGES {
        let mut next = spec("a");
        next.transport = TransportSpec::Stdio(StdioSpec::new(format!("version-{change}")));
        let before = *ended.borrow();
        manager.apply(vec![next]).await.unwrap();
        // There is load between any two changes.
        let more = async {
            ended
                .subscribe()
                .wait_for(|ended| *ended > before)
                .await
                .map(drop)
        };
        tokio::time::timeout(Duration::from_secs(30), more)
            .await
            .unwrap()
            .unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    println!("{} calls during {CHANGES} changes", *ended.borrow());
    manager.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_added_at_once_and_what_is_there_stays() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    let before = of(&manager, "a").client().unwrap();
    let mut other = spec("a");
    other.transport = TransportSpec::Stdio(StdioSpec::new("another"));
    let added = manager.add_new(vec![spec("d"), other, spec("c")]).unwrap();
    assert_eq!(names(&added), ["d", "c"]);
    of(&manager, "c").connect().await.unwrap();
    assert!(Arc::ptr_eq(&before, &of(&manager, "a").client().unwrap()));
    assert_eq!(names(&manager.names()), ["a", "b", "c", "d"]);
    assert!(manager.add_new(vec![spec("a")]).unwrap().is_empty());
    let twice = manager.add_new(vec![spec("e"), spec("e")]).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::InvalidSpec);
    assert!(manager.server("e").is_err());
    manager.shutdown(Duration::from_secs(1)).await;
    let after = manager.add_new(vec![spec("f")]).unwrap_err();
    assert_eq!(after.kind(), ErrorKind::Closed);
}
