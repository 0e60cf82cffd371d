//! A server that asks its client: requests of its own, multi-round-trip results, listen streams,
//! headers that mirror arguments.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod headers;
mod listen;
mod questions;
mod rounds;
#[path = "../support/mod.rs"]
mod support;

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_core::{
    Client, ClientFactory, Raw, Reply as Answer, Result, RpcError, ServerName, ServerRequest,
    ServerRequestHandler, TransportKind, Verbs, model::CallToolResult,
};
use serde_json::{Value, json};
use support::*;
use tokio::sync::Notify;

/// An application with one root, whose person takes `thinks` to accept.
struct Application {
    thinks: Duration,
    gone: Arc<Notify>,
}

/// Reports when a question is no longer being answered, answered or not.
struct Gone(Arc<Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl ServerRequestHandler for Application {
    fn capabilities(&self, server: &ServerName) -> Raw {
        assert_eq!(server.as_str(), "script");
        Raw::of(&json!({"roots": {}, "elicitation": {}})).unwrap()
    }

    async fn answer(
        &self,
        server: &ServerName,
        request: ServerRequest,
    ) -> std::result::Result<Raw, RpcError> {
        assert_eq!(server.as_str(), "script");
        if request.method == "roots/list" {
            return Ok(Raw::of(&json!({"roots": [{"uri": "file:///work"}]})).unwrap());
        }
        assert_eq!(
            request.method, "elicitation/create",
            "nothing else was offered"
        );
        let params: Value = request.params.unwrap().parse().unwrap();
        if params["message"] == "panic" {
            panic!("on purpose");
        }
        let _gone = Gone(Arc::clone(&self.gone));
        tokio::time::sleep(self.thinks).await;
        let content = json!({"said": params["message"]});
        Ok(Raw::of(&json!({"action": "accept", "content": content})).unwrap())
    }
}

fn application(thinks: Duration) -> (Arc<Application>, Arc<Notify>) {
    let gone = Arc::new(Notify::new());
    let application = Application {
        thinks,
        gone: Arc::clone(&gone),
    };
    (Arc::new(application), gone)
}

async fn connect<F, Fut>(
    modern: bool,
    application: Arc<Application>,
    script: F,
) -> (Arc<dyn Client>, Arc<Scripted>)
where
    F: Fn(ServerEnd) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    connect_to(scripted(modern, script), application).await
}

fn scripted<F, Fut>(modern: bool, script: F) -> Scripted
where
    F: Fn(ServerEnd) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Scripted::new(TransportKind::Http, move |mut end: ServerEnd| {
        let script = script.clone();
        async move {
            if modern {
                end.discover().await;
            } else {
                let hello = end.initialize().await;
                let declared = &hello["params"]["capabilities"];
                assert!(declared["roots"].is_object() && declared["elicitation"].is_object());
                end.expect("notifications/initialized").await;
            }
            script(end).await;
        }
    })
}

async fn connect_to(
    scripted: Scripted,
    application: Arc<Application>,
) -> (Arc<dyn Client>, Arc<Scripted>) {
    let (factory, connector) = scripted.factory();
    let factory = factory.with_handler(application);
    let client = factory.connect(&http_spec(), &connecting()).await;
    (client.unwrap(), connector)
}

async fn call_tool(client: &dyn Client) -> Result<Answer<CallToolResult>> {
    client.call_tool("x", ()).await
}

fn question(message: &str) -> Value {
    json!({
        "method": "elicitation/create",
        "params": {
            "mode": "form", "message": message,
            "requestedSchema": {"type": "object", "properties": {}},
        },
    })
}

fn text(text: &str) -> Value {
    json!({"resultType": "complete", "content": [{"type": "text", "text": text}]})
}
