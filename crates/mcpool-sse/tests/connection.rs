//! The transport against real sockets: what it does when all is well, and when it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod server;

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use futures::{StreamExt, stream::FuturesUnordered};
use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, Connector, Delivery, ErrorKind,
    HttpSpec, Secret, ServerPolicy, ServerSpec,
};
use mcpool_http_pool::HttpPool;
use mcpool_sse::SseConnector;
use server::{Behaviour, PATIENCE, Server, connect, ping, receive, request};
use tokio::time::timeout;

#[tokio::test]
async fn messages_go_both_ways() {
    let server = Server::start(Behaviour::default()).await;
    let mut transport = connect(server.spec()).await.unwrap();
    let sends: FuturesUnordered<_> = (0..100).map(|id| transport.send(ping(id))).collect();
    let sent = tokio::spawn(sends.collect::<Vec<_>>());
    for _ in 0..100 {
        assert!(receive(&mut transport).await.is_some());
    }
    assert!(sent.await.unwrap().iter().all(Result::is_ok));
    let monitor = transport.monitor();
    assert_eq!(monitor.diagnostics().sent, 100);
    assert_eq!(monitor.diagnostics().received, 100);
    timeout(PATIENCE, transport.close()).await.unwrap().unwrap();
    timeout(PATIENCE, transport.close()).await.unwrap().unwrap();
    assert!(receive(&mut transport).await.is_none());
    assert!(monitor.failure().is_none());
    server.wait_for_open_streams(0).await;
    let error = transport.send(ping(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.delivery(), Delivery::NotSent);
}

#[tokio::test]
async fn odd_but_legal_streams_are_understood() {
    let server = Server::start(Behaviour::default()).await;
    let mut transport = connect(server.spec()).await.unwrap();
    server.raw(": comment\r\nid: 7\r\nretry: 10\r\ndata: {\"jsonrpc\":\"2.0\",\r\n");
    server.raw("data: \"id\":1,\"result\":{}}\r\n\r\nevent: ping\ndata: now\n\n");
    server.raw("data: not json\n\nunknown\nfield: x\n\n");
    server.raw("data: [{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}},");
    server.raw("{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{}}]\n\n");
    for id in 1..=3 {
        let message = receive(&mut transport).await.unwrap();
        let value = serde_json::to_value(message).unwrap();
        assert_eq!(value["id"], id);
    }
}

#[tokio::test]
async fn a_url_that_is_no_stream_is_told_so() {
    for (status, content_type, kind) in [
        (StatusCode::NOT_FOUND, "text/plain", ErrorKind::HttpStatus),
        (
            StatusCode::METHOD_NOT_ALLOWED,
            "application/json",
            ErrorKind::HttpStatus,
        ),
        (
            StatusCode::OK,
            "text/html; charset=utf-8",
            ErrorKind::Protocol,
        ),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/html",
            ErrorKind::HttpStatus,
        ),
        (
            StatusCode::TOO_MANY_REQUESTS,
            "text/html",
            ErrorKind::RateLimited,
        ),
        (StatusCode::FORBIDDEN, "text/html", ErrorKind::Forbidden),
    ] {
        let server = Server::start(Behaviour {
            get_answer: Some((status, content_type, "<html>")),
            ..Behaviour::default()
        })
        .await;
        let error = connect(server.spec()).await.err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.http_status(), Some(status.as_u16()));
        assert!(
            error.to_string().starts_with("fixture: connect: "),
            "{error}"
        );
        assert!(error.to_string().contains(&status.as_u16().to_string()));
    }
}

#[tokio::test]
async fn an_endpoint_on_another_origin_is_refused() {
    let server = Server::start(Behaviour {
        endpoint: Some("http://127.0.0.2:1/messages?token=canary".into()),
        ..Behaviour::default()
    })
    .await;
    let error = connect(server.spec()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("another origin"), "{error}");
    assert!(!format!("{error:?}").contains("canary"));
    server.wait_for_open_streams(0).await;
}

#[tokio::test]
async fn a_stream_without_an_endpoint_is_given_up() {
    let server = Server::start(Behaviour {
        endpoint: None,
        ..Behaviour::default()
    })
    .await;
    let mut policy = ServerPolicy::default();
    policy.timeouts.startup = Duration::from_millis(200);
    let spec = ServerSpec::sse("fixture", server.spec())
        .unwrap()
        .with_policy(policy);
    let connector = SseConnector::new(HttpPool::new());
    let connecting = connector.connect(mcpool_core::ConnectRequest::new(Arc::new(spec)));
    let error = timeout(PATIENCE, connecting).await.unwrap().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("endpoint"), "{error}");
    server.wait_for_open_streams(0).await;
}

#[tokio::test]
async fn a_stream_that_begins_with_a_message_is_no_mcp() {
    let server = Server::start(Behaviour {
        endpoint: None,
        ..Behaviour::default()
    })
    .await;
    let connecting = tokio::spawn(connect(server.spec()));
    server.wait_for_open_streams(1).await;
    server.raw("data: hello\n\n");
    let error = connecting.await.unwrap().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("\"message\""), "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/sse", listener.local_addr().unwrap());
    drop(listener);
    let error = connect(HttpSpec::new(url)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn the_end_of_the_stream_ends_everything() {
    let server = Server::start(Behaviour {
        post_hangs: true,
        ..Behaviour::default()
    })
    .await;
    let mut transport = connect(server.spec()).await.unwrap();
    let pending = tokio::spawn(transport.send(ping(1)));
    server.wait_for_posts(1).await;
    server.raw("data: {\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}\n\n");
    server.end_stream();
    let error = timeout(PATIENCE, pending).await.unwrap().unwrap();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(receive(&mut transport).await.is_some(), "what came before");
    assert!(receive(&mut transport).await.is_none());
    assert!(receive(&mut transport).await.is_none());
    let failure = transport.monitor().failure().unwrap();
    assert!(
        failure.to_string().contains("ended the event stream"),
        "{failure}"
    );
    let error = transport.send(ping(2)).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent);
}

#[tokio::test]
async fn a_killed_server_ends_everything() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sse", listener.local_addr().unwrap());
    let connecting = tokio::spawn(connect(HttpSpec::new(url)));
    let (mut socket, _) = listener.accept().await.unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let event = "event: endpoint\ndata: /m\n\n";
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
    socket
        .write_all(format!("{head}{chunk}").as_bytes())
        .await
        .unwrap();
    let mut transport = connecting.await.unwrap().unwrap();
    drop((socket, listener));
    assert!(receive(&mut transport).await.is_none());
    let failure = transport.monitor().failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::ConnectionLost);
}

#[tokio::test]
async fn an_event_over_the_limit_ends_the_stream_with_a_clear_error() {
    let server = Server::start(Behaviour::default()).await;
    let mut policy = ServerPolicy::default();
    policy.limits.max_message_bytes = 1_000;
    let spec = ServerSpec::sse("fixture", server.spec())
        .unwrap()
        .with_policy(policy);
    let connector = SseConnector::new(HttpPool::new());
    let mut transport = connector
        .connect(mcpool_core::ConnectRequest::new(Arc::new(spec)))
        .await
        .unwrap();
    // It is never finished: it must be refused before it is held.
    server.raw(format!("data: {}", "x".repeat(1_000)));
    assert!(receive(&mut transport).await.is_none());
    let failure = transport.monitor().failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::TooLarge);
    assert!(failure.to_string().contains("1000 bytes"), "{failure}");
    server.wait_for_open_streams(0).await;
}

#[tokio::test]
async fn twenty_megabytes_pass_in_time() {
    let server = Server::start(Behaviour::default()).await;
    let mut transport = connect(server.spec()).await.unwrap();
    let text = "ü".repeat(10 * 1024 * 1024);
    let message = serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": {"text": text}});
    server.raw(format!("data: {message}\n\n"));
    let answer = receive(&mut transport).await.unwrap();
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer["result"]["text"].as_str().unwrap().len(), text.len());

    let mut big = serde_json::to_value(ping(2)).unwrap();
    big["method"] = "vendor/big".into();
    big["params"] = serde_json::json!({"text": text});
    transport
        .send(serde_json::from_value(big).unwrap())
        .await
        .unwrap();
    let posts = server.wait_for_posts(1).await;
    assert_eq!(
        posts[0]["params"]["text"].as_str().unwrap().len(),
        text.len()
    );
}

#[tokio::test]
async fn a_silent_stream_ends() {
    let server = Server::start(Behaviour::default()).await;
    let idle = Duration::from_millis(500);
    let started = tokio::time::Instant::now();
    let mut transport = connect(server.spec().with_read_idle_timeout(idle))
        .await
        .unwrap();
    assert!(receive(&mut transport).await.is_none());
    assert!(started.elapsed() >= idle);
    let failure = transport.monitor().failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::Timeout);
    assert!(
        failure.to_string().contains("read_idle_timeout"),
        "{failure}"
    );
    server.wait_for_open_streams(0).await;
}

#[tokio::test]
async fn a_refused_post_says_what_is_known() {
    for (status, kind, delivery, ends) in [
        (StatusCode::OK, None, Delivery::Answered, false),
        (
            StatusCode::BAD_REQUEST,
            Some(ErrorKind::HttpStatus),
            Delivery::Answered,
            false,
        ),
        (
            StatusCode::TOO_MANY_REQUESTS,
            Some(ErrorKind::RateLimited),
            Delivery::Rejected,
            false,
        ),
        (
            StatusCode::BAD_GATEWAY,
            Some(ErrorKind::HttpStatus),
            Delivery::Unknown,
            false,
        ),
        (
            StatusCode::NOT_FOUND,
            Some(ErrorKind::HttpStatus),
            Delivery::Rejected,
            true,
        ),
    ] {
        let server = Server::start(Behaviour {
            post_status: status,
            ..Behaviour::default()
        })
        .await;
        let mut transport = connect(server.spec()).await.unwrap();
        let result = transport.send(ping(1)).await;
        assert_eq!(
            result.as_ref().err().map(mcpool_core::Error::kind),
            kind,
            "{status}"
        );
        if let Err(error) = result {
            assert_eq!(error.delivery(), delivery, "{status}");
        }
        if ends {
            assert!(receive(&mut transport).await.is_none(), "{status}");
        }
        assert_eq!(transport.monitor().failure().is_some(), ends, "{status}");
    }
}

#[tokio::test]
async fn dropping_releases_sockets_tasks_and_pending_sends() {
    let server = Server::start(Behaviour {
        post_hangs: true,
        ..Behaviour::default()
    })
    .await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks_before = metrics.num_alive_tasks();
    let transport = connect(server.spec()).await.unwrap();
    let pending = tokio::spawn(transport.send(ping(1)));
    server.wait_for_posts(1).await;
    assert!(metrics.num_alive_tasks() > tasks_before);
    drop(transport);
    let error = timeout(PATIENCE, pending).await.unwrap().unwrap();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Closed);
    server.wait_for_open_streams(0).await;
    // The client is gone, so both its connections end, and with them the fixture's tasks.
    timeout(PATIENCE, async {
        while metrics.num_alive_tasks() > tasks_before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("no task is left");
}

#[tokio::test]
async fn receiving_is_cancel_safe() {
    let server = Server::start(Behaviour::default()).await;
    let mut transport = connect(server.spec()).await.unwrap();
    for id in 0..50 {
        // Polled once and dropped, again and again, while messages arrive.
        let sending = transport.send(ping(id));
        assert!(futures::poll!(transport.receive()).is_pending());
        sending.await.unwrap();
        let message = receive(&mut transport).await.unwrap();
        assert_eq!(serde_json::to_value(message).unwrap()["id"], id);
    }
}

#[derive(Debug, Default)]
struct Renewing {
    renewed: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl Authenticator for Renewing {
    async fn authorize(&self, _: AuthRequest<'_>) -> mcpool_core::Result<Vec<(String, Secret)>> {
        let token = match self.renewed.load(std::sync::atomic::Ordering::SeqCst) {
            true => "Bearer new",
            false => "Bearer old",
        };
        Ok(vec![("authorization".into(), token.into())])
    }

    async fn challenged(
        &self,
        _: AuthRequest<'_>,
        challenge: &AuthChallenge,
    ) -> mcpool_core::Result<AuthDecision> {
        assert_eq!(challenge.status, 401);
        assert_eq!(
            challenge.www_authenticate.as_deref(),
            Some("Bearer realm=\"test\"")
        );
        assert_eq!(challenge.refused.as_ref().unwrap().expose(), "Bearer old");
        self.renewed
            .store(true, std::sync::atomic::Ordering::SeqCst);
        Ok(AuthDecision::Retry)
    }
}

#[tokio::test]
async fn credentials_are_renewed_once_or_asked_for() {
    let server = Server::start(Behaviour {
        token: Some("Bearer new"),
        ..Behaviour::default()
    })
    .await;
    let error = connect(server.spec()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    assert_eq!(error.challenge(), Some("Bearer realm=\"test\""));

    let with_login = request(server.spec()).with_authenticator(Arc::new(Renewing::default()));
    let connector = SseConnector::new(HttpPool::new());
    let mut transport = connector.connect(with_login).await.unwrap();
    assert_eq!(server.gets(), 3, "one refused, one refused and repeated");
    transport.send(ping(1)).await.unwrap();
    assert!(receive(&mut transport).await.is_some());
    // The header of the spec does as well.
    let spec = server.spec().with_header("Authorization", "Bearer new");
    connect(spec).await.unwrap();
}

#[test]
fn dropping_without_a_runtime_is_fine() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, transport) = runtime.block_on(async {
        let server = Server::start(Behaviour::default()).await;
        let transport = connect(server.spec()).await.unwrap();
        (server, transport)
    });
    drop(runtime);
    drop(transport);
    drop(server);
}
