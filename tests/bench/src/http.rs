//! Calls over Streamable HTTP.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpool::{
    Client, ClientFactory as _, ConnectOptions, ConnectionManager, HttpSpec, ServerHandle,
    ServerSpec, StandardFactory,
};
use rmcp::{
    ServiceExt as _,
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde::Deserialize;

use crate::{
    Outcome,
    contender::{Contender, Rmcp, calls, one},
    process::Running,
    rounds::{Options, Round, Series},
    stdio::Call,
};

pub(crate) struct HttpServer {
    _process: Running,
    pub(crate) origin: String,
}

impl HttpServer {
    /// Starts this program as a server: `serve-http` or `serve-relay`.
    pub(crate) fn start(role: &str) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let output = child.stdout.take().ok_or("no stdout")?;
        BufReader::new(output).read_line(&mut address)?;
        Ok(Self {
            _process: Running(child),
            origin: format!("http://{}", address.trim()),
        })
    }
}

/// Bare reqwest: posts, reads the body, parses it.
pub(crate) struct Bare {
    client: reqwest::Client,
    url: String,
    next: AtomicU64,
}

impl Bare {
    pub(crate) fn new(client: reqwest::Client, url: String) -> Self {
        Self {
            client,
            url,
            next: AtomicU64::new(1),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    result: rmcp::model::CallToolResult,
}

impl Contender for Arc<Bare> {
    async fn call(&self, text: &str) -> Outcome {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let response = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(serde_json::to_string(&Call::new(id, text))?)
            .send()
            .await?;
        let body = response.bytes().await?;
        // An event of one line, or JSON.
        let json = body.strip_prefix(b"data: ").unwrap_or(&body);
        let answer: Answer = serde_json::from_slice(json)?;
        one(&answer.result.content)
    }
}

pub(crate) fn pooled() -> Outcome<reqwest::Client> {
    // It may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder()
        .tcp_nodelay(true)
        .no_proxy()
        .build()?)
}

pub(crate) async fn run(options: &Options) -> Outcome {
    let server = HttpServer::start("serve-http")?;
    let small = "0123456789abcdef";
    let megabyte = "x".repeat(1_000_000);
    for (work, path, text, count, in_flight) in [
        ("HTTP, JSON, 16 B, one at a time", "/mcp", small, 1_000, 1),
        ("HTTP, JSON, 16 B, 32 in flight", "/mcp", small, 6_400, 32),
        ("HTTP, JSON, 1 MB both ways", "/mcp", &megabyte, 20, 1),
        (
            "HTTP, event stream, 16 B, one at a time",
            "/events",
            small,
            1_000,
            1,
        ),
        (
            "HTTP, event stream, 16 B, 32 in flight",
            "/events",
            small,
            6_400,
            32,
        ),
        (
            "HTTP, event stream, 1 MB both ways",
            "/events",
            &megabyte,
            20,
            1,
        ),
    ] {
        if !options.wants(work) {
            continue;
        }
        let contenders = Contenders::connect(format!("{}{path}", server.origin)).await?;
        let text: Arc<str> = text.into();
        let mut series = Series::default();
        // The first round warms up and does not count.
        for round in 0..=options.rounds {
            let took = contenders.round(&text, count, in_flight).await?;
            if round > 0 {
                series.add(took, count);
            }
        }
        series.print(work);
        contenders.close().await;
    }
    Ok(())
}

struct Contenders {
    bare: Arc<Bare>,
    rmcp: Rmcp,
    client: Arc<dyn Client>,
    manager: ConnectionManager,
    handle: ServerHandle,
}

impl Contenders {
    async fn connect(url: String) -> Outcome<Self> {
        let bare = Arc::new(Bare::new(pooled()?, url.clone()));
        let config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
        let transport = StreamableHttpClientTransport::with_client(pooled()?, config);
        let rmcp: Rmcp = Arc::new(().serve(transport).await?);
        let factory = StandardFactory::new();
        let spec = ServerSpec::http("bench", HttpSpec::new(url.as_str()))?;
        let client = factory.connect(&spec, &ConnectOptions::new()).await?;
        let manager = ConnectionManager::new(Arc::new(factory));
        manager.start(vec![spec]).await?.all_connected()?;
        Ok(Self {
            bare,
            rmcp,
            client,
            handle: manager.server("bench")?,
            manager,
        })
    }

    async fn round(&self, text: &Arc<str>, count: u32, in_flight: u32) -> Outcome<Round> {
        Ok(Round {
            limit: calls(&self.bare, text, count, in_flight).await?,
            tokio: None,
            rmcp: calls(&self.rmcp, text, count, in_flight).await?,
            client: calls(&self.client, text, count, in_flight).await?,
            manager: calls(&self.handle, text, count, in_flight).await?,
        })
    }

    async fn close(self) {
        self.client.close().await;
        self.manager.shutdown(Duration::from_secs(5)).await;
    }
}
