//! The memory of rmcp's client with its child process, in a program that has no other client in it.

use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mcpool_memory::{Need, Outcome, resident, server};
use rmcp::{
    RoleClient, ServiceExt as _, model::CallToolRequestParams, service::RunningService,
    transport::TokioChildProcess,
};
use serde_json::json;

type Client = RunningService<RoleClient, ()>;

#[tokio::main]
async fn main() -> Outcome {
    let megabyte = "x".repeat(1_000_000);
    let first = connect().await?;
    answer(&first, &megabyte).await?;
    tokio::time::sleep(Need::SETTLED).await;
    let one = resident("self")?;
    let began = Instant::now();
    let all: Vec<Client> = stream::iter(0..Need::MORE)
        .map(|_| connect())
        .buffer_unordered(Need::AT_ONCE)
        .try_collect()
        .await?;
    let connected = began.elapsed();
    for client in &all {
        answer(client, &megabyte).await?;
    }
    tokio::time::sleep(Need::SETTLED).await;
    let many = resident("self")?;
    let began = Instant::now();
    let ends = all.into_iter().chain([first]).map(RunningService::cancel);
    for end in futures::future::join_all(ends).await {
        end?;
    }
    Need::new(one, many, connected, began.elapsed()).print();
    Ok(())
}

/// A server that has listed its tools, as those of a pool have.
async fn connect() -> Outcome<Client> {
    let mut child = tokio::process::Command::new(server()?);
    child.arg("serve-stdio");
    let client = ().serve(TokioChildProcess::new(child)?).await?;
    client.list_all_tools().await?;
    Ok(client)
}

async fn answer(client: &Client, text: &str) -> Outcome {
    let mut params = CallToolRequestParams::new("echo");
    params.arguments = json!({ "text": text }).as_object().cloned();
    client.call_tool(params).await?;
    Ok(())
}
