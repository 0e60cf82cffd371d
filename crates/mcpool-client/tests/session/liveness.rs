//! Probes and activity.

use std::time::Duration;

use mcpool_core::{ErrorKind, ProbeMethod};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{options, support::*, text};

#[tokio::test(start_paused = true)]
async fn a_probe_is_a_ping_in_the_old_era_and_discover_in_the_new() {
    let (client, _) = connect_legacy(|mut end| async move {
        let ping = end.expect("ping").await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        end.reply(&ping, json!({}));
        let ping = end.expect("ping").await;
        end.error(&ping, -32601, Value::Null);
        end.recv().await;
    })
    .await;
    let connected = client.times().last_activity;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let report = client.probe(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.method, ProbeMethod::Ping);
    assert_eq!(report.latency, Duration::from_millis(3));
    // An error is an answer.
    client.probe(Duration::from_secs(5)).await.unwrap();
    assert_eq!(
        client.times().last_activity,
        connected,
        "a probe is no activity"
    );

    let (client, _) = connect_modern(|mut end| async move {
        let probe = end.expect("server/discover").await;
        assert!(probe["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_string());
        end.reply(&probe, discovered());
        end.recv().await;
    })
    .await;
    let report = client.probe(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.method, ProbeMethod::Discover);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_server_that_ignores_pings_is_alive() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|request| match request["method"].as_str() {
            Some("tools/list") => Reply::Result(json!({"tools": []})),
            _ => Reply::Nothing,
        })
        .await;
    })
    .await;
    let report = client.probe(Duration::from_secs(4)).await.unwrap();
    assert_eq!(report.method, ProbeMethod::ListTools);
    assert_eq!(report.latency, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_fails_the_probe_in_time() {
    let (client, _) =
        connect_legacy(|mut end| async move { while end.recv().await.is_some() {} }).await;
    let started = Instant::now();
    let error = client.probe(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert!(!client.is_closed(), "a probe judges nothing");
}

#[tokio::test(start_paused = true)]
async fn traffic_is_activity() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|_| Reply::Result(text("x"))).await;
    })
    .await;
    let before = client.times().last_activity;
    tokio::time::sleep(Duration::from_secs(60)).await;
    client.call_tool("x", None, &options()).await.unwrap();
    let after = client.times().last_activity;
    assert!(after - before >= Duration::from_secs(60));
    let times = client.times();
    assert!(after - times.connected >= Duration::from_secs(60));
}
