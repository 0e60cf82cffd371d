//! What a live session promises, on a scripted transport and a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(deprecated, reason = "the log level is spoken by older servers")]

mod calls;
mod end;
mod lists;
mod liveness;
#[path = "../support/mod.rs"]
mod support;
mod timeouts;

use std::sync::Arc;

use mcpool_core::{Client, Verbs};
use serde_json::{Value, json};

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// Calls `echo` in a task of its own.
fn call(client: &Arc<dyn Client>) -> tokio::task::JoinHandle<mcpool_core::Result<Value>> {
    let client = Arc::clone(client);
    tokio::spawn(async move {
        let result = client.call_tool("echo", ()).await?;
        Ok(result.raw().parse().unwrap())
    })
}
