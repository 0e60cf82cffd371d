//! What a live session promises, on a scripted transport and a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used, deprecated)]

mod calls;
mod end;
mod lists;
mod liveness;
#[path = "../support/mod.rs"]
mod support;
mod timeouts;

use std::sync::Arc;

use mcpool_core::{Client, RequestOptions, model::JsonObject};
use serde_json::{Value, json};

fn options() -> RequestOptions {
    RequestOptions::new()
}

fn args(value: Value) -> Option<JsonObject> {
    match value {
        Value::Object(object) => Some(object),
        _ => panic!("arguments are an object"),
    }
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// Calls `echo` in a task of its own.
fn call(client: &Arc<dyn Client>) -> tokio::task::JoinHandle<mcpool_core::Result<Value>> {
    let client = Arc::clone(client);
    tokio::spawn(async move {
        let result = client.call_tool("echo", None, &options()).await?;
        Ok(serde_json::to_value(result).unwrap())
    })
}
