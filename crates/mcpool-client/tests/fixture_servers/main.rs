//! The factory against real processes and sockets, good and bad.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(all(feature = "sse", feature = "http"))]
mod http;
#[cfg(feature = "stdio")]
mod stdio;

use std::{sync::Arc, time::Duration};

use mcpool_client::StandardFactory;
use mcpool_core::{
    Client, ClientFactory, ConnectOptions, ConnectionInfo, Result, ServerSpec, Verbs,
};
use serde_json::json;

/// Far above what anything here takes on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

fn patient(mut spec: ServerSpec) -> ServerSpec {
    spec.policy.timeouts.startup = LONG;
    spec.policy.timeouts.request = LONG;
    spec
}

async fn echo(client: &dyn Client, text: &str) -> String {
    let result = client
        .call_tool("echo", json!({"message": text}))
        .await
        .unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

async fn connect(factory: &StandardFactory, spec: &ServerSpec) -> Result<Arc<dyn Client>> {
    factory.connect(spec, &ConnectOptions::new()).await
}

fn info(client: &dyn Client) -> Arc<ConnectionInfo> {
    client.info().unwrap()
}
