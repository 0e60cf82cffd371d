//! Calls by qualified name: the name says the server, so they wait and fail as its own calls do.

use std::time::Duration;

use mcpool_core::{ErrorKind, StartMode};
use mcpool_manager::{CallOptions, ConnectionManager};
use tokio::time::Instant;

use crate::scripted::*;

#[tokio::test(start_paused = true)]
async fn a_call_by_name_waits_for_a_server_in_backoff() {
    let world = World::new();
    world.server("a").next(Op::Connect, Act::Fail(refused()));
    let manager = ConnectionManager::new(world.factory());
    let report = manager.start(vec![spec("a")]).await.unwrap();
    assert!(report.all_connected().is_err());
    manager.call("a__echo", ()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_by_name_fails_as_the_servers_own_call_does() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    for name in ["down", "off", "away", "login", "gone"] {
        manager
            .add(spec(name).with_start(StartMode::Lazy(None)))
            .unwrap();
    }
    world
        .server("down")
        .always(Op::Connect, Act::Fail(refused()));
    let login = mcpool_core::Error::new(ErrorKind::AuthRequired, "who are you");
    world.server("login").always(Op::Connect, Act::Fail(login));
    let missing = mcpool_core::Error::new(ErrorKind::CommandNotFound, "no such program");
    world.server("gone").always(Op::Connect, Act::Fail(missing));
    of(&manager, "off").disable().await.unwrap();
    of(&manager, "away").disconnect().await.unwrap();
    let options = CallOptions::new().with_timeout(Duration::from_secs(3));
    for name in ["down", "off", "away", "login", "gone"] {
        let by_name = manager
            .call_with(&format!("{name}__echo"), (), &options)
            .await
            .unwrap_err();
        let own = call_tool(&manager, name, "echo", None, &options)
            .await
            .unwrap_err();
        assert_eq!(by_name.kind(), own.kind(), "{name}: {by_name}");
        assert_eq!(by_name.delivery(), own.delivery(), "{name}");
        assert_eq!(by_name.recovery(), own.recovery(), "{name}");
        assert_ne!(by_name.kind(), ErrorKind::UnknownTool, "{name}");
    }
    let gone = manager.call("gone__echo", ()).await.unwrap_err();
    assert!(gone.message().contains("no such program"), "{gone}");
    manager.shutdown(Duration::from_secs(1)).await;
    let after = manager.call("down__echo", ()).await.unwrap_err();
    assert_eq!(after.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_by_name_keeps_to_its_options() {
    let world = World::new();
    world.server("a").always(Op::Connect, Act::Never);
    let manager = ConnectionManager::new(world.factory());
    manager.add(spec("a")).unwrap();
    let began = Instant::now();
    let options = CallOptions::new().with_timeout(Duration::from_secs(2));
    let error = manager
        .call_with("a__echo", (), &options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    let error = manager
        .call_with("a__echo", (), &CallOptions::new().fail_fast())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn only_a_name_that_no_list_has_is_unknown() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    for name in ["a__nothing", "nobody__echo", "nonsense"] {
        let error = manager.call(name, ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownTool, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_use_of_a_lazy_server_lists_once() {
    for by_list in [true, false] {
        let world = World::new();
        let manager = ConnectionManager::new(world.factory());
        let lazy = spec("a").with_start(StartMode::Lazy(None));
        manager.start(vec![lazy]).await.unwrap();
        if by_list {
            let tools = manager.tools(mcpool_manager::Refresh::IfStale).await;
            assert_eq!(tools.len(), 2);
        }
        manager.call("a__echo", ()).await.unwrap();
        assert_eq!(world.server("a").count(Op::ListTools), 1, "{by_list}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_with_a_hash_is_looked_for_in_lists_that_are_not_there_yet() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let lazy = spec("my files").with_start(StartMode::Lazy(None));
    manager.start(vec![lazy]).await.unwrap();
    let name = mcpool_manager::naming::qualify("my files", "echo");
    manager.call(&name, ()).await.unwrap();
}
