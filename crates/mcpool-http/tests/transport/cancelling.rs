//! Requests that are dropped.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{body::Body, http::StatusCode, response::IntoResponse};
use futures::{FutureExt, StreamExt, stream};
use mcpool_core::{Delivery, ErrorKind, RequestClass};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::timeout};

use crate::{
    drive::{Ask, Drive, PATIENCE, Recorder, failed, initialize_params},
    server::{Server, body, open_events, ordinary},
};

/// A server whose `tools/call` never ends, in a body or in a stream.
async fn hanging(streams: bool) -> Server {
    Server::start(move |seen| async move {
        match seen.rpc() {
            "tools/call" if streams => open_events(&[": here\n\n"]),
            "tools/call" => std::future::pending().await,
            _ => ordinary(&seen),
        }
    })
    .await
}

#[tokio::test]
async fn a_dropped_request_is_cancelled_in_words_up_to_2025_11_25() {
    for streams in [false, true] {
        let server = hanging(streams).await;
        let drive = Drive::initialized(&server.url).await;
        let call = drive.start("tools/call", json!({"name": "x"}));
        let call_id = server.until("tools/call", 1).await[0].message["id"].clone();
        call.abort();
        let cancelled = &server.until("notifications/cancelled", 1).await[0];
        assert_eq!(cancelled.message["params"]["requestId"], call_id);
        assert_eq!(cancelled.session(), Some("the-session"));
        assert_eq!(cancelled.header("mcp-protocol-version"), Some("2025-11-25"));
    }
}

/// Reports when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn from_2026_07_28_on_closing_the_stream_cancels() {
    let closed = Arc::new(Notify::new());
    let on_close = Arc::clone(&closed);
    let server = Server::except(move |seen| {
        (seen.rpc() == "tools/call").then(|| {
            let dropped = Dropped(Arc::clone(&on_close));
            let stream = stream::once(async { Ok::<_, Infallible>(": here\n\n") });
            let stream = stream.chain(stream::once(async move {
                let _dropped = dropped;
                std::future::pending().await
            }));
            body("text/event-stream", Body::from_stream(stream))
        })
    })
    .await;
    let drive = Drive::modern(&server.url).await;
    let call = drive.start("tools/call", json!({}));
    server.until("tools/call", 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    timeout(PATIENCE, closed.notified()).await.unwrap();
    // What comes after it would come after a cancellation as well.
    for _ in 0..3 {
        drive.request("tools/list", json!({})).await.unwrap();
    }
    assert!(server.seen("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn a_handshake_is_never_cancelled_in_words() {
    let server = Server::start(|seen| async move {
        match seen.rpc() {
            "initialize" | "server/discover" => std::future::pending().await,
            _ => ordinary(&seen),
        }
    })
    .await;
    let drive = Drive::open(&server.url).await;
    for method in ["initialize", "server/discover"] {
        let ask = Ask {
            class: RequestClass::Handshake,
            ..Ask::default()
        };
        let handshake = drive.start_with(method, initialize_params(), ask);
        server.until(method, 1).await;
        handshake.abort();
        assert!(handshake.await.unwrap_err().is_cancelled());
    }
    drive.request("tools/list", json!({})).await.unwrap();
    assert!(server.seen("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn what_is_dropped_before_it_is_sent_was_not_sent() {
    let server = hanging(false).await;
    let drive = Drive::initialized(&server.url).await;
    let sink = Arc::new(Recorder::default());
    let ask = Ask {
        sink: Some(sink.clone()),
        ..Ask::default()
    };
    // Polled once: the id is there, and nothing is written yet.
    let asked = drive.ask("tools/call", json!({}), ask);
    assert!(asked.now_or_never().is_none());
    assert_eq!(sink.events(), ["assigned"]);
    drive.request("tools/list", json!({})).await.unwrap();
    assert!(server.seen("tools/call").is_empty());
    assert!(server.seen("notifications/cancelled").is_empty());
}

/// A drop while 32 calls run, at a network latency, has notified the server within about one round
/// trip, whatever else is dropped meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancellations_come_side_by_side() {
    const CALLS: usize = 200;
    const LATENCY: Duration = Duration::from_millis(100);
    let server = Server::start(|seen| async move {
        match seen.rpc() {
            "tools/call" => std::future::pending().await,
            "notifications/cancelled" => {
                tokio::time::sleep(LATENCY).await;
                StatusCode::ACCEPTED.into_response()
            }
            _ => ordinary(&seen),
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let calls: Vec<_> = (0..CALLS)
        .map(|_| drive.start("tools/call", json!({})))
        .collect();
    server.until("tools/call", CALLS).await;
    let dropped = Instant::now();
    for call in &calls {
        call.abort();
    }
    let mut late: Vec<Duration> = server
        .until("notifications/cancelled", CALLS)
        .await
        .iter()
        .map(|seen| seen.at - dropped)
        .collect();
    late.sort();
    // One after the other they would take 20 s, and half of them 10 s.
    let median = late[CALLS / 2];
    assert!(median < Duration::from_secs(5), "{median:?}");
    let ids: HashSet<String> = server
        .seen("notifications/cancelled")
        .iter()
        .map(|seen| seen.message["params"]["requestId"].to_string())
        .collect();
    assert_eq!(ids.len(), CALLS);
}

#[tokio::test]
async fn a_close_ends_what_is_under_way_with_its_own_delivery() {
    let server = hanging(false).await;
    let drive = Drive::initialized(&server.url).await;
    let call = drive.start("tools/call", json!({}));
    server.until("tools/call", 1).await;
    drive.close().await;
    let error = failed(call).await;
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.delivery(), Delivery::Unknown);
    let error = drive.refused("tools/list", Value::Null).await;
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(drive.transport.is_closed());
    assert!(drive.ended().await.is_none());
    assert!(drive.next().await.is_none());
    assert_eq!(server.seen("DELETE")[0].session(), Some("the-session"));
    // A second close is the same.
    drive.close().await;
    assert_eq!(server.seen("DELETE").len(), 1);
    assert!(server.seen("notifications/cancelled").is_empty());
}
