//! The transport against real sockets: what it does when all is well, and when it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod server;

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, Connector, Delivery, Error, ErrorKind,
    HttpSpec, Incoming, Notification, Raw, Secret, Transport, WireRequest,
};
use mcpool_http_pool::HttpPool;
use mcpool_sse::SseConnector;
use server::{Answers, Behaviour, PATIENCE, Server, connect, open, ping, request, within};
use tokio::time::timeout;

/// The end of the connection, which is a loss.
async fn loss(transport: &dyn Transport) -> Error {
    within(transport.closed()).await.expect("it was not closed")
}

fn asking(transport: &Arc<dyn Transport>) -> tokio::task::JoinHandle<mcpool_core::Result<Raw>> {
    let transport = Arc::clone(transport);
    tokio::spawn(async move {
        transport
            .request(WireRequest::new("ping", None), None)
            .await
    })
}

#[tokio::test]
async fn messages_go_both_ways() {
    let server = Server::start(Behaviour::default()).await;
    let transport = connect(server.spec()).await.unwrap();
    let asked: Vec<_> = (0..100).map(|_| asking(&transport)).collect();
    for asked in asked {
        assert_eq!(within(asked).await.unwrap().unwrap().get(), "{}");
    }
    let monitor = transport.monitor();
    assert_eq!(monitor.diagnostics().sent, 100);
    assert_eq!(monitor.diagnostics().received, 100);
    within(transport.close()).await.unwrap();
    within(transport.close()).await.unwrap();
    assert!(within(transport.closed()).await.is_none());
    assert!(monitor.failure().is_none());
    server.wait_for_open_streams(0).await;
    let error = ping(&*transport).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.delivery(), Delivery::NotSent);
}

#[tokio::test]
async fn odd_but_legal_streams_are_understood() {
    let server = Server::start(Behaviour {
        answers: Answers::Nowhere,
        ..Behaviour::default()
    })
    .await;
    let transport = connect(server.spec()).await.unwrap();
    let asked: Vec<_> = (0..3).map(|_| asking(&transport)).collect();
    server.wait_for_posts(3).await;
    server.raw(": comment\r\nid: 7\r\nretry: 10\r\ndata: {\"jsonrpc\":\"2.0\",\r\n");
    server.raw("data: \"id\":1,\"result\":{}}\r\n\r\nevent: ping\ndata: now\n\n");
    server.raw("data: not json\n\nunknown\nfield: x\n\n");
    server.raw("data: [{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}},");
    server.raw("{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{}}]\n\n");
    for asked in asked {
        within(asked).await.unwrap().unwrap();
    }
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!(diagnostics.skipped_samples, ["not json"]);
}

#[tokio::test]
async fn answers_in_the_answers_of_posts_are_taken() {
    for answers in [
        Answers::Body("application/json; charset=utf-8", ""),
        Answers::Body("text/plain", "\n "),
        Answers::Body("", "\u{feff}"),
        Answers::BodyStream,
    ] {
        let server = Server::start(Behaviour {
            answers,
            first: "event: ping\ndata: {}\n\n",
            ..Behaviour::default()
        })
        .await;
        let transport = connect(server.spec()).await.unwrap();
        for _ in 0..3 {
            ping(&*transport).await.unwrap();
        }
        let oddities = transport.monitor().diagnostics().oddities;
        assert!(
            oddities.iter().any(|it| it.contains("answers of POSTs")),
            "{oddities:?}"
        );
    }
}

#[tokio::test]
async fn the_answer_of_a_post_must_be_readable_only_where_it_may_be_the_message() {
    let encoded = |answers| Behaviour {
        answers,
        post_coding: "br",
        ..Behaviour::default()
    };
    let server = Server::start(encoded(Answers::Stream)).await;
    let transport = connect(server.spec()).await.unwrap();
    let note = Notification::new("notifications/initialized", None);
    // A request may be answered over the stream before its POST has failed.
    within(transport.notify(&note)).await.unwrap();
    ping(&*transport).await.unwrap();
    let server = Server::start(encoded(Answers::Body("application/json", ""))).await;
    let transport = connect(server.spec()).await.unwrap();
    let error = ping(&*transport).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.message().contains("\"br\""), "{error}");
}

#[tokio::test]
async fn a_url_that_is_no_stream_is_reported() {
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

#[tokio::test(start_paused = true)]
async fn a_stream_without_an_endpoint_is_given_up() {
    let server = Server::start(Behaviour {
        endpoint: None,
        ..Behaviour::default()
    })
    .await;
    let error = connect(server.spec()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("endpoint"), "{error}");
    server.wait_for_open_streams(0).await;
}

#[tokio::test]
async fn a_stream_that_ends_without_an_endpoint_is_no_mcp() {
    let server = Server::start(Behaviour {
        endpoint: None,
        ..Behaviour::default()
    })
    .await;
    let connecting = tokio::spawn(connect(server.spec()));
    server.wait_for_open_streams(1).await;
    server.raw("data: hello\n\n");
    server.end_stream();
    let error = within(connecting).await.unwrap().err().unwrap();
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
    let transport = connect(server.spec()).await.unwrap();
    let mut incoming = transport.incoming().unwrap();
    let pending = asking(&transport);
    server.wait_for_posts(1).await;
    server.raw("data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n");
    server.end_stream();
    let error = within(pending).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    let came = within(incoming.next()).await;
    assert!(matches!(came, Some(Incoming::Notification(_))), "{came:?}");
    assert!(within(incoming.next()).await.is_none());
    let failure = loss(&*transport).await;
    assert!(
        failure.to_string().contains("ended the event stream"),
        "{failure}"
    );
    let error = ping(&*transport).await.unwrap_err();
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
    let transport = connecting.await.unwrap().unwrap();
    drop((socket, listener));
    assert_eq!(loss(&*transport).await.kind(), ErrorKind::ConnectionLost);
}

#[tokio::test]
async fn an_event_over_the_limit_fails_its_request_only() {
    let server = Server::start(Behaviour {
        answers: Answers::Nowhere,
        ..Behaviour::default()
    })
    .await;
    let mut request = request(server.spec());
    request.limits.max_message_bytes = 1_000;
    let transport = open(request).await.unwrap();
    let (first, second) = (asking(&transport), asking(&transport));
    server.wait_for_posts(2).await;
    let long = "x".repeat(2_000);
    // It is reported before the event ends, so it is not held.
    server.raw(format!(
        "data: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"{long}"
    ));
    let error = within(first).await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::TooLarge, Delivery::Answered)
    );
    assert!(error.to_string().contains("1000 bytes"), "{error}");
    server.raw("\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":2}\n\n");
    assert_eq!(within(second).await.unwrap().unwrap().get(), "2");

    server.raw(format!("data: {{\"result\":\"{long}\"}}\n\n"));
    assert_eq!(loss(&*transport).await.kind(), ErrorKind::TooLarge);
    server.wait_for_open_streams(0).await;
}

#[tokio::test]
async fn twenty_megabytes_pass_in_time() {
    let server = Server::start(Behaviour {
        answers: Answers::Nowhere,
        ..Behaviour::default()
    })
    .await;
    let transport = connect(server.spec()).await.unwrap();
    let text = "ü".repeat(10 * 1024 * 1024);
    let params = Raw::of(&serde_json::json!({"text": text})).unwrap();
    let big = WireRequest::new("vendor/big", Some(&params));
    let answering = async {
        let posts = server.wait_for_posts(1).await;
        assert!(posts[0]["params"]["text"] == text.as_str());
        let message = serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": {"text": text}});
        server.raw(format!("data: {message}\n\n"));
    };
    let (answer, ()) = tokio::join!(within(transport.request(big, None)), answering);
    let answer: serde_json::Value = answer.unwrap().parse().unwrap();
    assert!(answer["text"] == text.as_str());
}

#[tokio::test]
async fn a_silent_stream_ends() {
    let server = Server::start(Behaviour::default()).await;
    let idle = Duration::from_millis(500);
    let started = tokio::time::Instant::now();
    let spec = server.spec().with_read_idle_timeout(idle);
    let transport = connect(spec).await.unwrap();
    let failure = loss(&*transport).await;
    assert!(started.elapsed() >= idle);
    assert_eq!(failure.kind(), ErrorKind::Timeout);
    assert!(
        failure.to_string().contains("read_idle_timeout"),
        "{failure}"
    );
    server.wait_for_open_streams(0).await;
}

#[tokio::test]
async fn a_refused_post_fails_its_request_alone() {
    for (status, kind, delivery) in [
        (
            StatusCode::BAD_REQUEST,
            ErrorKind::HttpStatus,
            Delivery::Answered,
        ),
        (
            StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::RateLimited,
            Delivery::Rejected,
        ),
        (
            StatusCode::BAD_GATEWAY,
            ErrorKind::HttpStatus,
            Delivery::Unknown,
        ),
        (
            StatusCode::NOT_FOUND,
            ErrorKind::HttpStatus,
            Delivery::Rejected,
        ),
        (StatusCode::GONE, ErrorKind::HttpStatus, Delivery::Rejected),
    ] {
        let server = Server::start(Behaviour {
            post_status: status,
            ..Behaviour::default()
        })
        .await;
        let transport = connect(server.spec()).await.unwrap();
        let error = ping(&*transport).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.delivery()),
            (kind, delivery),
            "{status}"
        );
        assert!(!transport.is_closed(), "{status}");
    }
}

#[tokio::test]
async fn one_lost_post_is_an_accident_and_two_in_a_row_are_a_lost_session() {
    let server = Server::start(Behaviour {
        lost: &[2, 4, 6, 7],
        ..Behaviour::default()
    })
    .await;
    let transport = connect(server.spec()).await.unwrap();
    // A notification has ended when the answer to its POST is known.
    let note = Notification::new("notifications/initialized", None);
    for post in 1..=6 {
        let notified = within(transport.notify(&note)).await;
        match notified {
            Ok(()) => assert!(post % 2 == 1, "{post}"),
            Err(error) => {
                assert!(post % 2 == 0, "{post}");
                assert_eq!(error.delivery(), Delivery::Rejected, "{post}");
            }
        }
        assert!(!transport.is_closed());
    }
    let last = ping(&*transport).await.unwrap_err();
    assert_eq!(
        (last.kind(), last.delivery()),
        (ErrorKind::ConnectionLost, Delivery::Rejected)
    );
    let failure = loss(&*transport).await;
    assert!(failure.message().contains("session"), "{failure}");
}

#[tokio::test]
async fn a_lost_session_is_known_in_whatever_words() {
    for (status, words) in [
        (StatusCode::GONE, ""),
        (StatusCode::BAD_REQUEST, "No transport found for sessionId"),
        (
            StatusCode::BAD_REQUEST,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Session not found"}}"#,
        ),
        (StatusCode::CONFLICT, "unknown session"),
    ] {
        let server = Server::start(Behaviour {
            lost: &[1, 2],
            lost_answer: (status, words),
            ..Behaviour::default()
        })
        .await;
        let transport = connect(server.spec()).await.unwrap();
        let first = ping(&*transport).await.unwrap_err();
        assert_eq!(first.delivery(), Delivery::Rejected, "{status} {words}");
        assert!(!transport.is_closed(), "{status} {words}");
        let second = ping(&*transport).await.unwrap_err();
        assert_eq!(second.delivery(), Delivery::Rejected, "{status} {words}");
        let failure = loss(&*transport).await;
        assert_eq!(
            failure.kind(),
            ErrorKind::ConnectionLost,
            "{status} {words}"
        );
    }
}

#[tokio::test]
async fn a_refused_post_says_what_the_server_says() {
    let server = Server::start(Behaviour {
        lost: &[1],
        lost_answer: (StatusCode::UNPROCESSABLE_ENTITY, "the body is too deep"),
        ..Behaviour::default()
    })
    .await;
    let transport = connect(server.spec()).await.unwrap();
    let error = ping(&*transport).await.unwrap_err();
    assert!(error.message().contains("the body is too deep"), "{error}");
    ping(&*transport).await.unwrap();
}

#[tokio::test]
async fn a_dropped_request_is_posted_whole_and_cancelled() {
    let server = Server::start(Behaviour {
        answers: Answers::Nowhere,
        ..Behaviour::default()
    })
    .await;
    let transport = connect(server.spec()).await.unwrap();
    let asked = asking(&transport);
    server.wait_for_posts(1).await;
    asked.abort();
    let posts = server.wait_for_posts(2).await;
    assert_eq!(posts[1]["method"], "notifications/cancelled");
    assert_eq!(posts[1]["params"]["requestId"], posts[0]["id"]);
}

#[tokio::test]
async fn dropping_releases_sockets_and_tasks() {
    let server = Server::start(Behaviour {
        post_hangs: true,
        ..Behaviour::default()
    })
    .await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks_before = metrics.num_alive_tasks();
    let transport = connect(server.spec()).await.unwrap();
    let pending = asking(&transport);
    server.wait_for_posts(1).await;
    assert!(metrics.num_alive_tasks() > tasks_before);
    pending.abort();
    let _ = pending.await;
    drop(transport);
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
    let transport = connector.connect(with_login).await.unwrap();
    assert_eq!(server.gets(), 3, "one refused, one refused and repeated");
    ping(&*transport).await.unwrap();
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
