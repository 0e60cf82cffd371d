//! The first request of a session and the stream on which the server may ask back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drive;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use drive::{Drive, PATIENCE};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long the server takes to answer the GET; `None` is for ever.
type Think = Option<Duration>;

#[derive(Clone)]
struct Server {
    think: Think,
    seen: Arc<Mutex<Vec<(&'static str, Instant)>>>,
}

impl Server {
    fn note(&self, what: &'static str) {
        self.seen.lock().unwrap().push((what, Instant::now()));
    }

    /// When something happened first, and where in the order.
    fn when(&self, what: &str) -> Option<(usize, Instant)> {
        let seen = self.seen.lock().unwrap();
        let place = seen.iter().position(|(seen, _)| *seen == what)?;
        Some((place, seen[place].1))
    }
}

async fn answer(State(server): State<Server>, Json(message): Json<Value>) -> Response {
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "slow", "version": "1"},
        }),
        Some("tools/list") => {
            server.note("request");
            json!({"tools": []})
        }
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    ([("mcp-session-id", "the-session")], Json(answer)).into_response()
}

async fn stand(State(server): State<Server>) -> Response {
    server.note("get");
    match server.think {
        Some(think) => tokio::time::sleep(think).await,
        None => std::future::pending().await,
    }
    server.note("head");
    let first = futures::stream::once(async { Ok::<_, Infallible>(Bytes::from(": here\n\n")) });
    let body = Body::from_stream(first.chain(futures::stream::pending()));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

async fn first_request(think: Think) -> Server {
    let server = Server {
        think,
        seen: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/mcp", post(answer).get(stand))
        .with_state(server.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut drive = Drive::initialized(&url).await;
    let listed = drive.request(1, "tools/list", json!({}));
    let listed = tokio::time::timeout(PATIENCE, listed).await.unwrap();
    assert!(listed["result"]["tools"].is_array(), "{listed}");
    drop(drive);
    serving.abort();
    server
}

#[tokio::test]
async fn the_first_request_waits_until_the_server_can_ask_back() {
    for _ in 0..10 {
        let server = first_request(Some(Duration::from_millis(100))).await;
        let (get, head) = (server.when("get").unwrap(), server.when("head").unwrap());
        // The wait is bounded: a machine that stood still meanwhile says nothing about it.
        if head.1 - get.1 > Duration::from_millis(300) {
            continue;
        }
        let request = server.when("request").unwrap();
        assert!(head.0 < request.0, "{:?}", server.seen.lock().unwrap());
        return;
    }
    panic!("this machine is too slow to tell");
}

#[tokio::test]
async fn a_server_that_never_answers_the_get_does_not_hold_up_requests() {
    let server = first_request(None).await;
    assert!(server.when("request").is_some() && server.when("head").is_none());
}
