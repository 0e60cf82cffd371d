//! Networks and servers that fail: killed, silent, slow, stubborn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{Delivery, ErrorKind};
use mcpool_testkit::{
    Behavior, eventually,
    fixtures::http::{AnswerMode, HttpFixture, HttpOptions},
    leaks,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    drive::{Drive, PATIENCE, failed},
    server::{Server, events},
};

fn fixture(change: impl FnOnce(&mut HttpOptions)) -> HttpFixture {
    let mut options = HttpOptions::default();
    change(&mut options);
    HttpFixture::start_with(Behavior::new(), options).unwrap()
}

/// Reads one HTTP request, up to the end of its body.
async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = timeout(PATIENCE, socket.read(&mut piece)).await.unwrap();
        let length = length.unwrap();
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
async fn answer(socket: &mut TcpStream, id: u64) {
    let body = json!({"jsonrpc": "2.0", "id": id, "result": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "serverInfo": {"name": "raw", "version": "1"},
    }});
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .unwrap();
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = timeout(PATIENCE, listener.accept()).await;
    accepted.expect("a connection").unwrap().0
}

/// A client whose `initialize` was answered on this socket.
async fn session() -> (TcpListener, Drive, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let drive = Drive::open(&url).await;
    let begun = tokio::spawn({
        let drive = drive.clone();
        async move { drive.handshake("initialize", json!({})).await }
    });
    let mut socket = accept(&listener).await;
    read_request(&mut socket).await;
    answer(&mut socket, 1).await;
    begun.await.unwrap().unwrap();
    (listener, drive, socket)
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_costs_nothing() {
    let (listener, drive, mut socket) = session().await;
    for id in 2..20 {
        // The server closes the pooled connection; sooner or later the client learns of it.
        drop(socket);
        let call = drive.start("tools/call", json!({}));
        socket = accept(&listener).await;
        read_request(&mut socket).await;
        answer(&mut socket, id).await;
        timeout(PATIENCE, call).await.unwrap().unwrap().unwrap();
    }
}

/// The check whether the server is there finds that it is.
async fn is_found_alive(listener: &TcpListener) {
    let mut socket = accept(listener).await;
    assert!(read_request(&mut socket).await.starts_with("OPTIONS "));
    socket
        .write_all(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_leaves_the_outcome_unknown() {
    let (listener, drive, mut socket) = session().await;
    let call = drive.start("tools/call", json!({"name": "pay"}));
    read_request(&mut socket).await;
    drop(socket);
    is_found_alive(&listener).await;
    let error = failed(call).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(drive.failure().is_none(), "the server lives");
}

#[tokio::test]
async fn what_only_reads_is_asked_again_when_its_connection_breaks() {
    let (listener, drive, mut socket) = session().await;
    let list = drive.start("tools/list", json!({}));
    read_request(&mut socket).await;
    drop(socket);
    let mut socket = accept(&listener).await;
    assert!(read_request(&mut socket).await.starts_with("POST "));
    answer(&mut socket, 2).await;
    timeout(PATIENCE, list).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_outcome_unknown() {
    let (listener, drive, mut socket) = session().await;
    let call = drive.start("tools/call", json!({}));
    read_request(&mut socket).await;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{";
    socket.write_all(head).await.unwrap();
    drop(socket);
    is_found_alive(&listener).await;
    let error = failed(call).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
}

#[tokio::test]
async fn a_killed_server_is_noticed_without_a_call() {
    let fixture = fixture(|_| {});
    let drive = Drive::initialized(&fixture.url()).await;
    drive.echo("hi").await;
    // The standing stream is what notices.
    let is_open = || fixture.requests().iter().any(|seen| seen.method == "GET");
    assert!(eventually(PATIENCE, is_open).await);
    fixture.kill();
    let failure = drive.ended().await.unwrap();
    assert_eq!(failure.kind(), ErrorKind::ConnectionLost);
    assert!(drive.next().await.is_none());
    let error = drive.refused("tools/list", json!({})).await;
    assert_eq!(error.delivery(), Delivery::NotSent);
}

#[tokio::test]
async fn a_killed_server_without_a_standing_stream_is_noticed_by_the_next_call() {
    let fixture = fixture(|options| {
        options.stateless = true;
        options.no_get = true;
    });
    let drive = Drive::initialized(&fixture.url()).await;
    drive.echo("hi").await;
    fixture.kill();
    let error = drive.refused("tools/list", json!({})).await;
    // The end of the idle connection was seen before the request was written, or was on its way to
    // the one that it was written to: then nobody can know what became of it.
    let known = error.delivery();
    assert!(
        matches!(known, Delivery::NotSent | Delivery::Unknown),
        "{error}"
    );
    assert!(drive.ended().await.is_some());
    let error = drive.refused("tools/list", json!({})).await;
    assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
}

#[tokio::test]
async fn calls_under_way_when_the_server_dies_are_unknown() {
    let fixture = fixture(|options| options.answers = AnswerMode::Json);
    let drive = Drive::initialized(&fixture.url()).await;
    let running: Vec<_> = (0..5)
        .map(|_| drive.start("tools/call", json!({"name": "hang"})))
        .collect();
    let arrived = || fixture.seen()["most_running"] == 5;
    assert!(eventually(PATIENCE, arrived).await, "{}", fixture.seen());
    fixture.kill();
    for call in running {
        assert_eq!(failed(call).await.delivery(), Delivery::Unknown);
    }
    assert!(drive.ended().await.is_some());
}

#[tokio::test]
async fn a_restarted_server_takes_calls_again() {
    let fixture = fixture(|options| {
        options.stateless = true;
        options.no_get = true;
    });
    let drive = Drive::initialized(&fixture.url()).await;
    for _ in 1..5 {
        fixture.restart().unwrap();
        drive.echo("hi").await;
    }
    assert!(drive.failure().is_none());
}

#[tokio::test]
async fn a_server_that_stands_still_while_it_is_written_to_holds_up_nobody_else() {
    let fixture = fixture(|options| options.answers = AnswerMode::Json);
    let (listener, stuck, socket) = session().await;
    // Nobody reads this, so the socket's buffer fills.
    let big = json!({"name": "x", "arguments": {"big": "x".repeat(16 * 1024 * 1024)}});
    let call = stuck.start("tools/call", big);
    let drive = Drive::initialized(&fixture.url()).await;
    drive.echo("hi").await;
    assert!(!call.is_finished());
    timeout(PATIENCE, stuck.transport.close())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(failed(call).await.delivery(), Delivery::Unknown);
    drop((listener, socket));
}

#[tokio::test]
async fn a_stream_that_always_ends_is_not_asked_for_in_a_hot_loop() {
    let gets = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&gets);
    let server = Server::except(move |seen| {
        (seen.method == "GET").then(|| {
            count.fetch_add(1, Ordering::SeqCst);
            events(&["retry: 1\n\n"])
        })
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_millis(2_500) {
        drive.request("ping", json!({})).await.unwrap();
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
    let running = drive.start("tools/call", json!({"name": "hang"}));
    let arrived = || fixture.seen()["most_running"] == 1;
    assert!(eventually(PATIENCE, arrived).await);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    drop(drive);
    let closed = || leaks::connections_to(port) == 0;
    assert!(eventually(PATIENCE, closed).await);
    // The session is ended as well, without waiting for it.
    let ended = || fixture.session_count() == 0;
    assert!(eventually(PATIENCE, ended).await);
}
