//! Networks and servers that fail: refused, killed, silent, slow, stubborn.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod drive;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::header,
    response::IntoResponse,
    routing::{get, post},
};
use drive::{Drive, PATIENCE};
use mcpool_core::{Delivery, Error, ErrorKind, Result};
use mcpool_testkit::{
    Behavior,
    fixtures::http::{AnswerMode, HttpFixture, HttpOptions},
    leaks,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};

fn fixture(change: impl FnOnce(&mut HttpOptions)) -> HttpFixture {
    let mut options = HttpOptions::default();
    change(&mut options);
    HttpFixture::start_with(Behavior::new(), options).unwrap()
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    (listener, url)
}

/// Reads one HTTP request, up to the end of its body.
async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = socket.read(&mut piece).await.unwrap();
        assert!(length > 0, "the client closed the connection");
        request.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let expected = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= expected {
            return text;
        }
    }
}

/// Answers a request on a raw socket with the result `{}`, or one that `initialize` takes.
async fn answer(socket: &mut TcpStream, id: u64, extra_header: &str) {
    let body = json!({"jsonrpc": "2.0", "id": id, "result": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "serverInfo": {"name": "raw", "version": "1"},
    }});
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{extra_header}content-length: {}\r\n\r\n",
        body.len()
    );
    socket
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .unwrap();
}

/// A client whose `initialize` has come in on this socket and is not answered yet.
async fn handshake(startup: Duration) -> (TcpListener, Drive, JoinHandle<Result<()>>, TcpStream) {
    let (listener, url) = listen().await;
    let mut spec = drive::spec(&url);
    spec.policy.timeouts.startup = startup;
    let drive = Drive::with_spec(spec, None).await;
    let sending = drive.start(1, "initialize", drive::initialize_params());
    let (mut socket, _) = listener.accept().await.unwrap();
    read_request(&mut socket).await;
    (listener, drive, sending, socket)
}

/// A client whose `initialize` was answered on this socket.
async fn session() -> (TcpListener, Drive, TcpStream) {
    let (listener, url) = listen().await;
    let mut drive = Drive::open(&url).await;
    let sending = drive.start(0, "initialize", drive::initialize_params());
    let (mut socket, _) = listener.accept().await.unwrap();
    read_request(&mut socket).await;
    answer(&mut socket, 0, "").await;
    sending.await.unwrap().unwrap();
    assert!(drive.receive().await.is_some());
    (listener, drive, socket)
}

/// The error of a send that was under way.
async fn failed(sending: JoinHandle<Result<()>>) -> Error {
    let sent = timeout(PATIENCE, sending).await.unwrap();
    sent.unwrap().unwrap_err()
}

#[tokio::test]
async fn nobody_listens() {
    let (listener, url) = listen().await;
    drop(listener);
    let mut drive = Drive::open(&url).await;
    let error = drive
        .refused(1, "initialize", drive::initialize_params())
        .await;
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(drive.receive().await.is_none());
    assert_eq!(drive.failure().unwrap().kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_its_socket_closed() {
    let (_listener, mut drive, sending, mut socket) = handshake(Duration::from_millis(300)).await;
    let error = failed(sending).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(drive.receive().await.is_none());
    let closed = timeout(PATIENCE, socket.read(&mut [0; 16])).await;
    assert_eq!(closed.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn a_handshake_that_drips_is_given_up() {
    let (_listener, mut drive, sending, mut socket) = handshake(Duration::from_millis(500)).await;
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    // One byte now and one then, until the client has had enough.
    let dripping = async {
        while socket.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dripping)
        .await
        .expect("the client closes the connection");
    let error = failed(sending).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(drive.receive().await.is_none());
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_costs_nothing() {
    let (listener, mut drive, mut socket) = session().await;
    for id in 1..20 {
        // The server closes the pooled connection; sooner or later the client learns of it.
        drop(socket);
        let sending = drive.start(id, "tools/list", json!({}));
        (socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        answer(&mut socket, id, "").await;
        timeout(PATIENCE, sending).await.unwrap().unwrap().unwrap();
        assert_eq!(drive.receive().await.unwrap()["id"], id);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_leaves_the_outcome_unknown() {
    let (listener, drive, mut socket) = session().await;
    let sending = drive.start(1, "tools/call", json!({"name": "pay"}));
    read_request(&mut socket).await;
    drop(socket);
    // The check whether the server is there finds that it is.
    let (mut socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert!(read_request(&mut socket).await.starts_with("OPTIONS "));
    socket
        .write_all(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let error = failed(sending).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(drive.failure().is_none(), "the server lives");
}

#[tokio::test]
async fn a_killed_server_is_noticed_without_a_call() {
    let fixture = fixture(|_| {});
    let mut drive = Drive::initialized(&fixture.url()).await;
    drive.call(1, "echo", json!({"message": "hi"})).await;
    // The standing stream is what notices.
    let is_open = || fixture.requests().iter().any(|seen| seen.method == "GET");
    assert!(mcpool_testkit::eventually(PATIENCE, is_open).await);
    fixture.kill();
    assert!(drive.receive().await.is_none());
    let failure = drive.failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::ConnectionLost);
    let error = drive.refused(2, "tools/list", json!({})).await;
    assert_eq!(error.delivery(), Delivery::NotSent);
}

#[tokio::test]
async fn a_killed_server_without_a_standing_stream_is_noticed_by_the_next_call() {
    let fixture = fixture(|options| options.stateless = true);
    let mut drive = Drive::initialized(&fixture.url()).await;
    drive.call(1, "echo", json!({"message": "hi"})).await;
    fixture.kill();
    let error = drive.refused(2, "tools/list", json!({})).await;
    assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
    assert!(drive.receive().await.is_none());
    assert!(drive.failure().is_some());
}

#[tokio::test]
async fn a_call_under_way_when_the_server_dies_is_unknown_and_what_waits_is_unsent() {
    let fixture = fixture(|options| options.answers = AnswerMode::Json);
    let mut spec = drive::spec(&fixture.url());
    spec.policy.limits.max_in_flight = 1;
    let mut drive = Drive::with_spec(spec, None).await;
    drive.initialize(0).await;
    let running = drive.start(1, "tools/call", json!({"name": "hang"}));
    let arrived = || fixture.seen()["most_running"] == 1;
    assert!(
        mcpool_testkit::eventually(PATIENCE, arrived).await,
        "{}",
        fixture.seen()
    );
    let waiting = drive.start(2, "tools/call", json!({"name": "hang"}));
    fixture.kill();
    assert_eq!(failed(running).await.delivery(), Delivery::Unknown);
    assert_eq!(failed(waiting).await.delivery(), Delivery::NotSent);
    assert!(drive.receive().await.is_none());
}

#[tokio::test]
async fn a_restarted_server_takes_calls_again() {
    let fixture = fixture(|options| options.stateless = true);
    let mut drive = Drive::initialized(&fixture.url()).await;
    for id in 1..5 {
        fixture.restart().unwrap();
        let answer = drive.call(id, "echo", json!({"message": "hi"})).await;
        assert_eq!(answer["result"]["content"][0]["text"], "hi", "{answer}");
    }
    assert!(drive.failure().is_none());
}

/// A server whose GET stream ends at once, and which asks to come back at once.
async fn impatient_server(gets: Arc<AtomicUsize>) -> String {
    let app = Router::new().route(
        "/mcp",
        get(move || {
            gets.fetch_add(1, Ordering::SeqCst);
            async {
                (
                    [(header::CONTENT_TYPE, "text/event-stream")],
                    "retry: 1\n\n",
                )
            }
        })
        .merge(post(|body: axum::Json<serde_json::Value>| async move {
            let result = json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "serverInfo": {"name": "impatient", "version": "1"},
            });
            let answer = json!([{"jsonrpc": "2.0", "id": body["id"], "result": result}]);
            match body.get("id") {
                // In a batch of one, where the revision is old enough.
                Some(_) if body["method"] != "initialize" => axum::Json(answer).into_response(),
                Some(_) => {
                    ([("mcp-session-id", "1")], axum::Json(answer[0].clone())).into_response()
                }
                None => axum::http::StatusCode::ACCEPTED.into_response(),
            }
        })),
    );
    let (listener, url) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn a_stream_that_always_ends_is_not_asked_for_in_a_hot_loop() {
    let gets = Arc::new(AtomicUsize::new(0));
    let url = impatient_server(Arc::clone(&gets)).await;
    let mut drive = Drive::initialized(&url).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(2_500) {
        drive
            .request(drive.seen.len() as u64 + 1, "ping", json!({}))
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // At 0, 0, 1, 3 s and so on, each after the 1 ms that the server asks for.
    let asked = gets.load(Ordering::SeqCst);
    assert!((2..=4).contains(&asked), "{asked} GETs");
}

#[tokio::test]
async fn dropping_ends_a_hanging_call_and_its_socket() {
    let fixture = fixture(|options| options.answers = AnswerMode::Json);
    let port = fixture.address().port();
    let drive = Drive::initialized(&fixture.url()).await;
    let running = drive.start(1, "tools/call", json!({"name": "hang"}));
    let arrived = || fixture.seen()["most_running"] == 1;
    assert!(mcpool_testkit::eventually(PATIENCE, arrived).await);
    drop(drive);
    let error = failed(running).await;
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.delivery(), Delivery::Unknown);
    let closed = || leaks::connections_to(port) == 0;
    assert!(mcpool_testkit::eventually(PATIENCE, closed).await);
    // The session is ended as well, without waiting for it.
    let ended = || fixture.session_count() == 0;
    assert!(mcpool_testkit::eventually(PATIENCE, ended).await);
}
