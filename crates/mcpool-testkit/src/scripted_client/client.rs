//! The client that obeys.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    Client, CloseReason, ConnectionInfo, ConnectionTimes, Diagnostics, Error, ErrorKind,
    ProbeMethod, ProbeReport, RequestOptions, Result, ServerName, ServerNotice, ServerSpec,
    ToolListing, TransportKind, TransportSpec,
    model::{
        CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, JsonObject,
        LoggingLevel, Prompt, ProtocolVersion, ReadResourceResult, Resource, ResourceTemplate,
        ServerPeerInfo,
    },
};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::{RequestPlan, ScriptedServer, from_json};
use crate::fixtures::engine::lock;

/// The end of one client, shared with the server's script.
#[derive(Debug)]
pub(super) struct Life {
    server: ScriptedServer,
    pub(super) end: watch::Sender<Option<CloseReason>>,
    pub(super) notices: broadcast::Sender<ServerNotice>,
}

impl Life {
    /// `true` when it had not ended before.
    pub(super) fn end(&self, reason: CloseReason) -> bool {
        let ended = self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(reason);
            }
            first
        });
        if ended {
            self.server.count(|counts| counts.live -= 1);
        }
        ended
    }
}

/// A client of a [`ScriptedServer`].
#[derive(Debug)]
pub struct ScriptedClient {
    life: Arc<Life>,
    info: ConnectionInfo,
    times: Mutex<ConnectionTimes>,
}

enum Counted {
    Call,
    Probe,
    ToolList,
    List,
}

impl ScriptedClient {
    pub(super) fn new(server: ScriptedServer, spec: &ServerSpec) -> Self {
        let transport = match spec.transport {
            TransportSpec::Stdio(_) => TransportKind::Stdio,
            TransportSpec::Sse(_) => TransportKind::Sse,
            _ => TransportKind::Http,
        };
        let life = Arc::new(Life {
            server: server.clone(),
            end: watch::Sender::new(None),
            notices: broadcast::Sender::new(256),
        });
        let mut script = lock(&server.0);
        script.counts.live += 1;
        script.counts.clients += 1;
        script.clients.push(Arc::downgrade(&life));
        drop(script);
        Self {
            life,
            info: info(&spec.name, transport),
            times: Mutex::new(ConnectionTimes::now()),
        }
    }

    fn server(&self) -> &ScriptedServer {
        &self.life.server
    }

    /// Runs one request by its plan, ended by the end of the connection and by its time-out.
    async fn run(
        &self,
        counted: Counted,
        operation: &'static str,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let plan = {
            let mut script = lock(&self.server().0);
            let plan = match counted {
                Counted::Call => script.calls.pop_front(),
                Counted::Probe => script.probes.pop_front(),
                Counted::ToolList | Counted::List => script.lists.pop_front(),
            };
            match counted {
                Counted::Call => script.counts.calls += 1,
                Counted::Probe => script.counts.probes += 1,
                Counted::ToolList => script.counts.tool_lists += 1,
                Counted::List => {}
            }
            plan.unwrap_or_else(|| match counted {
                Counted::Call => script.every_call.clone(),
                Counted::Probe => script.every_probe.clone(),
                Counted::ToolList | Counted::List => script.every_list.clone(),
            })
        };
        let mut running = Running {
            server: matches!(counted, Counted::Call).then(|| self.server().clone()),
            ended: None,
        };
        let name = &self.info.server;
        let fail = |error: Error| error.with_server(name).with_operation(operation);
        if self.is_closed() {
            running.ended = Some(false);
            let closed = Error::new(ErrorKind::NotConnected, "the connection has ended");
            return Err(fail(closed));
        }
        let answered = async {
            match plan {
                RequestPlan::Answer => Ok(()),
                RequestPlan::AnswerAfter(pause) => {
                    tokio::time::sleep(pause).await;
                    Ok(())
                }
                RequestPlan::Fail(error) => Err(error),
                RequestPlan::Die(error) => {
                    self.life.end(CloseReason::Lost(error.clone()));
                    Err(error)
                }
                RequestPlan::Never => std::future::pending().await,
            }
        };
        let timed_out = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            answered = answered => answered,
            reason = self.closed() => Err(match reason {
                CloseReason::Lost(error) => error,
                _ => Error::new(ErrorKind::ConnectionLost, "the client was closed"),
            }),
            () = timed_out => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
        };
        running.ended = Some(outcome.is_ok());
        if outcome.is_ok() && !matches!(counted, Counted::Probe) {
            lock(&self.times).last_activity = tokio::time::Instant::now();
        }
        outcome.map_err(fail)
    }
}

/// Counts how a call ended.
struct Running {
    server: Option<ScriptedServer>,
    ended: Option<bool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.count(|counts| match self.ended {
                Some(true) => counts.answered += 1,
                Some(false) => {}
                None => counts.calls_dropped += 1,
            });
        }
    }
}

fn info(name: &ServerName, transport: TransportKind) -> ConnectionInfo {
    let peer: ServerPeerInfo = from_json(json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {
            "tools": {"listChanged": true},
            "prompts": {},
            "resources": {"subscribe": true},
            "logging": {},
        },
        "serverInfo": {"name": "scripted", "version": "1"},
    }));
    let protocol: ProtocolVersion = peer.protocol_version.clone();
    ConnectionInfo::new(name.clone(), transport, protocol, peer)
}

#[async_trait]
impl Client for ScriptedClient {
    fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    fn times(&self) -> ConnectionTimes {
        *lock(&self.times)
    }

    fn diagnostics(&self) -> Diagnostics {
        Diagnostics::default()
    }

    async fn list_tools(&self, options: &RequestOptions) -> Result<ToolListing> {
        self.run(Counted::ToolList, "tools/list", options.timeout)
            .await?;
        let script = lock(&self.server().0);
        let mut listing = ToolListing::new(script.tools.clone());
        listing.rejected = script.rejected.clone();
        Ok(listing)
    }

    /// Answers with a text of the tool's name, and with the arguments as structured content.
    async fn call_tool(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<CallToolResult> {
        self.run(Counted::Call, "tools/call", options.timeout)
            .await?;
        Ok(from_json(json!({
            "content": [{"type": "text", "text": name}],
            "structuredContent": arguments.unwrap_or_default(),
        })))
    }

    async fn list_prompts(&self, options: &RequestOptions) -> Result<Vec<Prompt>> {
        self.run(Counted::List, "prompts/list", options.timeout)
            .await?;
        Ok(vec![from_json(json!({"name": "greet"}))])
    }

    async fn get_prompt(
        &self,
        name: &str,
        _arguments: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<GetPromptResult> {
        self.run(Counted::Call, "prompts/get", options.timeout)
            .await?;
        Ok(from_json(json!({
            "messages": [{"role": "user", "content": {"type": "text", "text": name}}],
        })))
    }

    async fn list_resources(&self, options: &RequestOptions) -> Result<Vec<Resource>> {
        self.run(Counted::List, "resources/list", options.timeout)
            .await?;
        Ok(vec![from_json(
            json!({"uri": "fixture://one", "name": "one"}),
        )])
    }

    async fn list_resource_templates(
        &self,
        options: &RequestOptions,
    ) -> Result<Vec<ResourceTemplate>> {
        self.run(Counted::List, "resources/templates/list", options.timeout)
            .await?;
        let template = json!({"uriTemplate": "fixture://{name}", "name": "any"});
        Ok(vec![from_json(template)])
    }

    async fn read_resource(
        &self,
        uri: &str,
        options: &RequestOptions,
    ) -> Result<ReadResourceResult> {
        self.run(Counted::Call, "resources/read", options.timeout)
            .await?;
        Ok(from_json(json!({"contents": [{"uri": uri, "text": uri}]})))
    }

    async fn complete(
        &self,
        _params: CompleteRequestParams,
        options: &RequestOptions,
    ) -> Result<CompleteResult> {
        self.run(Counted::Call, "completion/complete", options.timeout)
            .await?;
        Ok(from_json(json!({"completion": {"values": ["one"]}})))
    }

    async fn subscribe(&self, uri: &str) -> Result<()> {
        self.run(Counted::Call, "resources/subscribe", None).await?;
        lock(&self.server().0).subscriptions.push(uri.to_owned());
        Ok(())
    }

    async fn unsubscribe(&self, uri: &str) -> Result<()> {
        self.run(Counted::Call, "resources/unsubscribe", None)
            .await?;
        lock(&self.server().0)
            .subscriptions
            .retain(|known| known != uri);
        Ok(())
    }

    async fn set_log_level(&self, level: LoggingLevel) -> Result<()> {
        self.run(Counted::Call, "logging/setLevel", None).await?;
        let level = serde_json::to_value(level).unwrap_or_default();
        let level = level.as_str().unwrap_or_default().to_owned();
        lock(&self.server().0).log_levels.push(level);
        Ok(())
    }

    async fn request(
        &self,
        method: &str,
        params: Option<Value>,
        options: &RequestOptions,
    ) -> Result<Value> {
        self.run(Counted::Call, "request", options.timeout).await?;
        Ok(json!({"method": method, "params": params}))
    }

    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        let start = tokio::time::Instant::now();
        self.run(Counted::Probe, "probe", Some(timeout)).await?;
        Ok(ProbeReport::new(start.elapsed(), ProbeMethod::Ping))
    }

    fn notices(&self) -> broadcast::Receiver<ServerNotice> {
        self.life.notices.subscribe()
    }

    async fn closed(&self) -> CloseReason {
        let mut end = self.life.end.subscribe();
        let reason = end.wait_for(Option::is_some).await;
        match reason.ok().and_then(|reason| reason.clone()) {
            Some(reason) => reason,
            None => CloseReason::Requested,
        }
    }

    fn is_closed(&self) -> bool {
        self.life.end.borrow().is_some()
    }

    async fn close(&self) {
        let takes = lock(&self.server().0).close_takes;
        if !self.is_closed() {
            tokio::time::sleep(takes).await;
        }
        if self.life.end(CloseReason::Requested) {
            self.server().count(|counts| counts.closes += 1);
        }
    }
}

impl Drop for ScriptedClient {
    fn drop(&mut self) {
        self.life.end(CloseReason::Requested);
        self.server().count(|counts| counts.clients -= 1);
    }
}
