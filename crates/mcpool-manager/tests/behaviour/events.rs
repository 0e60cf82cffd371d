//! What the events say, and what a reader misses.

use std::time::Duration;

use mcpool_core::{EventKind, ServerState};
use mcpool_manager::{ConnectionManager, EventItem};

use crate::scripted::*;

#[tokio::test(start_paused = true)]
async fn a_slow_reader_learns_how_many_events_it_missed() {
    let world = World::new();
    let manager = ConnectionManager::builder(world.factory())
        .with_event_capacity(4)
        .build();
    let mut slow = manager.events();
    let mut quick = manager.events();
    let counting = tokio::spawn(async move {
        let mut seen = 0u64;
        while let Some(item) = quick.recv().await {
            assert!(matches!(item, EventItem::Event(_)));
            seen += 1;
        }
        seen
    });
    for _ in 0..20 {
        manager.start(vec![spec("a")]).await.unwrap();
        manager.remove("a").await.unwrap();
    }
    manager.shutdown(Duration::from_secs(5)).await;
    let total = counting.await.unwrap();
    let mut read = 0u64;
    while let Some(item) = slow.recv().await {
        if matches!(item, EventItem::Event(_)) {
            read += 1;
        }
    }
    assert!(slow.missed() > 0);
    assert_eq!(read + slow.missed(), total);
}

#[tokio::test(start_paused = true)]
async fn events_tell_the_whole_story() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let mut events = manager.events();
    let fake = world.server("a");
    fake.next(Op::Connect, Act::Fail(refused()));
    manager.add(spec("a")).unwrap();
    let mut state = of(&manager, "a").watch().unwrap();
    state.wait_for(ServerState::is_ready).await.unwrap();
    of(&manager, "a").health_check().await.unwrap();
    manager.shutdown(Duration::from_secs(5)).await;
    let mut story = Vec::new();
    while let Some(event) = events.next_event().await {
        story.push(match event.kind {
            EventKind::StateChanged { to, .. } => to.to_string(),
            EventKind::ConnectFailed { attempt, .. } => format!("failed {attempt}"),
            EventKind::RetryScheduled { attempt, .. } => format!("retry {attempt}"),
            EventKind::Connected { attempt, .. } => format!("connected {attempt}"),
            EventKind::ToolsChanged { added, removed, .. } => {
                format!("tools +{} -{}", added.len(), removed.len())
            }
            EventKind::HeartbeatOk { .. } => "heartbeat".to_owned(),
            EventKind::Disconnected { cause, .. } => format!("disconnected: {}", cause.as_str()),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(
        story,
        [
            "connecting",
            "failed 1",
            "retry 2",
            "backoff",
            "connecting",
            "connected 2",
            "ready",
            "tools +2 -0",
            "heartbeat",
            "disconnected: shutdown",
            "closed",
            "tools +0 -2",
        ]
    );
}
