//! A worker of a newer minor version, by hand: what a gateway does not know it ignores.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use futures::StreamExt as _;
use mcpool_core::{Delivery, Verbs as _};
use mcpool_nats::{Sharing, discover};
use mcpool_testkit::nats::NatsServer;
use serde_json::{Value, json};
use support::{PATIENCE, carrier, connect, name};

/// Speaks version 1.9 of the wire for one server.
struct Newer {
    client: Client,
    /// Where the session's frames go.
    inbox: String,
    session: String,
    number: u64,
}

impl Newer {
    fn headers(&self, kind: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("Mcpool-Version", "1.9");
        headers.insert("Mcpool-Kind", kind);
        headers.insert("Mcpool-Mood", "good");
        headers
    }

    async fn say(&mut self, kind: &str, more: &[(&'static str, String)], body: &Value) {
        self.number += 1;
        let mut headers = self.headers(kind);
        headers.insert("Mcpool-Session", self.session.as_str());
        headers.insert("Mcpool-Number", self.number.to_string());
        headers.insert("Mcpool-Stamp", "1");
        for (name, value) in more {
            headers.insert(*name, value.as_str());
        }
        let (subject, body) = (self.inbox.clone(), body.to_string());
        let published = self
            .client
            .publish_with_headers(subject, headers, body.into());
        published.await.unwrap();
    }

    /// Answers one message to the worker.
    async fn take(&mut self, message: Message) {
        let headers = message.headers.unwrap_or_default();
        let text = |name: &str| headers.get(name).map(ToString::to_string);
        match text("Mcpool-Kind").as_deref() {
            Some("discover") => {
                let body = json!({
                    "worker": "w9", "mood": "good",
                    "servers": {"fix": {"state": "dozing", "sharing": "some", "colour": "blue"}},
                });
                let (reply, headers) = (message.reply.unwrap(), self.headers("workers"));
                let body = body.to_string().into();
                let published = self.client.publish_with_headers(reply, headers, body);
                published.await.unwrap();
            }
            Some("open") => {
                self.session = text("Mcpool-Session").unwrap();
                let reply = message.reply.unwrap().to_string();
                self.inbox = format!("{}.r", reply.rsplit_once('.').unwrap().0);
                let opened = json!({
                    "worker": "w9", "instance": "w9", "epoch": 0, "sharing": "some", "mood": "good",
                });
                self.say("opened", &[], &opened).await;
            }
            Some("message") => {
                let asked: Value = serde_json::from_slice(&message.payload).unwrap();
                // Something new comes before each answer.
                self.say("overture", &[], &json!({"of": "a newer version"}))
                    .await;
                let id = &asked["id"];
                let answer = match asked["method"].as_str() {
                    Some("initialize") => json!({
                        "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                        "serverInfo": {"name": "newer", "version": "1"},
                    }),
                    Some("tools/list") => json!({
                        "tools": [{"name": "echo", "inputSchema": {"type": "object"}}],
                    }),
                    Some("tools/call") => {
                        let refused = json!({"reason": "whim", "message": "not now", "until": 7});
                        let of = ("Mcpool-Of", text("Mcpool-Number").unwrap());
                        return self.say("refused", &[of], &refused).await;
                    }
                    _ => return,
                };
                let answer = json!({"jsonrpc": "2.0", "id": id, "result": answer});
                let answers = id.as_u64().map(|id| ("Mcpool-Answers", id.to_string()));
                self.say("message", answers.as_slice(), &answer).await;
            }
            _ => {}
        }
    }
}

/// Runs it until the test ends.
async fn newer_worker(nats: &NatsServer) {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut heard = futures::stream::SelectAll::new();
    for subject in ["mcpool.test", "mcpool.test.fix", "mcpool.test.fix.w9"] {
        heard.push(client.subscribe(subject).await.unwrap());
    }
    client.flush().await.unwrap();
    let mut newer = Newer {
        client,
        inbox: String::new(),
        session: String::new(),
        number: 0,
    };
    tokio::spawn(async move {
        while let Some(message) = heard.next().await {
            newer.take(message).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_worker_is_understood() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    newer_worker(&nats).await;
    let carrier = carrier(&nats, "g1").await;
    let found = discover(&carrier, Duration::from_millis(500)).await;
    let found = found.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let server = &found[0].servers[&name("fix")];
    assert_eq!((&*server.state, server.sharing), ("dozing", Sharing::Many));
    let client = tokio::time::timeout(PATIENCE, connect(&carrier, "fix")).await;
    let client = client.unwrap().unwrap();
    let tools = client.list_tools().await.unwrap();
    assert_eq!(tools.items[0].name, "echo");
    // A reason that is not known here is one of its kind.
    let refused = client.call_tool("echo", json!({})).await.unwrap_err();
    assert_eq!(refused.delivery(), Delivery::Rejected, "{refused}");
}
