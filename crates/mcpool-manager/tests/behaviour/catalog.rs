//! The cached lists, and the aggregated view of the tools.

use std::{sync::Arc, time::Duration};

use mcpool_core::{
    Error, ErrorKind, EventKind, Listing, Raw, Reply, ServerNotice, ServerPolicy, ServerState,
    StartMode, StateKind, ToolFilter, model::Prompt,
};
use mcpool_manager::{CallOptions, ConnectionManager, EventStream, KnownLists, Refresh};
use mcpool_testkit::tool;

use crate::scripted::*;

/// The next change of the tools: added, removed, changed.
async fn change(events: &mut EventStream) -> (Vec<String>, Vec<String>, Vec<String>) {
    loop {
        if let EventKind::ToolsChanged {
            added,
            removed,
            changed,
            ..
        } = events.next_event().await.unwrap().kind
        {
            return (added.to_vec(), removed.to_vec(), changed.to_vec());
        }
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn concurrent_refreshes_are_one_and_survive_their_first_caller() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    assert_eq!(fake.count(Op::ListTools), 1);
    fake.next(Op::ListTools, Act::AnswerAfter(Duration::from_secs(1)));
    let ask = || {
        let manager = manager.clone();
        tokio::spawn(async move { of(&manager, "a").tools(Refresh::Force).await })
    };
    let first = ask();
    eventually("it is under way", || fake.count(Op::ListTools) == 2).await;
    let others: Vec<_> = (0..100).map(|_| ask()).collect();
    // All of them have joined before the first one goes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.abort();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap().items.len(), 2);
    }
    assert_eq!(fake.count(Op::ListTools), 2);
    // What is fresh is not asked for.
    manager.tools(Refresh::IfStale).await;
    assert_eq!(fake.count(Op::ListTools), 2);
}

/// A log that is slow to write: it holds up a supervisor between one thing that others see and the
/// next.
struct SlowLog;

impl tracing::Subscriber for SlowLog {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        std::thread::sleep(Duration::from_millis(5));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn who_waits_for_the_first_connect_finds_its_tools_in_the_view() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .on_thread_start(|| std::mem::forget(tracing::subscriber::set_default(SlowLog)))
        .build()
        .unwrap();
    runtime.block_on(async {
        for _ in 0..10 {
            let world = World::new();
            let manager = ConnectionManager::new(world.factory());
            let connects = Act::AnswerAfter(Duration::from_millis(1));
            world.server("a").next(Op::Connect, connects);
            let mut background = spec("a");
            background.start = StartMode::Background;
            manager.start(vec![background]).await.unwrap();
            // Of several that are woken, all but the last may run on another thread at once.
            let (tools, ..) = tokio::join!(
                manager.tools(Refresh::IfStale),
                manager.prompts(Refresh::IfStale),
                manager.resources(Refresh::IfStale),
            );
            assert_eq!(tools.entries.len(), 2);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn when_a_refresh_fails_the_last_good_list_is_served_and_marked() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    let mut events = manager.events();
    let broken = Error::new(ErrorKind::Protocol, "that is no list");
    world.server("a").next(Op::ListTools, Act::Fail(broken));
    let tools = manager.tools(Refresh::Force).await;
    assert_eq!(tools.len(), 4);
    assert_eq!(tools.problems.len(), 1);
    assert_eq!(tools.problems[0].1.kind(), ErrorKind::Protocol);
    let event = events.next_event().await.unwrap();
    assert!(matches!(event.kind, EventKind::CatalogStale { .. }));
    let list = of(&manager, "a").tools(Refresh::Cached).await.unwrap();
    assert!(list.stale.is_some());
    // It is stale: the next one asks again, and all is well.
    let tools = manager.tools(Refresh::IfStale).await;
    assert!(tools.problems.is_empty());
    assert_eq!(world.server("a").count(Op::ListTools), 3);
    assert_eq!(world.server("b").count(Op::ListTools), 2);
}

#[tokio::test(start_paused = true)]
async fn lists_go_stale_with_time() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let mut policy = ServerPolicy::default();
    policy.catalog_ttl = Some(Duration::from_secs(100));
    world
        .server("b")
        .set_tools_ttl(Some(Duration::from_secs(10)));
    manager
        .start(vec![spec("a").with_policy(policy), spec("b"), spec("c")])
        .await
        .unwrap();
    let counts = || ["a", "b", "c"].map(|name| world.server(name).count(Op::ListTools));
    for (pause, want) in [(9, [1, 1, 1]), (2, [1, 2, 1]), (95, [2, 3, 1])] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        manager.tools(Refresh::IfStale).await;
        assert_eq!(counts(), want);
    }
    of(&manager, "c").invalidate().unwrap();
    manager.tools(Refresh::IfStale).await;
    assert_eq!(world.server("c").count(Op::ListTools), 2);
}

#[tokio::test(start_paused = true)]
async fn list_changed_is_followed_by_the_new_list_and_the_difference() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    let before = manager.tools(Refresh::IfStale).await;
    let mut events = manager.events();
    let mut echo = tool("echo");
    echo.description = Some("it changed".into());
    fake.set_tools(vec![echo, tool("new")]);
    fake.notify(&ServerNotice::ToolsChanged);
    assert_eq!(
        change(&mut events).await,
        (names(&["new"]), names(&["add"]), names(&["echo"]))
    );
    let after = manager.tools(Refresh::Cached).await;
    assert!(after.generation > before.generation);
    assert!(after.get("a__new").is_some() && after.get("a__add").is_none());
    // Who holds the old one sees the old one.
    assert!(before.get("a__add").is_some() && before.get("a__new").is_none());
    // The same list again is no event.
    fake.notify(&ServerNotice::ToolsChanged);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fake.count(Op::ListTools), 3);
    assert_eq!(
        manager.tools(Refresh::Cached).await.generation,
        after.generation
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_always_says_changed_makes_no_loop() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    for _ in 0..6000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        fake.notify(&ServerNotice::ToolsChanged);
    }
    let lists = fake.count(Op::ListTools);
    assert!((30..=63).contains(&lists), "{lists} in a minute");
}

#[tokio::test(start_paused = true)]
async fn prompts_and_resources_are_cached_likewise() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    let fake = world.server("a");
    fake.set_prompts(vec![Prompt::new("greet", Some("greets"), None)]);
    for _ in 0..3 {
        let prompts = manager.prompts(Refresh::IfStale).await;
        assert_eq!(prompts.entries.len(), 1);
        assert_eq!(prompts.entries[0].0.as_str(), "a");
        assert!(prompts.problems.is_empty());
    }
    assert_eq!(fake.count(Op::List), 1);
    let mut events = manager.events();
    fake.set_prompts(Vec::new());
    fake.notify(&ServerNotice::PromptsChanged);
    let event = events.next_event().await.unwrap();
    assert!(matches!(event.kind, EventKind::PromptsChanged));
    assert!(manager.prompts(Refresh::Cached).await.entries.is_empty());
    // After a reconnect what was asked for is fetched again.
    let before = fake.count(Op::List);
    die(&fake);
    eventually("the list is fetched again", || {
        fake.count(Op::List) == before + 1
    })
    .await;
    manager.resources(Refresh::IfStale).await;
    manager.resource_templates(Refresh::IfStale).await;
    assert_eq!(fake.count(Op::List), before + 3);
}

#[tokio::test(start_paused = true)]
async fn filters_hide_and_refuse() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    world
        .server("a")
        .set_tool_names(&["read_a", "read_b", "write"]);
    let filter = ToolFilter::allow(["read_*"]).with_deny(["read_b"]);
    manager
        .start(vec![spec("a").with_tools(filter)])
        .await
        .unwrap();
    let tools = manager.tools(Refresh::IfStale).await;
    assert_eq!(tools.len(), 1);
    assert_eq!(&*tools.entries[0].name, "read_a");
    assert_eq!(of(&manager, "a").status().unwrap().tools, 1);
    let options = CallOptions::new();
    for hidden in ["write", "read_b"] {
        let call = call_tool(&manager, "a", hidden, None, &options);
        assert_eq!(call.await.unwrap_err().kind(), ErrorKind::UnknownTool);
    }
    let call = manager.call_with("a__write", (), &options);
    assert_eq!(call.await.unwrap_err().kind(), ErrorKind::UnknownTool);
    assert_eq!(world.server("a").count(Op::Call), 0);
    // The server's own list is whole.
    let list = of(&manager, "a").tools(Refresh::Cached).await.unwrap();
    assert_eq!(list.items.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_listed_twice_counts_once_and_is_reported() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let mut events = manager.events();
    world.server("a").set_tool_names(&["one", "two", "one"]);
    manager.start(vec![spec("a")]).await.unwrap();
    assert_eq!(manager.tools(Refresh::IfStale).await.len(), 2);
    loop {
        if let EventKind::CatalogItemsRejected { items } = events.next_event().await.unwrap().kind {
            assert_eq!(items[0].name, "one");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_takes_its_tools_with_it() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    let mut events = manager.events();
    let both = names(&["echo", "add"]);
    of(&manager, "a").disconnect().await.unwrap();
    assert_eq!(change(&mut events).await, (vec![], both.clone(), vec![]));
    of(&manager, "a").connect().await.unwrap();
    assert_eq!(change(&mut events).await, (both.clone(), vec![], vec![]));
    manager.remove("a").await.unwrap();
    assert_eq!(change(&mut events).await, (vec![], both.clone(), vec![]));
    assert_eq!(manager.tools(Refresh::IfStale).await.len(), 2);
    // A short loss is no reason to hide them, giving up is.
    let fake = world.server("b");
    fake.always(Op::Connect, Act::Fail(refused()));
    die(&fake);
    let mut state = of(&manager, "b").watch().unwrap();
    state
        .wait_for(|s| matches!(s, ServerState::Backoff { .. }))
        .await
        .unwrap();
    let tools = manager.tools(Refresh::IfStale).await;
    assert_eq!((tools.len(), tools.problems.len()), (2, 1));
    state
        .wait_for(|s| matches!(s, ServerState::Dormant { .. }))
        .await
        .unwrap();
    assert_eq!(change(&mut events).await, (vec![], both, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_the_method_has_an_empty_list() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let none = Error::from_rpc(mcpool_core::RpcError::method_not_found("tools/list"));
    world.server("a").always(Op::ListTools, Act::Fail(none));
    manager.start(vec![spec("a")]).await.unwrap();
    assert_eq!(of(&manager, "a").status().unwrap().state, StateKind::Ready);
    assert!(manager.tools(Refresh::Force).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_view_is_shared_not_copied() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    let one = manager.tools(Refresh::IfStale).await;
    let two = manager.tools(Refresh::IfStale).await;
    assert!(Arc::ptr_eq(&one, &two));
    // A change of one server leaves the other's tools where they are.
    world.server("a").set_tool_names(&["other"]);
    let three = manager.tools(Refresh::Force).await;
    let of_b = |snapshot: &mcpool_manager::ToolSnapshot| {
        Arc::clone(&snapshot.get("b__echo").unwrap().tool)
    };
    assert!(Arc::ptr_eq(&of_b(&one), &of_b(&three)));
    assert!(three.generation > one.generation);
}

#[tokio::test(start_paused = true)]
async fn lists_from_elsewhere_follow_each_other_until_the_server_gives_its_own() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let lazy = spec("a").with_start(StartMode::Lazy(None));
    manager.start(vec![lazy]).await.unwrap();
    let server = of(&manager, "a");
    let seed = |name: &str| {
        let raw = Raw::of(&tool(name)).unwrap();
        let mut lists = KnownLists::default();
        lists.tools = Some(Listing::new(vec![Reply::new(tool(name), raw)]));
        server.seed(lists).unwrap();
    };
    let known = async || {
        let tools = server.tools(Refresh::Cached).await.unwrap();
        let names = tools.items.iter().map(|tool| tool.name.to_string());
        names.collect::<Vec<_>>()
    };
    seed("old");
    assert_eq!(known().await, ["old"]);
    seed("new");
    assert_eq!(known().await, ["new"]);
    server.tools(Refresh::Force).await.unwrap();
    let its_own = known().await;
    assert!(!its_own.contains(&"new".to_owned()), "{its_own:?}");
    seed("newer");
    assert_eq!(known().await, its_own);
}
