//! Two gateways of one pool, with the same keys, that know each other: any of them may get any
//! request, and what one of them keeps is reached through the other.

use std::sync::Arc;

use mcpool_client::StandardFactory;
use mcpool_core::{HttpSpec, ServerSpec};
use mcpool_gateway::{Gateway, HttpOptions, HttpServer, Limits, Relay, SealingKeys};
use mcpool_manager::ConnectionManager;
use mcpool_testkit::{Behavior, Era, fixtures::http::HttpFixture};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{PATIENCE, by_hand, initialize, of_era, tool_call};

/// One of the two.
struct Replica {
    url: String,
    gateway: Gateway,
    _serving: AbortOnDropHandle<()>,
}

/// Two gateways, each with connections of its own to one server.
struct Pair {
    server: HttpFixture,
    first: Replica,
    second: Replica,
}

async fn replica(server: &HttpFixture, options: HttpOptions) -> Replica {
    replica_at(server, options, "127.0.0.1:0").await
}

/// One at an address that another one may be about to leave.
async fn replica_at(server: &HttpFixture, options: HttpOptions, address: &str) -> Replica {
    let relay = Relay::new().with_sampling(true).with_roots(true);
    let factory = StandardFactory::new().with_handler(Arc::new(relay));
    let manager = ConnectionManager::new(Arc::new(factory));
    let spec = ServerSpec::http("files", HttpSpec::new(server.url())).unwrap();
    manager
        .start(vec![spec])
        .await
        .unwrap()
        .all_connected()
        .unwrap();
    let listener = tokio::time::timeout(PATIENCE, async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let listener = listener.await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Gateway::builder(manager)
        .with_keys(SealingKeys::from_text(&"07".repeat(32)).unwrap())
        .with_advertised(&origin)
        .unwrap()
        .build();
    let router = gateway.router(options);
    let serving = tokio::spawn({
        let gateway = gateway.clone();
        async move {
            let server = HttpServer::new();
            server.serve(&gateway, listener, router).await.unwrap();
        }
    });
    Replica {
        url: format!("{origin}/mcp"),
        gateway,
        _serving: AbortOnDropHandle::new(serving),
    }
}

impl Pair {
    async fn new(behavior: Behavior) -> Self {
        Self::with(behavior, HttpOptions::new()).await
    }

    async fn with(behavior: Behavior, options: HttpOptions) -> Self {
        let server = HttpFixture::start(behavior).unwrap();
        Self {
            first: replica(&server, options.clone()).await,
            second: replica(&server, options).await,
            server,
        }
    }
}

impl Replica {
    async fn post(&self, token: &str, body: &Value) -> Response {
        let mut request = by_hand()
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .json(body);
        if !token.is_empty() {
            request = request.header("mcp-session-id", token);
        }
        tokio::time::timeout(PATIENCE, request.send())
            .await
            .unwrap()
            .unwrap()
    }

    /// Where it listens.
    fn address(&self) -> String {
        let url = reqwest::Url::parse(&self.url).unwrap();
        let port = url.port().unwrap();
        format!("{}:{port}", url.host_str().unwrap())
    }

    /// Begins a session that is this one's.
    async fn begin(&self) -> String {
        let begun = self.post("", &initialize()).await;
        begun.headers()["mcp-session-id"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    async fn listen(&self, token: &str) -> Response {
        let request = by_hand()
            .get(&self.url)
            .header("accept", "text/event-stream")
            .header("mcp-session-id", token);
        request.send().await.unwrap()
    }

    /// Goes on with, or begins, a call of a newer client.
    async fn modern(&self, state: Option<&str>) -> Value {
        let mut body = tool_call(1, "files__ask", json!({"method": "roots/list"}));
        body["params"]["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
        });
        if let Some(state) = state {
            body["params"]["requestState"] = state.into();
            body["params"]["inputResponses"] = json!({"question": {"roots": []}});
        }
        let request = by_hand()
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "files__ask")
            .json(&body);
        request.send().await.unwrap().json().await.unwrap()
    }
}

/// The next message of a stream of events.
async fn event(response: &mut Response) -> Value {
    let mut text = String::new();
    let read = async {
        loop {
            let chunk = response.chunk().await.unwrap().expect("the stream ended");
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            let mut data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            if let Some(message) = data
                .next_back()
                .and_then(|data| serde_json::from_str(data).ok())
            {
                return message;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

async fn json_of(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_session_is_served_by_either_and_ended_by_either() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    let token = pair.first.begin().await;
    let add = tool_call(1, "files__add", json!({"a": 1, "b": 2}));
    for replica in [&pair.first, &pair.second] {
        let answer = json_of(replica.post(&token, &add).await).await;
        assert_eq!(answer["result"]["content"][0]["text"], "3", "{answer}");
    }
    let ended = by_hand()
        .delete(&pair.second.url)
        .header("mcp-session-id", &token);
    assert_eq!(ended.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    for replica in [&pair.first, &pair.second] {
        let answer = replica.post(&token, &add).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_question_is_answered_through_the_other() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    let token = pair.first.begin().await;
    let ask = tool_call(1, "files__ask", json!({"method": "roots/list"}));
    for (asking, answering) in [(&pair.first, &pair.second), (&pair.second, &pair.first)] {
        let mut running = asking.post(&token, &ask).await;
        let question = event(&mut running).await;
        assert_eq!(question["method"], "roots/list", "{question}");
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
        let taken = answering.post(&token, &answer).await;
        assert_eq!(taken.status(), StatusCode::ACCEPTED);
        let done = event(&mut running).await;
        let roots = &done["result"]["structuredContent"]["result"]["roots"];
        assert_eq!(*roots, json!([]), "{done}");
    }
}

#[tokio::test]
async fn an_answer_reaches_a_replica_that_was_down_just_now() {
    let Pair {
        server,
        first,
        second,
    } = Pair::new(of_era(Era::Legacy)).await;
    let token = first.begin().await;
    let address = first.address();
    drop(first);
    // It finds out that the first one is gone.
    let add = tool_call(1, "files__add", json!({"a": 1, "b": 2}));
    json_of(second.post(&token, &add).await).await;
    let first = replica_at(&server, HttpOptions::new(), &address).await;
    let ask = tool_call(2, "files__ask", json!({"method": "roots/list"}));
    let mut running = first.post(&token, &ask).await;
    let question = event(&mut running).await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
    second.post(&token, &answer).await;
    let done = event(&mut running).await;
    let roots = &done["result"]["structuredContent"]["result"]["roots"];
    assert_eq!(*roots, json!([]), "{done}");
}

#[tokio::test]
async fn what_a_session_subscribes_to_is_said_on_its_stream() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    let token = pair.first.begin().await;
    let mut stream = pair.second.listen(&token).await;
    assert_eq!(stream.status(), StatusCode::OK);
    let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe",
        "params": {"uri": "fixture://one"}});
    let subscribed = json_of(pair.second.post(&token, &subscribe).await).await;
    assert!(subscribed["result"].is_object(), "{subscribed}");
    let touch = tool_call(2, "files__touch", json!({"uri": "fixture://one"}));
    json_of(pair.second.post(&token, &touch).await).await;
    // Lists may change meanwhile, which is said as well.
    let mut told = event(&mut stream).await;
    while told["method"] != "notifications/resources/updated" {
        told = event(&mut stream).await;
    }
    assert_eq!(told["params"]["uri"], "fixture://one");
}

#[tokio::test]
async fn a_call_is_cancelled_through_the_other() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    let token = pair.first.begin().await;
    let hang = tool_call(7, "files__hang", json!({}));
    let (first, sent) = (pair.first.url.clone(), token.clone());
    let running = tokio::spawn(async move {
        let request = by_hand()
            .post(first)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-session-id", sent)
            .json(&hang);
        request.send().await.unwrap().status()
    });
    while pair.server.seen()["calls"] == 0 {
        tokio::task::yield_now().await;
    }
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": 7}});
    let taken = pair.second.post(&token, &cancel).await;
    assert_eq!(taken.status(), StatusCode::ACCEPTED);
    let status = tokio::time::timeout(PATIENCE, running)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_parked_call_goes_on_through_the_other() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    let asked = pair.first.modern(None).await;
    let state = asked["result"]["requestState"].as_str().unwrap();
    let done = pair.second.modern(Some(state)).await;
    let roots = &done["result"]["structuredContent"]["result"]["roots"];
    assert_eq!(*roots, json!([]), "{done}");
}

#[tokio::test]
async fn a_session_goes_on_without_its_replica() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    let Pair {
        server: _server,
        first,
        second,
    } = pair;
    let token = first.begin().await;
    drop(first);
    let add = tool_call(1, "files__add", json!({"a": 1, "b": 2}));
    let answer = json_of(second.post(&token, &add).await).await;
    assert_eq!(answer["result"]["content"][0]["text"], "3", "{answer}");
    assert_eq!(second.listen(&token).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_answer_that_is_lost_with_its_replica_is_said_to_be_unknown() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    let Pair {
        server,
        first,
        second,
    } = pair;
    let token = first.begin().await;
    let hang = tool_call(7, "files__hang", json!({}));
    let running = tokio::spawn(async move { second.post(&token, &hang).await });
    while server.seen()["calls"] == 0 {
        tokio::task::yield_now().await;
    }
    drop(first);
    let answer = tokio::time::timeout(PATIENCE, running)
        .await
        .unwrap()
        .unwrap();
    let answer = json_of(answer).await;
    assert_eq!(answer["id"], 7);
    let meta = &answer["result"]["_meta"];
    assert_eq!(meta["mcpool/delivery"], "unknown", "{answer}");
}

#[tokio::test]
async fn nobody_else_makes_a_hop() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    for hop in ["", "AAAA", &pair.first.begin().await] {
        let request = by_hand()
            .post(&pair.first.url)
            .header("accept", "application/json")
            .header("mcpool-hop", hop)
            .json(&initialize());
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::FORBIDDEN
        );
    }
}

#[tokio::test]
async fn a_replica_that_ends_waits_for_what_another_runs_and_sends_nothing_on() {
    let pair = Pair::new(of_era(Era::Legacy)).await;
    let token = pair.first.begin().await;
    let ask = tool_call(7, "files__ask", json!({"method": "roots/list"}));
    let mut running = pair.second.post(&token, &ask).await;
    let question = event(&mut running).await;
    assert_eq!(question["method"], "roots/list", "{question}");
    let gateway = pair.second.gateway.clone();
    let ending = tokio::spawn(async move { gateway.drain(PATIENCE).await });
    while !pair.second.gateway.is_draining() {
        tokio::task::yield_now().await;
    }
    let echo = tool_call(8, "files__echo", json!({"message": "late"}));
    for late in [echo.clone(), json!([echo])] {
        let refused = pair.second.post(&token, &late).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(pair.server.seen()["calls"], 1);
    assert!(!ending.is_finished());
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
    let taken = pair.second.post(&token, &answer).await;
    assert_eq!(taken.status(), StatusCode::ACCEPTED);
    let done = event(&mut running).await;
    assert_eq!(done["id"], 7, "{done}");
    assert!(done["result"].is_object(), "{done}");
    drop(running);
    let in_time = tokio::time::timeout(PATIENCE, ending).await.unwrap();
    assert!(in_time.unwrap());
}

#[tokio::test]
async fn an_answer_gets_through_when_every_place_is_taken() {
    let options = HttpOptions::new().with_limits(Limits::new().with_in_flight(1));
    let pair = Pair::with(of_era(Era::Legacy), options).await;
    let token = pair.first.begin().await;
    let ask = tool_call(7, "files__ask", json!({"method": "roots/list"}));
    let mut running = pair.second.post(&token, &ask).await;
    let question = event(&mut running).await;
    let echo = tool_call(8, "files__echo", json!({"message": "x"}));
    let refused = pair.second.post(&token, &echo).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
    let taken = pair.second.post(&token, &answer).await;
    assert_eq!(taken.status(), StatusCode::ACCEPTED);
    assert_eq!(event(&mut running).await["id"], 7);
}

#[tokio::test]
async fn a_session_that_was_ended_while_its_replica_was_down_stays_ended() {
    let Pair {
        server,
        first,
        second,
    } = Pair::new(of_era(Era::Legacy)).await;
    let token = first.begin().await;
    let address = first.address();
    drop(first);
    let ended = by_hand()
        .delete(&second.url)
        .header("mcp-session-id", &token);
    assert_eq!(ended.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    let add = tool_call(1, "files__add", json!({"a": 1, "b": 2}));
    let refused = second.post(&token, &add).await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    let first = replica_at(&server, HttpOptions::new(), &address).await;
    let known = async {
        while first.post(&token, &add).await.status() != StatusCode::NOT_FOUND {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
}
