//! What a server asks of its client.

use std::sync::Arc;

use axum::{http::StatusCode, response::IntoResponse};
use mcpool_core::{ErrorKind, Incoming, MAX_OPEN_SERVER_REQUESTS, Raw, RpcError, ServerRequest};
use serde_json::{Value, json};

use crate::{
    drive::{Ask, Drive, PATIENCE, Recorder},
    server::{Server, event, events, open_events, ordinary, status, text},
};

fn question(id: &Value) -> String {
    event(&json!({"jsonrpc": "2.0", "id": id, "method": "roots/list"}).to_string())
}

async fn next_question(drive: &Drive) -> ServerRequest {
    match drive.next().await {
        Some(Incoming::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// The POSTs that answer a question.
fn replies(server: &Server) -> Vec<Value> {
    let mut posts = server.seen("POST");
    posts.retain(|seen| seen.rpc().is_empty());
    posts.into_iter().map(|seen| seen.message).collect()
}

#[tokio::test]
async fn a_question_on_the_standing_stream_is_answered_by_post() {
    let server = Server::except(|seen| {
        (seen.method == "GET").then(|| {
            open_events(&[
                &question(&json!("a")),
                &question(&json!(7)),
                &event(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#),
            ])
        })
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let first = next_question(&drive).await;
    assert_eq!(first.related, None);
    let result = Raw::of(&json!({"roots": []})).unwrap();
    drive.transport.respond(&first, Ok(result)).await.unwrap();
    let second = next_question(&drive).await;
    let refusal = RpcError::method_not_found("roots/list");
    drive
        .transport
        .respond(&second, Err(refusal))
        .await
        .unwrap();
    drive.notification("notifications/tools/list_changed").await;
    let replies = replies(&server);
    assert_eq!(
        replies[0],
        json!({"jsonrpc": "2.0", "id": "a", "result": {"roots": []}})
    );
    assert_eq!(replies[1]["id"], 7);
    assert_eq!(replies[1]["error"]["code"], RpcError::METHOD_NOT_FOUND);
    let posts = server.seen("POST");
    assert_eq!(posts.last().unwrap().session(), Some("the-session"));
}

#[tokio::test]
async fn questions_over_the_bound_are_refused_at_once() {
    let server = Server::except(|seen| {
        (seen.rpc() == "tools/call").then(|| {
            let many = 0..MAX_OPEN_SERVER_REQUESTS + 3;
            let asked: String = many.map(|n| question(&json!(n))).collect();
            events(&[&asked, &event(&text(seen, json!({})))])
        })
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    drive.request("tools/call", json!({})).await.unwrap();
    let posts = MAX_OPEN_SERVER_REQUESTS;
    let refused = server.until("POST", 3 + 3).await;
    let mut ids: Vec<_> = refused
        .iter()
        .filter(|seen| seen.rpc().is_empty())
        .map(|seen| {
            assert_eq!(seen.message["error"]["code"], RpcError::INTERNAL);
            seen.message["id"].as_u64().unwrap()
        })
        .collect();
    ids.sort_unstable();
    let bound = u64::try_from(posts).unwrap();
    assert_eq!(ids, [bound, bound + 1, bound + 2]);
    // Those within the bound wait for their answers.
    for n in 0..posts {
        assert_eq!(next_question(&drive).await.id.get(), n.to_string());
    }
}

#[tokio::test]
async fn a_server_that_asks_and_does_not_take_the_answer_loses_the_connection() {
    let server = Server::start(|seen| async move {
        match (seen.method.as_str(), seen.rpc()) {
            ("GET", _) => open_events(&[&question(&json!(1))]),
            ("POST", "") => std::future::pending().await,
            _ => ordinary(&seen),
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let question = next_question(&drive).await;
    tokio::time::pause();
    let error = drive.transport.respond(&question, Ok(Raw::null())).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionLost);
    let failure = drive.ended().await.unwrap();
    assert!(
        failure.to_string().contains("did not take the answer"),
        "{failure}"
    );
}

#[tokio::test]
async fn replies_do_not_wait_for_one_another() {
    let (release, held) = tokio::sync::watch::channel(false);
    let server = Server::start(move |seen| {
        let mut held = held.clone();
        async move {
            match (seen.method.as_str(), seen.rpc()) {
                ("GET", _) => open_events(&[&question(&json!(1)), &question(&json!(2))]),
                ("POST", "") if seen.message["id"] == 1 => {
                    held.wait_for(|go| *go).await.unwrap();
                    StatusCode::ACCEPTED.into_response()
                }
                _ => ordinary(&seen),
            }
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let (first, second) = (next_question(&drive).await, next_question(&drive).await);
    let slow = tokio::spawn({
        let drive = drive.clone();
        async move { drive.transport.respond(&first, Ok(Raw::null())).await }
    });
    drive
        .transport
        .respond(&second, Ok(Raw::null()))
        .await
        .unwrap();
    drive.request("tools/list", json!({})).await.unwrap();
    assert!(!slow.is_finished());
    release.send_replace(true);
    slow.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reply_that_is_refused_renews_no_session() {
    let server = Server::except(|seen| match (seen.method.as_str(), seen.rpc()) {
        ("GET", _) => Some(open_events(&[&question(&json!(1))])),
        ("POST", "") => Some(status(404, "")),
        _ => None,
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let question = next_question(&drive).await;
    let refused = drive.transport.respond(&question, Ok(Raw::null())).await;
    assert_eq!(refused.unwrap_err().http_status(), Some(404));
    drive.request("tools/list", json!({})).await.unwrap();
    assert_eq!(server.seen("initialize").len(), 1);
}

#[tokio::test]
async fn progress_on_the_standing_stream_finds_its_request() {
    let (progress, told) = tokio::sync::watch::channel(None::<Value>);
    let (release, held) = tokio::sync::watch::channel(false);
    let server = Server::start(move |seen| {
        let (progress, mut told, mut held) = (progress.clone(), told.clone(), held.clone());
        async move {
            match (seen.method.as_str(), seen.rpc()) {
                ("GET", _) => {
                    let token = told.wait_for(Option::is_some).await.unwrap().clone();
                    let params = json!({"progressToken": token, "progress": 3});
                    let message = json!({
                        "jsonrpc": "2.0", "method": "notifications/progress", "params": params,
                    });
                    open_events(&[&event(&message.to_string())])
                }
                (_, "tools/call") => {
                    let token = seen.message["params"]["_meta"]["progressToken"].clone();
                    progress.send_replace(Some(token));
                    held.wait_for(|go| *go).await.unwrap();
                    ordinary(&seen)
                }
                _ => ordinary(&seen),
            }
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let sink = Arc::new(Recorder::default());
    let ask = Ask {
        sink: Some(sink.clone()),
        ..Ask::default()
    };
    let call = drive.start_with("tools/call", json!({}), ask);
    sink.until("progress 3").await;
    release.send_replace(true);
    tokio::time::timeout(PATIENCE, call)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
