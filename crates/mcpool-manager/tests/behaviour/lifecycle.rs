//! The verbs, on scripted clients under the paused clock.

use std::time::Duration;

use crate::scripted::{Act, Op, World, lost, refused, spec};
use mcpool_core::{ErrorKind, ServerState, StartMode};
use mcpool_manager::{CallOptions, ConnectionManager, Refresh};

#[tokio::test(start_paused = true)]
async fn start_connects_calls_and_shuts_down() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let report = manager.start(vec![spec("a"), spec("b")]).await.unwrap();
    assert_eq!(report.diff.added.len(), 2);
    assert!(report.connected.iter().all(|(_, result)| result.is_ok()));

    let result = manager
        .call_tool("a", "echo", None, &CallOptions::new())
        .await
        .unwrap();
    assert_eq!(result.content[0].as_text().unwrap().text, "a:echo");
    let tools = manager.tools(Refresh::IfStale).await;
    let names: Vec<_> = tools.entries.iter().map(|e| &*e.qualified_name).collect();
    assert_eq!(names, ["a__echo", "a__add", "b__echo", "b__add"]);
    manager
        .call("b__add", None, &CallOptions::new())
        .await
        .unwrap();

    let status = manager.status("a").unwrap();
    assert_eq!((status.state, status.tools), ("ready", 2));

    let report = manager.shutdown(Duration::from_secs(10)).await;
    assert_eq!(report.closed.len(), 2);
    assert!(report.forced.is_empty());
    assert_eq!(world.clients().now(), 0);
    let error = manager
        .call_tool("a", "echo", None, &CallOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_comes_back() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    fake.next(Op::Connect, Act::Fail(refused()));
    fake.die();
    manager
        .call_tool("a", "echo", None, &CallOptions::new())
        .await
        .unwrap();
    assert_eq!(fake.count(Op::Connect), 3);
    let _ = lost();
}

#[tokio::test(start_paused = true)]
async fn a_thousand_first_calls_make_one_connect() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager
        .add(spec("a").with_start(StartMode::Lazy(None)))
        .unwrap();
    world
        .server("a")
        .always(Op::Connect, Act::Slow(Duration::from_secs(1)));
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move {
                manager
                    .call_tool("a", "echo", None, &CallOptions::new())
                    .await
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(world.server("a").count(Op::Connect), 1);
    assert!(matches!(
        &*manager.watch("a").unwrap().borrow(),
        ServerState::Ready
    ));
}
