//! Heartbeats and probes: when they come, and what they say.

use std::time::Duration;

use mcpool_core::{DisconnectCause, Error, ErrorKind, EventKind, StateKind};
use mcpool_manager::{CallOptions, ConnectionManager};
use tokio::time::Instant;

use crate::scripted::*;

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_could_not_be_sent_is_no_evidence() {
    let world = World::new();
    let server = world.server("a");
    let exhausted = Error::new(ErrorKind::Exhausted, "no descriptor is left");
    server.always(Op::Probe, Act::Fail(exhausted));
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    eventually("many were tried", || server.count(Op::Probe) >= 10).await;
    let status = of(&manager, "a").status().unwrap();
    assert_eq!(
        (status.state, status.consecutive_misses),
        (StateKind::Ready, 0)
    );
    assert_eq!(server.count(Op::Connect), 1);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_at_their_interval_and_one_at_a_time() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    fake.always(Op::Probe, Act::AnswerAfter(Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let probes = fake.count(Op::Probe);
    assert!((3600 / 51..=3600 / 41).contains(&probes), "{probes}");
    let status = of(&manager, "a").status().unwrap();
    assert_eq!(status.heartbeat_latency, Some(Duration::from_secs(1)));
    assert_eq!(status.consecutive_misses, 0);
    assert!(status.last_heartbeat.is_some());
    // Those who ask join the probe that is under way.
    let checks: Vec<_> = (0..50)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move { manager.health_check_all().await })
        })
        .collect();
    for check in checks {
        assert!(check.await.unwrap()[0].1.is_ok());
    }
    assert_eq!(world.probing().most(), 1);
    assert!(fake.count(Op::Probe) <= probes + 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_with_traffic_is_not_probed() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        call_tool(&manager, "a", "echo", None, &CallOptions::new())
            .await
            .unwrap();
    }
    assert_eq!(world.server("a").count(Op::Probe), 0);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_noticed_and_its_calls_end() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let mut events = manager.events();
    let fake = world.server("a");
    // The packets are dropped: nothing is answered any more, and nothing says so.
    fake.always(Op::Call, Act::Never);
    fake.always(Op::Probe, Act::Never);
    fake.next(Op::Close, Act::Never);
    let started = Instant::now();
    let options = CallOptions::new().with_timeout(Duration::from_secs(3600));
    let call = call_tool(&manager, "a", "echo", None, &options);
    let error = call.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    // Heartbeat and its jitter, two timeouts and their grace.
    let bound = Duration::from_secs_f64(45.0 * 1.1 + 2.0 * 5.5);
    assert!(started.elapsed() <= bound, "{:?}", started.elapsed());
    let mut misses = Vec::new();
    loop {
        match events.next_event().await.unwrap().kind {
            EventKind::HeartbeatMissed { misses: n, .. } => misses.push(n),
            EventKind::Disconnected { cause, .. } => {
                assert_eq!(cause, DisconnectCause::HeartbeatFailed);
                break;
            }
            EventKind::CallsCancelled { count } => assert_eq!(count, 1),
            _ => {}
        }
    }
    assert_eq!(misses, [1, 2]);
    fake.always(Op::Probe, Act::Answer);
    fake.always(Op::Call, Act::Answer);
    call_tool(&manager, "a", "echo", None, &CallOptions::new())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_missed_heartbeat_is_forgiven() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    fake.next(Op::Probe, Act::Never);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fake.count(Op::Connect), 1);
    // A server that answers with an error lives.
    let refusal = Error::from_rpc(mcpool_core::RpcError::method_not_found("ping"));
    fake.always(Op::Probe, Act::Fail(refusal));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(fake.count(Op::Connect), 1);
}

#[tokio::test(start_paused = true)]
async fn a_callers_report_is_evidence_not_proof() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec("a")]).await.unwrap();
    let fake = world.server("a");
    of(&manager, "a").report_connection_lost().unwrap();
    eventually("it is probed", || fake.count(Op::Probe) == 1).await;
    assert_eq!(fake.count(Op::Connect), 1);
    // With a server that does not answer, the report and one probe are enough.
    fake.always(Op::Probe, Act::Never);
    let reported = Instant::now();
    of(&manager, "a").report_connection_lost().unwrap();
    eventually("it is connected again", || fake.count(Op::Connect) == 2).await;
    assert!(
        reported.elapsed() < Duration::from_secs(8),
        "{:?}",
        reported.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn health_check_all_is_bounded_and_says_who_is_ill() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    world
        .server("down")
        .always(Op::Connect, Act::Fail(refused()));
    manager
        .start(vec![
            spec("good"),
            spec("mute"),
            spec("down"),
            spec("off").with_enabled(false),
        ])
        .await
        .unwrap();
    world.server("mute").always(Op::Probe, Act::Never);
    let started = Instant::now();
    let results = manager.health_check_all().await;
    assert!(started.elapsed() <= Duration::from_secs(6));
    let kinds: Vec<_> = results
        .iter()
        .map(|(name, r)| (name.as_str(), r.as_ref().err().map(Error::kind)))
        .collect();
    assert_eq!(
        kinds,
        [
            ("down", Some(ErrorKind::NotConnected)),
            ("good", None),
            ("mute", Some(ErrorKind::Timeout)),
            ("off", Some(ErrorKind::Disabled)),
        ]
    );
}
