//! What a call costs: mcpool-http, rmcp's own HTTP client, and bare reqwest as the floor.
//!
//! `cargo bench -p mcpool-http --bench http [-- CALLS ROUNDS]`
//!
//! All three talk to one minimal JSON MCP server on loopback, in one process, in turns that are
//! interleaved, so that whatever else the machine does hits them alike. Each figure is the median
//! over the rounds of the time a call takes: one after the other, and 32 at a time. The last
//! lines are the ratios. A call one by one wakes threads that sleep, on the way there and back;
//! what that costs depends on the machine and on what else it does, is the same for all three,
//! and moves the ratios towards one.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::post};
use futures::{StreamExt, stream};
use mcpool_core::{ConnectRequest, Connector, HttpSpec, IncomingMessage, ServerSpec, Transport};
use mcpool_http::HttpConnector;
use mcpool_http_pool::{ClientSettings, HttpPool};
use rmcp::{
    RoleClient, ServiceExt,
    model::CallToolRequestParams,
    service::{Peer, RunningService, RxJsonRpcMessage, TxJsonRpcMessage},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};

const IN_FLIGHT: usize = 32;

/// The most that a sequential call should take of what it takes with rmcp's own client.
const WANTED_RATIO: f64 = 0.5;

fn main() {
    // rmcp's own client wants a default for the whole process, though the benchmark has no TLS.
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().unwrap();
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let calls = numbers.next().unwrap_or(500);
    let rounds = numbers.next().unwrap_or(15);
    // The server has a runtime of its own, as a real one has a process of its own.
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let url = server.block_on(serve());
    let client = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    client.block_on(async { client.spawn(run(url, calls, rounds)).await.unwrap() });
    server.shutdown_background();
}

/// A server that answers as fast as HTTP and JSON allow.
async fn serve() -> String {
    use axum::serve::ListenerExt;
    let app = Router::new().route("/mcp", post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let listener = listener.tap_io(|io| io.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn answer(Json(message): Json<Value>) -> axum::response::Response {
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "minimal", "version": "1"},
        }),
        Some("tools/call") => json!({"content": [{"type": "text", "text": "hi"}]}),
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

type Call<'a> = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'a>;

struct Contender {
    name: &'static str,
    call: Call<'static>,
    one: Vec<f64>,
    many: Vec<f64>,
}

impl Contender {
    fn new(name: &'static str, call: Call<'static>) -> Self {
        Self {
            name,
            call,
            one: Vec::new(),
            many: Vec::new(),
        }
    }

    async fn measure(&mut self, calls: usize) {
        let started = Instant::now();
        for _ in 0..calls {
            (self.call)().await;
        }
        self.one.push(micros(started.elapsed(), calls));
        let started = Instant::now();
        stream::iter(0..calls)
            .map(|_| (self.call)())
            .buffer_unordered(IN_FLIGHT)
            .collect::<()>()
            .await;
        self.many.push(micros(started.elapsed(), calls));
    }
}

fn micros(time: Duration, calls: usize) -> f64 {
    time.as_secs_f64() * 1e6 / calls as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

async fn run(url: String, calls: usize, rounds: usize) {
    let ours = session(Ours::connect(&url).await).await;
    let theirs = session(StreamableHttpClientTransport::from_uri(url.as_str())).await;
    let mut contenders = [
        Contender::new("mcpool-http", caller(&ours)),
        Contender::new("rmcp's own client", caller(&theirs)),
        Contender::new("bare reqwest", bare(&url).await),
    ];
    for contender in &mut contenders {
        contender.measure(calls.min(100)).await;
        contender.one.clear();
        contender.many.clear();
    }
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            // Another one begins in each round.
            let at = (round + turn) % contenders.len();
            contenders[at].measure(calls).await;
        }
    }
    println!("{rounds} rounds of {calls} calls on loopback; medians, µs a call");
    println!(
        "{:<20} {:>12} {:>14}",
        "",
        "one by one",
        format!("{IN_FLIGHT} at a time")
    );
    for contender in &contenders {
        let (one, many) = (median(&contender.one), median(&contender.many));
        println!("{:<20} {one:>12.1} {many:>14.1}", contender.name);
    }
    let ratio = |pick: fn(&Contender) -> &[f64], other: usize| {
        median(pick(&contenders[0])) / median(pick(&contenders[other]))
    };
    let one = ratio(|contender| &contender.one, 1);
    println!(
        "mcpool-http to rmcp's own client: one by one {one:.2}, {IN_FLIGHT} at a time {:.2}",
        ratio(|contender| &contender.many, 1)
    );
    println!(
        "mcpool-http to bare reqwest:      one by one {:.2}, {IN_FLIGHT} at a time {:.2}",
        ratio(|contender| &contender.one, 2),
        ratio(|contender| &contender.many, 2)
    );
    let word = match one <= WANTED_RATIO {
        true => "kept",
        false => "missed",
    };
    println!("wanted: at most {WANTED_RATIO} of rmcp's own client, one by one: {word}");
}

type Session = RunningService<RoleClient, ()>;

/// The same session on either transport: what differs is the transport alone.
async fn session<T, E>(transport: T) -> Session
where
    T: rmcp::transport::Transport<RoleClient, Error = E> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    ().serve(transport).await.unwrap()
}

fn caller(session: &Session) -> Call<'static> {
    let peer: Peer<RoleClient> = session.peer().clone();
    Box::new(move || {
        let peer = peer.clone();
        Box::pin(async move {
            let mut params = CallToolRequestParams::new("echo");
            params.arguments = json!({"message": "hi"}).as_object().cloned();
            peer.call_tool(params).await.unwrap();
        })
    })
}

/// One POST of the same message and one parse of the answer, without MCP.
async fn bare(url: &str) -> Call<'static> {
    let url: mcpool_http_pool::reqwest::Url = url.parse().unwrap();
    let settings = ClientSettings::new(&HttpSpec::new(url.as_str()), &url);
    let client = HttpPool::new().client(&settings).await.unwrap();
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "echo", "arguments": {"message": "hi"},
    }});
    let message = Arc::new(message);
    Box::new(move || {
        let (client, url, message) = (client.clone(), url.clone(), Arc::clone(&message));
        Box::pin(async move {
            let body = serde_json::to_vec(&*message).unwrap();
            let request = client.post(url).header("content-type", "application/json");
            let answer = request.body(body).send().await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert!(answer["result"].is_object());
        })
    })
}

/// Our transport under rmcp's session.
struct Ours(Box<dyn Transport>);

impl Ours {
    async fn connect(url: &str) -> Self {
        let spec = ServerSpec::http("bench", HttpSpec::new(url)).unwrap();
        let connector = HttpConnector::new(HttpPool::new());
        let request = ConnectRequest::new(Arc::new(spec));
        Self(connector.connect(request).await.unwrap())
    }
}

impl rmcp::transport::Transport<RoleClient> for Ours {
    type Error = std::io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let sent = self.0.send(message);
        async move { sent.await.map_err(std::io::Error::other) }
    }

    fn receive(&mut self) -> impl Future<Output = Option<RxJsonRpcMessage<RoleClient>>> + Send {
        let received: futures::future::BoxFuture<'_, Option<IncomingMessage>> = self.0.receive();
        received
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.0.close().await.map_err(std::io::Error::other)
    }
}
