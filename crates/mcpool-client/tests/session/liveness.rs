//! Probes and activity.

use std::time::Duration;

use mcpool_core::{ClientFactory, Error, ErrorKind, ProbeMethod, TransportKind, Verbs};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{support::*, text};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_probe_is_a_ping_in_the_old_era_and_discover_in_the_new() {
    let (client, _) = connect_legacy(|mut end| async move {
        let ping = end.expect("ping").await;
        assert_eq!(ping.get("params"), None);
        tokio::time::sleep(Duration::from_millis(3)).await;
        end.reply(&ping, json!({}));
        let ping = end.expect("ping").await;
        end.error(&ping, -32601, Value::Null);
        end.recv().await;
    })
    .await;
    let connected = client.snapshot().last_activity;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let report = client.probe(PATIENCE).await.unwrap();
    assert_eq!(report.method, ProbeMethod::Ping);
    assert_eq!(report.latency, Duration::from_millis(3));
    // A server that knows its methods lives.
    let report = client.probe(PATIENCE).await.unwrap();
    assert_eq!(report.method, ProbeMethod::Ping);
    assert_eq!(
        client.snapshot().last_activity,
        connected,
        "a probe is no activity"
    );

    let (client, _) = connect_modern(|mut end| async move {
        let probe = end.expect("server/discover").await;
        assert!(probe["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_string());
        assert_eq!(probe["wire"]["version"], "2026-07-28");
        end.reply(&probe, discovered());
        end.recv().await;
    })
    .await;
    let report = client.probe(PATIENCE).await.unwrap();
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
async fn a_healthy_server_that_refuses_pings_is_alive() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|request| match request["method"].as_str() {
            Some("tools/list") => Reply::Result(json!({"tools": []})),
            _ => Reply::Error(-32600),
        })
        .await;
    })
    .await;
    let report = client.probe(PATIENCE).await.unwrap();
    assert_eq!(report.method, ProbeMethod::ListTools);
    assert_eq!(report.latency, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_no_living_session_gives_is_a_miss() {
    // The session is gone, and the server says so with an error of its own.
    for code in [-32001, -32002, -32005, -32603] {
        let (client, _) = connect_legacy(move |mut end| async move {
            end.serve(|_| Reply::Error(code)).await;
        })
        .await;
        let error = client.probe(PATIENCE).await.unwrap_err();
        assert_eq!(error.rpc().unwrap().code, code);
        assert_eq!(error.operation(), Some("ping"));
    }
    // Or with a status.
    let refusals: [fn() -> Error; 5] = [
        || http_status(400),
        || http_status(410),
        || http_status(500),
        || Error::new(ErrorKind::RateLimited, "503").with_http_status(503),
        || Error::new(ErrorKind::Protocol, "HTML").with_http_status(200),
    ];
    for refusal in refusals {
        let (factory, _) = Scripted::new(TransportKind::Http, |mut end: ServerEnd| async move {
            end.initialize().await;
            end.recv().await;
            end.recv().await;
        })
        .refusing(move |_, message| {
            let method = message["method"].as_str().unwrap();
            matches!(method, "ping" | "tools/list").then(refusal)
        })
        .factory();
        let client = factory.connect(&http_spec(), &connecting()).await.unwrap();
        let error = client.probe(PATIENCE).await.unwrap_err();
        assert_eq!(error.http_status(), refusal().http_status());
        assert!(!client.is_closed(), "a probe judges nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_fails_the_probe_in_time() {
    let (client, _) =
        connect_legacy(|mut end| async move { while end.recv().await.is_some() {} }).await;
    let started = Instant::now();
    let error = client.probe(PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), PATIENCE);
    assert!(!client.is_closed(), "a probe judges nothing");
}

#[tokio::test(start_paused = true)]
async fn traffic_is_activity() {
    let (client, _) = connect_legacy(|mut end| async move {
        let call = end.expect("tools/call").await;
        end.reply(&call, text("x"));
        let call = end.expect("tools/call").await;
        for n in 0..3 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            let params = json!({"progressToken": call["id"], "progress": n});
            end.notify("notifications/progress", params);
        }
        end.notify("notifications/vendor", json!({}));
        end.recv().await;
    })
    .await;
    let before = client.snapshot().last_activity;
    tokio::time::sleep(Duration::from_secs(60)).await;
    client.call_tool("x", ()).await.unwrap();
    let after = client.snapshot().last_activity;
    assert!(after - before >= Duration::from_secs(60));
    let snapshot = client.snapshot();
    assert!(after - snapshot.connected >= Duration::from_secs(60));
    // Progress is, before there is an answer.
    let call = crate::call(&client);
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(!call.is_finished());
    assert_eq!(
        client.snapshot().last_activity - after,
        Duration::from_secs(60)
    );
}
