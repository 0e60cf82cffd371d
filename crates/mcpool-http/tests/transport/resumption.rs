//! Event streams that break off before the answer.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures::{StreamExt, future::join_all, stream};
use mcpool_core::{Delivery, ErrorKind};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::{
    drive::{Drive, initialize_params},
    server::{Seen, Server, answer, body, event, events, initialized, ordinary, status, text},
};

/// A stream of this text whose connection then breaks.
fn broken(text: &'static str) -> Response {
    let first = stream::iter([Ok(text), Err(std::io::Error::other("cut"))]);
    // The break comes after the text has left.
    let paced = first.then(|item| async {
        tokio::task::yield_now().await;
        item
    });
    body("text/event-stream", Body::from_stream(paced))
}

fn answered(id: &Value) -> String {
    let message = json!({"jsonrpc": "2.0", "id": id, "result": {"resumed": true}});
    event(&message.to_string())
}

/// A server whose `tools/call` is answered with `first`, and the rest of it, by GET, with `rest`.
async fn resuming(
    first: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    rest: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static,
) -> (Server, Drive) {
    let asked = AtomicUsize::new(0);
    let server = Server::except(move |seen| {
        if seen.rpc() == "tools/call" {
            return Some(first(seen));
        }
        seen.header("last-event-id")
            .map(|_| rest(seen, asked.fetch_add(1, Ordering::SeqCst)))
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    (server, drive)
}

/// The GETs that resume.
fn resumed(server: &Server) -> Vec<Seen> {
    let mut seen = server.seen("GET");
    seen.retain(|seen| seen.header("last-event-id").is_some());
    seen
}

#[tokio::test]
async fn after_an_event_id_the_answer_is_asked_for_again() {
    // Ended in good order, as MCP 2025-11-25 allows, and broken.
    for ends in [true, false] {
        let (server, drive) = resuming(
            move |_| match ends {
                true => events(&["id: e-1\nretry: 50\ndata:\n\n"]),
                false => broken("id: e-1\nretry: 50\ndata:\n\n"),
            },
            |_, _| events(&["id: e-2\n", &answered(&json!(2))]),
        )
        .await;
        let result = drive.request("tools/call", json!({})).await.unwrap();
        assert_eq!(result, json!({"resumed": true}));
        let [get] = &resumed(&server)[..] else {
            panic!("one GET");
        };
        assert_eq!(get.header("last-event-id"), Some("e-1"));
        assert_eq!(get.session(), Some("the-session"));
        assert_eq!(get.header("mcp-protocol-version"), Some("2025-11-25"));
        assert_eq!(get.header("accept"), Some("text/event-stream"));
        let waited = get.at - server.seen("tools/call")[0].at;
        assert!(waited >= Duration::from_millis(50), "{waited:?}");
        assert!(drive.failure().is_none());
    }
}

#[tokio::test]
async fn a_stream_is_resumed_more_than_once_and_from_where_it_was() {
    let (server, drive) = resuming(
        |_| events(&["id: 0\nretry: 1\ndata:\n\n"]),
        |_, round| match round {
            5 => events(&[&answered(&json!(2))]),
            3 => status(503, ""),
            _ => events(&[&format!(
                "id: {}\n{}",
                round + 1,
                event(r#"{"jsonrpc":"2.0","method":"notifications/message"}"#)
            )]),
        },
    )
    .await;
    drive.request("tools/call", json!({})).await.unwrap();
    let ids: Vec<_> = resumed(&server)
        .iter()
        .map(|seen| seen.header("last-event-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["0", "1", "2", "3", "3", "5"]);
}

#[tokio::test]
async fn without_an_event_id_the_outcome_is_unknown_at_once() {
    for stream in [
        (|_| events(&[": nothing\n\n"])) as fn(&Seen) -> Response,
        |_| broken("retry: 1\ndata:\n\n"),
    ] {
        let (server, drive) = resuming(stream, |_, _| status(500, "")).await;
        let error = drive.refused("tools/call", json!({})).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        assert_eq!(error.delivery(), Delivery::Unknown);
        assert!(resumed(&server).is_empty());
        drive.request("tools/list", json!({})).await.unwrap();
        assert!(drive.failure().is_none());
    }
}

#[tokio::test]
async fn mcp_2026_07_28_resumes_nothing() {
    let server = Server::except(|seen| {
        (seen.rpc() == "tools/call").then(|| events(&["id: 1\nretry: 1\ndata:\n\n"]))
    })
    .await;
    let drive = Drive::modern(&server.url).await;
    let error = drive.refused("tools/call", json!({})).await;
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(server.seen("GET").is_empty());
}

#[tokio::test]
async fn a_server_that_cannot_resume_leaves_the_outcome_unknown() {
    for refusal in [405, 404, 400, 401] {
        let (server, drive) = resuming(
            |_| events(&["id: 1\nretry: 1\ndata:\n\n"]),
            move |_, _| status(refusal, ""),
        )
        .await;
        let error = drive.refused("tools/call", json!({})).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{refusal}");
        assert_eq!(error.delivery(), Delivery::Unknown);
        assert_eq!(resumed(&server).len(), 1);
        assert_eq!(server.seen("initialize").len(), 1);
    }
}

#[tokio::test]
async fn a_dropped_request_stops_its_resumption() {
    let (server, drive) = resuming(
        |_| events(&["id: 1\nretry: 1\ndata:\n\n"]),
        |_, _| events(&[": nothing\n\n"]),
    )
    .await;
    let call = drive.start("tools/call", json!({}));
    server.until("GET", 3).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    server.until("notifications/cancelled", 1).await;
    let asked = resumed(&server).len();
    // A resumption that went on would ask again within 0.2 s or so.
    for _ in 0..20 {
        drive.request("tools/list", json!({})).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(resumed(&server).len(), asked);
}

#[tokio::test]
async fn a_handshake_is_resumed_in_the_session_that_it_begins() {
    let server = Server::except(|seen| {
        if seen.rpc() == "initialize" {
            let mut response = events(&["id: h-1\nretry: 1\ndata:\n\n"]);
            let id = "early".parse().unwrap();
            response.headers_mut().insert("mcp-session-id", id);
            return Some(response);
        }
        seen.header("last-event-id")?;
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {
            "protocolVersion": "2025-11-25", "capabilities": {},
        }});
        Some(events(&[&event(&answer.to_string())]))
    })
    .await;
    let drive = Drive::open(&server.url).await;
    let answer = drive.handshake("initialize", initialize_params()).await;
    assert_eq!(answer.unwrap()["protocolVersion"], "2025-11-25");
    assert_eq!(resumed(&server)[0].session(), Some("early"));
    drive.request("tools/list", json!({})).await.unwrap();
    assert_eq!(server.seen("tools/list")[0].session(), Some("early"));
}

#[tokio::test]
async fn an_answer_may_come_on_the_standing_stream() {
    let (sender, _) = broadcast::channel::<String>(64);
    let answers = sender.clone();
    let server = Server::start(move |seen| {
        let answers = answers.clone();
        async move {
            match (seen.method.as_str(), seen.rpc()) {
                ("GET", _) => {
                    let answers = answers.subscribe();
                    let stream = stream::unfold(answers, |mut answers| async move {
                        let text = answers.recv().await.ok()?;
                        Some((Ok::<_, Infallible>(event(&text)), answers))
                    });
                    body("text/event-stream", Body::from_stream(stream))
                }
                (_, "tools/call") => {
                    answers.send(text(&seen, json!({"stood": true}))).unwrap();
                    status(202, "")
                }
                (_, "ping") => answer(&seen, json!({})),
                (_, "initialize") => initialized(&seen, "s"),
                _ => ordinary(&seen),
            }
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let calls = (0..20).map(|_| drive.request("tools/call", json!({})));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap(), json!({"stood": true}));
    }
    // An answer to nobody costs nothing.
    sender
        .send(r#"{"jsonrpc":"2.0","id":4711,"result":{}}"#.to_owned())
        .unwrap();
    sender
        .send(r#"{"jsonrpc":"2.0","method":"notifications/message"}"#.to_owned())
        .unwrap();
    drive.notification("notifications/message").await;
    drive.request("ping", json!({})).await.unwrap();
}
