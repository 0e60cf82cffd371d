//! How much one principal may ask for.

use mcpool_core::StateKind;
use mcpool_gateway::{AccessKeys, Grant, HttpOptions, HttpServer, Limits};
use mcpool_testkit::Era;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{PATIENCE, Served, ping, status, tool_call};

#[tokio::test]
async fn a_client_that_floods_is_refused_and_nobody_else_is() {
    let served = Served::one(Era::Legacy).await;
    let slow = Grant::new("slow").unwrap().with_rate(3);
    let (slow, of_slow) = AccessKeys::issue(&slow);
    let (other, of_other) = AccessKeys::issue(&Grant::new("other").unwrap());
    let keys = AccessKeys::read(&format!("{of_slow}\n{of_other}")).unwrap();
    let options = HttpOptions::new().with_keys(keys);
    let served = served.again(options, HttpServer::new()).await;
    let session = served.token("/mcp", slow.expose()).await;
    let echo = |id| tool_call(id, "files__echo", json!({"message": "hi"}));
    let flood = (0..40).map(|id| {
        let request = served.post("/mcp", slow.expose(), &echo(id));
        request.header("mcp-session-id", &session).send()
    });
    let mut refused = 0;
    for answer in futures::future::join_all(flood).await {
        let answer = answer.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let wait: u64 = answer.headers()["retry-after"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            let said: Value = answer.json().await.unwrap();
            assert!(
                said["error"]["message"]
                    .as_str()
                    .unwrap()
                    .contains("not run")
            );
            refused += 1;
        }
    }
    assert!(refused > 0, "nobody was refused");
    let session = served.token("/mcp", other.expose()).await;
    let request = served.post("/mcp", other.expose(), &echo(0));
    let request = request.header("mcp-session-id", &session);
    assert_eq!(status(request).await, StatusCode::OK);
    // What was refused reached no server, and says nothing of its health.
    let calls = served.servers[0].seen()["calls"].as_u64().unwrap();
    assert_eq!(calls, 40 - refused + 1);
    let server = served.manager.server("files").unwrap();
    assert_eq!(server.status().unwrap().state, StateKind::Ready);
}

#[tokio::test]
async fn requests_at_once_are_bounded_and_answers_are_no_requests() {
    let served = Served::one(Era::Legacy).await;
    let options = HttpOptions::new().with_limits(Limits::new().with_in_flight(1));
    let served = served.again(options, HttpServer::new()).await;
    let session = served.token("/mcp", "").await;
    let with = |body: &Value| {
        let request = served.post("/mcp", "", body);
        request.header("mcp-session-id", &session)
    };
    let hang = with(&tool_call(7, "files__hang", json!({})));
    let running = tokio::spawn(async move { status(hang).await });
    served.seen("calls", 1).await;
    let refused = with(&ping()).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["id"], 1);
    // Another session of the same principal has no other place.
    let token = served.token("/mcp", "").await;
    let other = served.post("/mcp", "", &ping());
    let other = other.header("mcp-session-id", token);
    assert_eq!(status(other).await, StatusCode::TOO_MANY_REQUESTS);
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": 7}});
    assert_eq!(status(with(&cancel)).await, StatusCode::ACCEPTED);
    assert_eq!(running.await.unwrap(), StatusCode::ACCEPTED);
    assert_eq!(status(with(&ping())).await, StatusCode::OK);
}

/// Answers that nobody reads are far more than the sockets of both ends take.
const UNREAD: usize = 24 * 1024 * 1024;

#[tokio::test]
async fn who_does_not_read_answers_begins_nothing_new() {
    let served = Served::one(Era::Legacy).await;
    let options = HttpOptions::new().with_limits(Limits::new().with_max_unread_bytes(1_000));
    let served = served.again(options, HttpServer::new()).await;
    let session = served.token("/mcp", "").await;
    let with = |body: &Value| {
        let request = served.post("/mcp", "", body);
        request.header("mcp-session-id", &session)
    };
    assert_eq!(status(with(&ping())).await, StatusCode::OK);
    let body = tool_call(7, "files__big", json!({"bytes": UNREAD})).to_string();
    let call = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         mcp-session-id: {session}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut deaf = TcpStream::connect(&served.address).await.unwrap();
    deaf.write_all(call.as_bytes()).await.unwrap();
    let becomes = async |wanted| {
        let looking = async {
            loop {
                let answer = with(&ping()).send().await.unwrap();
                if answer.status() == wanted {
                    return answer;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap()
    };
    let refused = becomes(StatusCode::TOO_MANY_REQUESTS).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    let refused: Value = refused.json().await.unwrap();
    let said = refused["error"]["message"].as_str().unwrap();
    assert!(said.contains("wait to be read"), "{said}");
    // What ran is answered in full, and then there is room again.
    let mut answer = Vec::new();
    deaf.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.len() > UNREAD);
    becomes(StatusCode::OK).await;
    // So there is when the connection of one that does not read breaks.
    let mut deaf = TcpStream::connect(&served.address).await.unwrap();
    deaf.write_all(call.as_bytes()).await.unwrap();
    becomes(StatusCode::TOO_MANY_REQUESTS).await;
    drop(deaf);
    becomes(StatusCode::OK).await;
}

#[tokio::test]
async fn a_key_has_its_own_body_size() {
    let served = Served::one(Era::Legacy).await;
    let small = Grant::new("small").unwrap().with_max_body_bytes(500);
    let (small, line) = AccessKeys::issue(&small);
    let options = HttpOptions::new().with_keys(AccessKeys::read(&line).unwrap());
    let served = served.again(options, HttpServer::new()).await;
    let session = served.token("/mcp", small.expose()).await;
    let long = tool_call(1, "files__echo", json!({"message": "x".repeat(1_000)}));
    let long = served.post("/mcp", small.expose(), &long);
    let long = long.header("mcp-session-id", session);
    assert_eq!(status(long).await, StatusCode::PAYLOAD_TOO_LARGE);
}
