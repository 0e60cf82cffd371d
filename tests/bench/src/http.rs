//! Calls over Streamable HTTP.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpool::{
    Client, ClientFactory as _, ConnectOptions, ConnectionManager, HttpSpec, ServerSpec,
    StandardFactory,
};
use rmcp::{
    RoleClient, ServiceExt as _,
    model::CallToolRequestParams,
    service::RunningService,
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Outcome, rounds,
    stdio::{calls, mcpool_call},
};

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve-http")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let output = child.stdout.take().ok_or("no stdout")?;
        BufReader::new(output).read_line(&mut address)?;
        Ok(Self {
            child,
            url: format!("http://{}/mcp", address.trim()),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bare reqwest: posts, reads the body, parses it.
struct Bare {
    client: reqwest::Client,
    url: String,
    next: AtomicU64,
}

#[derive(Deserialize)]
struct Answer {
    result: rmcp::model::CallToolResult,
}

impl Bare {
    async fn call(&self, text: &str) -> Outcome {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
        );
        let response = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body)
            .send()
            .await?;
        let body = response.bytes().await?;
        let answer: Answer = serde_json::from_slice(&body)?;
        if answer.result.content.len() != 1 {
            return Err("a wrong answer".into());
        }
        Ok(())
    }
}

type Rmcp = Arc<RunningService<RoleClient, ()>>;

async fn rmcp_call(client: &Rmcp, text: &str) -> Outcome {
    let mut params = CallToolRequestParams::new("echo");
    params.arguments = json!({ "text": text }).as_object().cloned();
    let result = client.call_tool(params).await?;
    if result.content.len() != 1 {
        return Err("a wrong answer".into());
    }
    Ok(())
}

fn pooled() -> Outcome<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .tcp_nodelay(true)
        .no_proxy()
        .build()?)
}

pub(crate) async fn run(rounds: usize) -> Outcome {
    let server = Server::start()?;
    let bare = Arc::new(Bare {
        client: pooled()?,
        url: server.url.clone(),
        next: AtomicU64::new(1),
    });
    let config = StreamableHttpClientTransportConfig::with_uri(server.url.as_str());
    let transport = StreamableHttpClientTransport::with_client(pooled()?, config);
    let rmcp: Rmcp = Arc::new(().serve(transport).await?);
    let factory = StandardFactory::new();
    let spec = ServerSpec::http("bench", HttpSpec::new(server.url.as_str()))?;
    let client: Arc<dyn Client> = factory.connect(&spec, &ConnectOptions::new()).await?;
    let manager = ConnectionManager::new(Arc::new(factory));
    manager.start(vec![spec]).await?.all_connected()?;
    let handle = manager.server("bench")?;

    const TEXT: &str = "0123456789abcdef";
    for (work, calls_each, in_flight) in [
        ("HTTP, 16 B, one at a time", 1_000, 1),
        ("HTTP, 16 B, 32 in flight", 6_400, 32),
    ] {
        let mut series = [
            rounds::Series::new("limit (reqwest)"),
            rounds::Series::new("rmcp, pooled"),
            rounds::Series::new("mcpool client"),
            rounds::Series::new("mcpool manager"),
        ];
        // The first round warms up and does not count.
        for round in 0..=rounds {
            let took = [
                calls(&bare, calls_each, in_flight, |bare| async move {
                    bare.call(TEXT).await
                })
                .await?,
                calls(&rmcp, calls_each, in_flight, |client| async move {
                    rmcp_call(&client, TEXT).await
                })
                .await?,
                calls(&client, calls_each, in_flight, |client| async move {
                    mcpool_call(&*client, TEXT).await
                })
                .await?,
                calls(&handle, calls_each, in_flight, |handle| async move {
                    mcpool_call(&handle, TEXT).await
                })
                .await?,
            ];
            if round > 0 {
                for (one, took) in series.iter_mut().zip(took) {
                    one.add(took, calls_each);
                }
            }
        }
        rounds::table(work, &series);
    }
    client.close().await;
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
