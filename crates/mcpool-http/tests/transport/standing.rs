//! The stream on which the server may ask back.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use axum::body::Body;
use futures::{StreamExt, stream};
use mcpool_core::Incoming;
use serde_json::json;

use crate::{
    drive::Drive,
    server::{Server, answer, body, event, initialized, ordinary, status},
};

/// A client of a server that takes so long to answer the GET; `None` is for ever. It has asked
/// one thing.
async fn first_request(think: Option<Duration>) -> (Server, Instant) {
    let (heads, head) = tokio::sync::watch::channel(Instant::now());
    let server = Server::start(move |seen| {
        let heads = heads.clone();
        async move {
            if seen.method != "GET" {
                return ordinary(&seen);
            }
            match think {
                Some(think) => tokio::time::sleep(think).await,
                None => std::future::pending().await,
            }
            heads.send_replace(Instant::now());
            let first = stream::once(async { Ok::<_, Infallible>(": here\n\n") });
            body(
                "text/event-stream",
                Body::from_stream(first.chain(stream::pending())),
            )
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    drive.request("tools/list", json!({})).await.unwrap();
    let head = *head.borrow();
    (server, head)
}

#[tokio::test]
async fn the_first_request_waits_until_the_server_can_ask_back() {
    for _ in 0..10 {
        let (server, head) = first_request(Some(Duration::from_millis(100))).await;
        let get = server.seen("GET")[0].at;
        // The wait is bounded: a machine that stood still meanwhile says nothing about it.
        if head - get > Duration::from_millis(300) {
            continue;
        }
        assert!(head < server.seen("tools/list")[0].at);
        return;
    }
    panic!("this machine is too slow to tell");
}

#[tokio::test]
async fn a_server_that_never_answers_the_get_does_not_hold_up_requests() {
    let (server, _) = first_request(None).await;
    assert_eq!(server.seen("tools/list").len(), 1);
}

#[tokio::test]
async fn the_stream_goes_on_after_its_last_event() {
    let server = Server::except(|seen| {
        if seen.method != "GET" {
            return None;
        }
        let round: u32 = seen
            .header("last-event-id")
            .map_or(0, |id| id.parse().unwrap());
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/message"});
        let first = format!(
            "id: {}\nretry: 1\n{}",
            round + 1,
            event(&changed.to_string())
        );
        Some(body("text/event-stream", first))
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    for _ in 0..5 {
        assert!(matches!(
            drive.next().await,
            Some(Incoming::Notification(_))
        ));
    }
    let ids: Vec<_> = server
        .seen("GET")
        .iter()
        .take(4)
        .map(|seen| seen.header("last-event-id").unwrap_or("none").to_owned())
        .collect();
    assert_eq!(ids, ["none", "1", "2", "3"]);
}

#[tokio::test]
async fn a_refused_get_is_no_evidence_and_is_not_repeated() {
    for refusal in [405, 404, 400, 401] {
        let server =
            Server::except(move |seen| (seen.method == "GET").then(|| status(refusal, ""))).await;
        let drive = Drive::initialized(&server.url).await;
        server.until("GET", 1).await;
        for _ in 0..10 {
            drive.request("tools/list", json!({})).await.unwrap();
        }
        assert_eq!(server.seen("GET").len(), 1, "{refusal}");
        assert_eq!(server.seen("initialize").len(), 1, "{refusal}");
        assert!(drive.failure().is_none(), "{refusal}");
    }
}

#[tokio::test]
async fn a_server_without_session_ids_may_have_one_too() {
    let server = Server::except(|seen| match (seen.method.as_str(), seen.rpc()) {
        (_, "initialize") => {
            let mut response = initialized(seen, "x");
            response.headers_mut().remove("mcp-session-id");
            Some(response)
        }
        ("GET", _) => Some(body(
            "text/event-stream",
            event(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#),
        )),
        (_, "tools/call") => Some(answer(seen, json!({}))),
        _ => None,
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    drive.notification("notifications/tools/list_changed").await;
    drive.request("tools/call", json!({})).await.unwrap();
    drive.close().await;
    assert!(server.seen("DELETE").is_empty());
}
