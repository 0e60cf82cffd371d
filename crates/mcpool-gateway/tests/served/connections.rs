//! Connections that are slow, idle, too many, speak TLS, or break.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
    response::Response,
};
use futures::StreamExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use mcpool_gateway::{AuditOutcome, Gateway, HttpOptions, HttpServer, Tls};
use mcpool_testkit::Era;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::support::{PATIENCE, Served, audited, initialize, tool_call};

/// Short, and long enough for a loaded machine to send a request at once.
const SHORT: Duration = Duration::from_millis(500);

const PROBE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    // A connection that is reset has ended as well.
    let _ = read.expect("the connection stays open");
    String::from_utf8(text).unwrap()
}

/// Connects again and again, until there is a place.
async fn until_admitted(address: &str) {
    let admitted = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let probe = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            // It may be closed before all of it was written.
            let _ = stream.write_all(probe).await;
            if rest(stream).await.starts_with("HTTP/1.1 200 ") {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, admitted).await.unwrap();
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_connection() {
    let served = Served::one(Era::Legacy).await;
    let server = HttpServer::new().with_header_timeout(SHORT);
    let served = served.again(HttpOptions::new(), server).await;
    for part in ["", "POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-slow: "] {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        let said = rest(stream).await;
        assert!(!said.contains("200"), "{said}");
    }
    // One that has been served is closed when nothing more comes.
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    stream.write_all(PROBE).await.unwrap();
    assert!(rest(stream).await.ends_with("alive\n"));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused() {
    let served = Served::one(Era::Legacy).await;
    let options = HttpOptions::new().with_body_timeout(SHORT);
    let served = served.again(options, HttpServer::new()).await;
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 100\r\nconnection: close\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let said = rest(stream).await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(said.contains("too slowly"), "{said}");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_connection() {
    let served = Served::one(Era::Legacy).await;
    let server = HttpServer::new()
        .with_max_connections(1)
        .with_write_timeout(SHORT);
    let served = served.again(HttpOptions::new(), server).await;
    let mut deaf = TcpStream::connect(&served.address).await.unwrap();
    // Until the answers fill the buffers of both ends, and nothing is read any more.
    while let Ok(written) =
        tokio::time::timeout(SHORT / 2, deaf.write_all(&PROBE.repeat(100))).await
    {
        if written.is_err() {
            break;
        }
    }
    // Its place is free again.
    until_admitted(&served.address).await;
}

#[tokio::test]
async fn a_connection_too_many_is_turned_away_until_another_ends() {
    let served = Served::one(Era::Legacy).await;
    let server = HttpServer::new().with_max_connections(20);
    let served = served.again(HttpOptions::new(), server).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        stream.write_all(PROBE).await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        idle.push(stream);
    }
    let refused = rest(TcpStream::connect(&served.address).await.unwrap()).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    idle.pop();
    until_admitted(&served.address).await;
}

#[tokio::test]
async fn tls_is_spoken_with_the_certificate_of_the_moment() {
    let pair = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert, made.signing_key.serialize_pem())
    };
    let ((first, first_key), (second, second_key)) = (pair(), pair());
    let tls =
        |cert: &rcgen::Certificate, key: &str| Tls::from_pem(cert.pem().as_bytes(), key.as_bytes());
    assert!(
        tls(&first, &second_key).is_err(),
        "they do not belong together"
    );
    assert!(Tls::from_pem(b"", first_key.as_bytes()).is_err());
    let current = tls(&first, &first_key).unwrap();
    let served = Served::one(Era::Legacy).await;
    let server = HttpServer::new().with_tls(current.clone());
    let served = served.again(HttpOptions::new(), server).await;
    let connect = async |trusted: &rcgen::Certificate| {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(&served.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        let probe = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(probe).await?;
        Ok::<_, std::io::Error>(rest(stream).await)
    };
    assert!(connect(&first).await.unwrap().ends_with("alive\n"));
    assert!(connect(&second).await.is_err());
    current.replace(&tls(&second, &second_key).unwrap());
    assert!(connect(&second).await.unwrap().ends_with("alive\n"));
    assert!(connect(&first).await.is_err());
    // One that speaks no TLS is not served.
    let mut plain = TcpStream::connect(&served.address).await.unwrap();
    plain.write_all(PROBE).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await;
    let _ = read.unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("alive"));
}

/// A POST of a message, which breaks when it is dropped.
fn post(
    router: &Router,
    headers: &[(&'static str, String)],
    message: &Value,
) -> impl Future<Output = Response> + Unpin {
    let mut request = Request::post("/mcp")
        .header("host", "localhost")
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Body::from(message.to_string())).unwrap();
    let answer = TowerToHyperService::new(router.clone()).call(request);
    Box::pin(async move { answer.await.unwrap() })
}

/// The headers of a request of each era, the older one first.
async fn of_both_eras(router: &Router, tool: &str) -> [Vec<(&'static str, String)>; 2] {
    let begun = post(router, &[], &initialize()).await;
    let session = begun.headers()["mcp-session-id"].to_str().unwrap();
    let newer = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", tool),
    ];
    [
        vec![("mcp-session-id", session.to_owned())],
        newer.map(|(name, value)| (name, value.to_owned())).into(),
    ]
}

fn call_of(is_newer: bool, tool: &str, arguments: Value) -> Value {
    let mut call = tool_call(7, tool, arguments);
    if is_newer {
        call["params"]["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}});
    }
    call
}

#[tokio::test]
async fn a_connection_that_breaks_cancels_the_request_of_a_newer_client_alone() {
    let tool = "files__slow";
    for streams in [false, true] {
        let served = Served::one(Era::Legacy).await;
        let (builder, audit) = audited(Gateway::builder(served.manager.clone()));
        let router = builder.build().router(HttpOptions::new());
        let eras = of_both_eras(&router, tool).await;
        for (headers, is_newer) in eras.iter().zip([false, true]) {
            // That of the newer one does not end by itself.
            let steps = if is_newer { 1_000_000 } else { 20 };
            let arguments = json!({"steps": steps, "step_ms": 10});
            let mut call = call_of(is_newer, tool, arguments);
            if streams {
                call["params"]["_meta"]["progressToken"] = json!("p");
            }
            let mut answer = post(&router, headers, &call);
            if streams {
                let mut said = answer.await.into_body().into_data_stream();
                let first = tokio::time::timeout(PATIENCE, said.next()).await.unwrap();
                let first = String::from_utf8(first.unwrap().unwrap().to_vec()).unwrap();
                assert!(first.contains("notifications/progress"), "{first}");
            } else {
                let calls = if is_newer { 2 } else { 1 };
                tokio::select! {
                    biased;
                    () = served.seen("calls", calls) => {}
                    answer = &mut answer => panic!("{answer:?}"),
                }
                drop(answer);
            }
            let wanted = match is_newer {
                true => AuditOutcome::Cancelled,
                false => AuditOutcome::Good,
            };
            let ended = async {
                loop {
                    if let Some(entry) = audit.lock().unwrap().pop() {
                        break entry.outcome;
                    }
                    tokio::task::yield_now().await;
                }
            };
            let outcome = tokio::time::timeout(PATIENCE, ended).await.unwrap();
            assert_eq!(outcome, wanted, "streams: {streams}");
        }
    }
}

#[tokio::test]
async fn a_request_that_panics_is_answered_all_the_same() {
    let served = Served::one(Era::Legacy).await;
    let builder = Gateway::builder(served.manager.clone());
    let builder = builder.with_audit(|_| panic!("as planned"));
    let router = builder.build().router(HttpOptions::new());
    let tool = "files__echo";
    let eras = of_both_eras(&router, tool).await;
    for (headers, is_newer) in eras.iter().zip([false, true]) {
        let call = call_of(is_newer, tool, json!({"message": "hi"}));
        let answer = tokio::time::timeout(PATIENCE, post(&router, headers, &call)).await;
        let answer = to_bytes(answer.unwrap().into_body(), 10_000).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["id"], 7);
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_said_to_be_too_long_is_not_waited_for() {
    let served = Served::one(Era::Legacy).await;
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    let head = format!("{head}content-length: 99999999999\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await;
    read.expect("it is waited for").unwrap();
    assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 413");
}

#[tokio::test]
async fn a_request_names_one_host() {
    let served = Served::one(Era::Legacy).await;
    let two = "host: localhost\r\nhost: localhost\r\n";
    for (version, hosts, status) in [("1.1", "", "400"), ("1.1", two, "400"), ("1.0", "", "200")] {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        let head = format!("GET / HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        let said = answer.split(' ').nth(1);
        assert_eq!(said, Some(status), "HTTP/{version} {hosts:?}: {answer}");
    }
}
