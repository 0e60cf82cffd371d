//! The orderly end, over HTTP.

use std::time::Duration;

use mcpool_testkit::Era;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Served, by_hand, initialize, ping, status, tool_call};

/// The next message of an event stream.
async fn event(response: &mut reqwest::Response) -> Value {
    loop {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await;
        let chunk = chunk.unwrap().unwrap().expect("the stream ended");
        let text = String::from_utf8(chunk.to_vec()).unwrap();
        if let Some(data) = text.strip_prefix("data: ") {
            return serde_json::from_str(data.trim()).unwrap();
        }
    }
}

#[tokio::test]
async fn what_runs_may_end_and_nothing_begins() {
    let served = Served::one(Era::Legacy).await;
    let session = served.token("/mcp", "").await;
    let with = |body: &Value| {
        let request = served.post("/mcp", "", body);
        request.header("mcp-session-id", &session)
    };
    let ask = tool_call(7, "files__ask", json!({"method": "roots/list"}));
    let mut running = with(&ask).send().await.unwrap();
    let question = event(&mut running).await;
    assert_eq!(question["method"], "roots/list");
    let gateway = served.gateway.clone();
    let ending = tokio::spawn(async move { gateway.drain(PATIENCE).await });
    while !served.gateway.is_draining() {
        tokio::task::yield_now().await;
    }
    for late in [initialize(), ping(), json!([ping()])] {
        let refused = with(&late).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "5");
        let refused: Value = refused.json().await.unwrap();
        assert_eq!(refused["error"]["code"], -32603, "{refused}");
    }
    let ready = by_hand().get(served.url("/readyz"));
    assert_eq!(status(ready).await, StatusCode::SERVICE_UNAVAILABLE);
    let alive = by_hand().get(served.url("/healthz"));
    assert_eq!(status(alive).await, StatusCode::OK);
    // What belongs to a call that runs is taken.
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
    assert_eq!(status(with(&answer)).await, StatusCode::ACCEPTED);
    let answer = event(&mut running).await;
    assert_eq!(answer["id"], 7);
    assert!(answer["result"].is_object(), "{answer}");
    assert!(ending.await.unwrap());
    let gone = async { while by_hand().get(served.url("/healthz")).send().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_cancelled_and_says_so() {
    let served = Served::one(Era::Legacy).await;
    let session = served.token("/mcp", "").await;
    let hang = served.post("/mcp", "", &tool_call(1, "files__hang", json!({})));
    let hang = hang.header("mcp-session-id", &session);
    let running = tokio::spawn(async move { hang.send().await.unwrap().json::<Value>().await });
    served.seen("calls", 1).await;
    assert!(!served.gateway.drain(Duration::ZERO).await);
    let answer = running.await.unwrap().unwrap();
    let said = answer["error"]["message"].as_str().unwrap();
    assert!(said.contains("may have run"), "{answer}");
    served.seen("cancelled", 1).await;
}

#[tokio::test]
async fn streams_that_only_listen_end_with_it() {
    let served = Served::one(Era::Legacy).await;
    let session = served.token("/mcp", "").await;
    let standing = by_hand()
        .get(served.url("/mcp"))
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &session);
    let standing = standing.send().await.unwrap();
    assert_eq!(standing.status(), StatusCode::OK);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let listen = json!({"jsonrpc": "2.0", "id": 3, "method": "subscriptions/listen", "params": {
        "notifications": {"toolsListChanged": true}, "_meta": meta}});
    let listening = served.post("/mcp", "", &listen);
    let listening = listening
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen");
    let mut listening = listening.send().await.unwrap();
    let acknowledged = event(&mut listening).await;
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );
    // Nobody waits for them.
    assert!(served.gateway.drain(PATIENCE).await);
    for stream in [standing, listening] {
        let rest = tokio::time::timeout(PATIENCE, stream.bytes()).await;
        assert!(rest.unwrap().is_ok());
    }
}
