//! Which connection a request takes, and what becomes of those that are idle.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use mcpool_core::{ConnectRequest, Delivery, ErrorKind, HttpSpec, Result, TransportSpec};
use mcpool_http_pool::{HttpPeer, HttpPool, PeerRequest, Response, http::Method, read_capped};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(60);

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    (listener, url)
}

async fn connect(pool: &HttpPool, url: &str, fresh: bool) -> HttpPeer {
    let spec = HttpSpec::new(url);
    let target = TransportSpec::Http(spec.clone());
    let request = ConnectRequest::new("test".parse().unwrap(), target).with_fresh(fresh);
    HttpPeer::new(pool, &request, &spec).await.unwrap()
}

fn post(peer: &HttpPeer) -> PeerRequest {
    PeerRequest::new(Method::POST, peer.url().clone()).with_body("hi")
}

/// The body, read to its end.
async fn text(response: Response) -> Result<String> {
    let body = read_capped(response, 1024, None).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn send(peer: &HttpPeer) -> Result<Response> {
    peer.send(&post(peer)).await
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = timeout(PATIENCE, listener.accept()).await;
    accepted.expect("a connection").unwrap().0
}

/// Reads a request with the body `hi`; `None` when the client closed instead.
async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = timeout(PATIENCE, socket.read(&mut piece)).await.unwrap();
        let length = length.unwrap_or(0);
        if length == 0 {
            return None;
        }
        text.extend_from_slice(&piece[..length]);
        if text.ends_with(b"\r\n\r\nhi") || text.starts_with(b"OPTIONS") {
            return Some(String::from_utf8(text).unwrap());
        }
    }
}

async fn answer(socket: &mut TcpStream, headers: &str) {
    let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\nok");
    socket.write_all(answer.as_bytes()).await.unwrap();
}

/// Sends a request that a task answers on this socket.
async fn exchange(peer: &HttpPeer, mut socket: TcpStream) -> TcpStream {
    let serving = tokio::spawn(async move {
        read_request(&mut socket).await.expect("a request");
        answer(&mut socket, "").await;
        socket
    });
    let response = send(peer).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "ok");
    serving.await.unwrap()
}

/// Sends a request that opens a connection, and answers it there.
async fn on_a_connection_of_its_own(peer: &HttpPeer, listener: &TcpListener) -> TcpStream {
    let (response, socket) = tokio::join!(async { text(send(peer).await.unwrap()).await }, async {
        let mut socket = accept(listener).await;
        read_request(&mut socket).await.unwrap();
        answer(&mut socket, "").await;
        socket
    });
    response.unwrap();
    socket
}

/// A peer with an idle connection.
async fn with_idle(pool: &HttpPool) -> (TcpListener, HttpPeer, TcpStream) {
    let (listener, url) = listen().await;
    let peer = connect(pool, &url, false).await;
    let socket = on_a_connection_of_its_own(&peer, &listener).await;
    // It is used again, so it is idle.
    let socket = exchange(&peer, socket).await;
    (listener, peer, socket)
}

async fn is_closed(mut socket: TcpStream) -> bool {
    read_request(&mut socket).await.is_none()
}

#[tokio::test]
async fn idle_connections_are_closed_with_their_last_user() {
    let pool = HttpPool::new();
    let (listener, peer, socket) = with_idle(&pool).await;
    let other = connect(&pool, peer.url().as_str(), false).await;
    drop(peer);
    let socket = exchange(&other, socket).await;
    drop(other);
    assert!(is_closed(socket).await);
    drop(listener);
}

#[tokio::test]
async fn the_pool_can_be_emptied_while_requests_are_under_way() {
    let pool = HttpPool::new();
    let (listener, peer, idle) = with_idle(&pool).await;
    let running = {
        let peer = peer.clone();
        let url: url::Url = peer.url().clone();
        // A second connection: the idle one is taken by the first of two requests.
        tokio::spawn(async move {
            let one = PeerRequest::new(Method::POST, url).with_body("hi");
            let sent = peer.send(&one).await.unwrap();
            text(sent).await.unwrap()
        })
    };
    let mut busy = idle;
    read_request(&mut busy).await.unwrap();
    pool.close_idle();
    let second = tokio::spawn({
        let peer = peer.clone();
        async move { text(send(&peer).await.unwrap()).await }
    });
    let mut fresh = accept(&listener).await;
    read_request(&mut fresh).await.unwrap();
    answer(&mut fresh, "").await;
    second.await.unwrap().unwrap();
    answer(&mut busy, "").await;
    assert_eq!(running.await.unwrap(), "ok");
    // What was under way when the pool was emptied is not kept.
    assert!(is_closed(busy).await);
    exchange(&peer, fresh).await;
}

#[tokio::test]
async fn a_fresh_connect_drops_the_idle_connections_of_its_origin() {
    let pool = HttpPool::new();
    let (_listener, peer, socket) = with_idle(&pool).await;
    let (_other_listener, _other, other_socket) = with_idle(&pool).await;
    let _second = connect(&pool, peer.url().as_str(), true).await;
    assert!(is_closed(socket).await);
    exchange(&_other, other_socket).await;
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_costs_nothing() {
    let pool = HttpPool::new();
    let (listener, peer, mut socket) = with_idle(&pool).await;
    for _ in 0..20 {
        drop(socket);
        socket = on_a_connection_of_its_own(&peer, &listener).await;
    }
}

#[tokio::test]
async fn what_may_run_twice_is_sent_again_when_its_connection_breaks() {
    for repeatable in [true, false] {
        let pool = HttpPool::new();
        let (listener, peer, mut socket) = with_idle(&pool).await;
        let sending = tokio::spawn(async move {
            let request = post(&peer).with_repeatable(repeatable);
            peer.send(&request).await
        });
        read_request(&mut socket).await.unwrap();
        drop(socket);
        if repeatable {
            let mut socket = accept(&listener).await;
            read_request(&mut socket).await.unwrap();
            answer(&mut socket, "").await;
            assert_eq!(sending.await.unwrap().unwrap().status(), 200);
        } else {
            let error = sending.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionLost);
            assert_eq!(error.delivery(), Delivery::Unknown);
        }
    }
}

#[tokio::test]
async fn after_a_broken_connection_the_idle_ones_are_not_used() {
    let pool = HttpPool::new();
    let (listener, peer, mut busy) = with_idle(&pool).await;
    let running = tokio::spawn({
        let peer = peer.clone();
        async move { send(&peer).await }
    });
    read_request(&mut busy).await.unwrap();
    // A second one, which then is idle and, for all that is known, as dead as the first.
    let (response, idle) = tokio::join!(async { text(send(&peer).await.unwrap()).await }, async {
        let mut socket = accept(&listener).await;
        read_request(&mut socket).await.unwrap();
        answer(&mut socket, "").await;
        socket
    });
    response.unwrap();
    let idle = exchange(&peer, idle).await;
    drop(busy);
    running.await.unwrap().unwrap_err();
    assert!(is_closed(idle).await);
}

#[tokio::test]
async fn cookies_come_back_to_their_server_and_live_as_long_as_the_peer() {
    let pool = HttpPool::new();
    let (listener, url) = listen().await;
    let peer = connect(&pool, &url, false).await;
    let serve = async |sets: &str| {
        let mut socket = accept(&listener).await;
        let seen = read_request(&mut socket).await.unwrap();
        let headers = format!("{sets}connection: close\r\n");
        answer(&mut socket, &headers).await;
        seen
    };
    let (_, first) = tokio::join!(
        send(&peer),
        serve("set-cookie: node=1; Path=/\r\nset-cookie: b=2; Secure\r\n")
    );
    assert!(!first.contains("cookie"), "{first}");
    let (_, second) = tokio::join!(send(&peer), serve(""));
    assert!(second.contains("cookie: node=1; b=2\r\n"), "{second}");
    let another = connect(&pool, &url, false).await;
    let (_, third) = tokio::join!(send(&another), serve(""));
    assert!(!third.contains("cookie"), "{third}");
}

#[tokio::test]
async fn localhost_is_found_in_either_address_family() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address).await else {
            // No IPv6 here.
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        let peer = connect(
            &HttpPool::new(),
            &format!("http://localhost:{port}/"),
            false,
        )
        .await;
        let (response, ()) = tokio::join!(send(&peer), async {
            let mut socket = accept(&listener).await;
            read_request(&mut socket).await.unwrap();
            answer(&mut socket, "").await;
        });
        assert_eq!(response.unwrap().status(), 200, "{address}");
    }
}

/// Each was taken for a server that does not speak HTTP.
#[tokio::test]
async fn a_head_that_cannot_be_read_is_told_from_what_is_no_http() {
    let no_http =
        "what answers does not speak HTTP; if it speaks TLS, the url must begin with https";
    let broken = |why| format!("the head of the server's answer is broken: invalid {why}");
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    for (answer, said) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", no_http.to_owned()),
        ("\u{15}\u{3}\u{1}\0\u{2}\u{2}F", no_http.to_owned()),
        ("HTTP/1.1 2x0 OK\r\n\r\n", broken("HTTP status-code")),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", broken("HTTP header")),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            broken("content-length"),
        ),
        (
            &long,
            "the head of the server's answer is too long to be read".to_owned(),
        ),
    ] {
        let (listener, url) = listen().await;
        let peer = connect(&HttpPool::new(), &url, false).await;
        let serving = async {
            let mut socket = accept(&listener).await;
            read_request(&mut socket).await.unwrap();
            // A client that has read enough closes.
            let _ = socket.write_all(answer.as_bytes()).await;
            socket
        };
        let (error, _socket) = tokio::join!(send(&peer), serving);
        let error = error.expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert_eq!(error.message(), said);
        assert_eq!(error.delivery(), Delivery::Unknown);
    }
}
