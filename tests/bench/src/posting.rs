//! A client of a gateway over HTTP that is nothing but requests.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::{
    Outcome,
    contender::{Contender, one},
    stdio::Call,
};

/// A client of MCP 2025-11-25 that does no more than it must.
#[derive(Clone)]
pub(crate) struct Posting {
    client: reqwest::Client,
    url: Arc<str>,
    session: Arc<str>,
    next: Arc<AtomicU64>,
}

impl Posting {
    /// Begins a session.
    pub(crate) async fn connect(client: &reqwest::Client, url: &str) -> Outcome<Self> {
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        });
        let initialize =
            json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let response = post(client, url, "")
            .body(initialize.to_string())
            .send()
            .await?
            .error_for_status()?;
        let session = response.headers().get("mcp-session-id");
        let session = session.map_or(Ok(""), |id| id.to_str())?.to_owned();
        response.bytes().await?;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let response = post(client, url, &session).body(initialized.to_string());
        response.send().await?.error_for_status()?;
        Ok(Self {
            client: client.clone(),
            url: url.into(),
            session: session.into(),
            next: Arc::new(AtomicU64::new(1)),
        })
    }

    /// The stream on which it hears of what belongs to no call.
    pub(crate) async fn listen(&self) -> Outcome<reqwest::Response> {
        let request = self.client.get(&*self.url);
        let request = with_session(request, &self.session).header("accept", "text/event-stream");
        Ok(request.send().await?.error_for_status()?)
    }
}

fn post(client: &reqwest::Client, url: &str, session: &str) -> reqwest::RequestBuilder {
    with_session(client.post(url), session)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
}

fn with_session(request: reqwest::RequestBuilder, session: &str) -> reqwest::RequestBuilder {
    match session {
        "" => request,
        session => request
            .header("mcp-session-id", session)
            .header("mcp-protocol-version", "2025-11-25"),
    }
}

impl Contender for Posting {
    async fn call(&self, text: &str) -> Outcome {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let response = post(&self.client, &self.url, &self.session)
            .body(serde_json::to_string(&Call::new(id, text))?)
            .send()
            .await?
            .error_for_status()?;
        let body = response.bytes().await?;
        let body = std::str::from_utf8(&body)?;
        // The last event of a stream, or JSON.
        let json = body
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("data: "));
        let answer: Value = serde_json::from_str(json.unwrap_or(body))?;
        one(answer["result"]["content"].as_array().ok_or("no result")?)
    }
}
