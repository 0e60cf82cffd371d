//! One live session: the [`Client`] of this crate.
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use mcpool_core::{
    Client, CloseReason, ConnectEvidence, ConnectionInfo, ConnectionTimes, Diagnostics, Error,
    ErrorKind, Limits, ProbeReport, RejectedItem, RequestOptions, RequestTimeouts, Result,
    ServerNotice, ServerRequestHandler, ServerSpec, ToolListing,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, CompleteRequest,
        CompleteRequestParams, CompleteResult, CustomRequest, ErrorCode, GetPromptRequest,
        GetPromptRequestParams, GetPromptResult, JsonObject, LoggingLevel, PaginatedRequestParams,
        Prompt, ReadResourceRequest, ReadResourceRequestParams, ReadResourceResult,
        RequestMetaObject, RequestOptionalParam, Resource, ResourceTemplate, ServerCapabilities,
        ServerPeerInfo, ServerResult, SetLevelRequest, SetLevelRequestParams, SubscribeRequest,
        SubscribeRequestParams, Tool, UnsubscribeRequest, UnsubscribeRequestParams,
    },
};
use serde_json::Value;
use tokio::{sync::broadcast, time::Instant};

use crate::{
    error_map,
    lenient::{self, Listed, Page},
    listen::Listener,
    paginate::Pages,
    peer::{Ask, Peer},
    probe, rounds,
};

/// A session that has begun. Dropping it closes the connection without waiting.
pub(crate) struct Session {
    pub(crate) peer: Peer,
    pub(crate) handler: Arc<dyn ServerRequestHandler>,
    info: ConnectionInfo,
    timeouts: RequestTimeouts,
    pub(crate) limits: Limits,
    connected_at: SystemTime,
    connected: Instant,
    listener: Listener,
}

/// When one operation ends, its rounds and pages included.
#[derive(Clone)]
pub(crate) struct Clock {
    pub(crate) idle: Duration,
    pub(crate) deadline: Instant,
}

impl Session {
    pub(crate) fn begin(
        peer: Peer,
        handler: Arc<dyn ServerRequestHandler>,
        spec: &ServerSpec,
        server: ServerPeerInfo,
        evidence: ConnectEvidence,
    ) -> Self {
        peer.shared.heard();
        let listener = Listener::start(&peer, &server);
        let info = ConnectionInfo::new(
            spec.name.clone(),
            peer.shared.kind,
            server.protocol_version.clone(),
            server,
        )
        .with_evidence(evidence);
        Self {
            peer,
            handler,
            info,
            timeouts: spec.policy.timeouts.clone(),
            limits: spec.policy.limits.clone(),
            connected_at: SystemTime::now(),
            connected: Instant::now(),
            listener,
        }
    }

    fn capabilities(&self) -> &ServerCapabilities {
        &self.info.peer.capabilities
    }

    pub(crate) fn is_modern(&self) -> bool {
        self.peer.shared.is_modern()
    }

    /// Adds what every error of this session carries.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let error = error.with_server(&self.info.server);
        match error.kind() {
            ErrorKind::ProcessExited | ErrorKind::ConnectionLost | ErrorKind::Timeout => {
                error_map::with_stderr(error, self.peer.shared.monitor.diagnostics())
            }
            _ => error,
        }
    }

    pub(crate) fn clock(&self, options: &RequestOptions) -> Clock {
        let idle = options.timeout.unwrap_or(self.timeouts.request);
        // An explicit time-out may be longer than the policy's maximum: then it is the maximum.
        let total = options
            .max_total
            .unwrap_or_else(|| self.timeouts.request_max.max(idle));
        let now = Instant::now();
        Clock {
            idle,
            deadline: now.checked_add(total).unwrap_or(now + FAR),
        }
    }

    /// One request on the clock of its operation.
    pub(crate) async fn ask(
        &self,
        request: ClientRequest,
        clock: &Clock,
        options: &RequestOptions,
    ) -> Result<ServerResult> {
        let ask = Ask::new(request)
            .idle(clock.idle)
            .deadline(clock.deadline)
            .progress(options.progress.clone())
            .meta(options.meta.clone());
        self.peer
            .ask(ask)
            .await
            .map_err(|error| self.explain(error))
    }

    /// All pages of a list. Never from a cache: every page goes to the server.
    async fn list<T: Listed>(
        &self,
        operation: &'static str,
        request: fn(Option<PaginatedRequestParams>) -> ClientRequest,
        options: &RequestOptions,
    ) -> Result<Page<T>> {
        let clock = self.clock(options);
        let mut pages = Pages::new(self.limits.max_pages);
        let mut all = Page {
            items: Vec::new(),
            rejected: Vec::new(),
            next: None,
            ttl: None,
        };
        let mut cursor: Option<String> = None;
        loop {
            let params = cursor
                .take()
                .map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let result = self.ask(request(params), &clock, options).await?;
            let finish = |error: Error| self.explain(error.with_operation(operation));
            let page = lenient::page::<T>(result).map_err(finish)?;
            all.items.extend(page.items);
            all.rejected.extend(page.rejected);
            all.ttl = match (all.ttl, page.ttl) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            cursor = pages.turn(page.next).map_err(finish)?;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// A list whose bad items are logged and left out.
    async fn list_plain<T: Listed>(
        &self,
        operation: &'static str,
        request: fn(Option<PaginatedRequestParams>) -> ClientRequest,
        options: &RequestOptions,
    ) -> Result<Vec<T>> {
        let page = self.list::<T>(operation, request, options).await?;
        for item in &page.rejected {
            tracing::warn!(
                server = %self.info.server,
                item = item.name,
                reason = item.reason,
                operation,
                "an item of a list cannot be used"
            );
        }
        Ok(page.items)
    }

    /// A request whose answer says no more than "done".
    async fn command(&self, request: ClientRequest) -> Result<()> {
        let options = RequestOptions::new();
        self.ask(request, &self.clock(&options), &options)
            .await
            .map(drop)
    }
}

/// Stands for "no limit" in clock arithmetic.
const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);

fn paged<M: Default>(
    params: Option<PaginatedRequestParams>,
) -> RequestOptionalParam<M, PaginatedRequestParams> {
    match params {
        Some(params) => RequestOptionalParam::with_param(params),
        None => RequestOptionalParam::default(),
    }
}

/// A server that does not know the method has nothing to list.
fn none_if_unknown<T: Default>(outcome: Result<T>) -> Result<T> {
    match outcome {
        Err(error)
            if error
                .rpc()
                .is_some_and(|rpc| rpc.code == ErrorCode::METHOD_NOT_FOUND) =>
        {
            Ok(T::default())
        }
        outcome => outcome,
    }
}

/// Keeps the first tool of each name.
fn without_duplicates(page: Page<Tool>) -> ToolListing {
    let mut names = HashSet::new();
    let mut listing = ToolListing::default();
    listing.rejected = page.rejected;
    listing.ttl = page.ttl;
    for tool in page.items {
        if tool.name.is_empty() {
            let reason = "the name is empty";
            listing.rejected.push(RejectedItem::new("", reason));
        } else if names.insert(tool.name.clone()) {
            listing.tools.push(tool);
        } else {
            let reason = "an earlier tool of the list has the same name";
            listing
                .rejected
                .push(RejectedItem::new(tool.name.as_ref(), reason));
        }
    }
    listing
}

#[async_trait]
impl Client for Session {
    fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    fn times(&self) -> ConnectionTimes {
        let mut times = ConnectionTimes::now();
        times.connected_at = self.connected_at;
        times.connected = self.connected;
        times.last_activity = self.peer.shared.last_heard();
        times
    }

    fn diagnostics(&self) -> Diagnostics {
        self.peer.shared.monitor.diagnostics()
    }

    async fn list_tools(&self, options: &RequestOptions) -> Result<ToolListing> {
        let request = |params| ClientRequest::ListToolsRequest(paged(params));
        let outcome = self.list::<Tool>("tools/list", request, options).await;
        let outcome = outcome.map(without_duplicates);
        if self.capabilities().tools.is_some() {
            outcome
        } else {
            none_if_unknown(outcome)
        }
    }

    async fn call_tool(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<CallToolResult> {
        let mut params = CallToolRequestParams::new(name.to_owned());
        params.arguments = arguments;
        let request = |answers: rounds::Answers| {
            let mut params = params.clone();
            params.input_responses = answers.responses;
            params.request_state = answers.state;
            CallToolRequest::new(params).into()
        };
        let outcome = rounds::drive(self, "tools/call", request, options).await;
        // The arguments that go into headers are known from the list (MCP 2026-07-28,
        // "Mcp-Param-* headers"): when they mismatch, list again, then retry once.
        let mismatch = |error: &Error| {
            error
                .rpc()
                .is_some_and(|rpc| rpc.code == ErrorCode::HEADER_MISMATCH)
        };
        match outcome {
            Err(error) if mismatch(&error) => {
                self.list_tools(options).await?;
                rounds::drive(self, "tools/call", request, options).await
            }
            outcome => outcome,
        }
    }

    async fn list_prompts(&self, options: &RequestOptions) -> Result<Vec<Prompt>> {
        if self.capabilities().prompts.is_none() {
            return Ok(Vec::new());
        }
        let request = |params| ClientRequest::ListPromptsRequest(paged(params));
        self.list_plain("prompts/list", request, options).await
    }

    async fn get_prompt(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<GetPromptResult> {
        let mut params = GetPromptRequestParams::new(name.to_owned());
        params.arguments = arguments;
        let request = |answers: rounds::Answers| {
            let mut params = params.clone();
            params.input_responses = answers.responses;
            params.request_state = answers.state;
            GetPromptRequest::new(params).into()
        };
        rounds::drive(self, "prompts/get", request, options).await
    }

    async fn list_resources(&self, options: &RequestOptions) -> Result<Vec<Resource>> {
        if self.capabilities().resources.is_none() {
            return Ok(Vec::new());
        }
        let request = |params| ClientRequest::ListResourcesRequest(paged(params));
        self.list_plain("resources/list", request, options).await
    }

    async fn list_resource_templates(
        &self,
        options: &RequestOptions,
    ) -> Result<Vec<ResourceTemplate>> {
        if self.capabilities().resources.is_none() {
            return Ok(Vec::new());
        }
        let request = |params| ClientRequest::ListResourceTemplatesRequest(paged(params));
        let operation = "resources/templates/list";
        // A server may offer resources and no templates.
        none_if_unknown(self.list_plain(operation, request, options).await)
    }

    async fn read_resource(
        &self,
        uri: &str,
        options: &RequestOptions,
    ) -> Result<ReadResourceResult> {
        let params = ReadResourceRequestParams::new(uri);
        let request = |answers: rounds::Answers| {
            let mut params = params.clone();
            params.input_responses = answers.responses;
            params.request_state = answers.state;
            ReadResourceRequest::new(params).into()
        };
        rounds::drive(self, "resources/read", request, options).await
    }

    async fn complete(
        &self,
        params: CompleteRequestParams,
        options: &RequestOptions,
    ) -> Result<CompleteResult> {
        let request = CompleteRequest::new(params).into();
        let result = self.ask(request, &self.clock(options), options).await?;
        lenient::single(result)
            .map_err(|error| self.explain(error.with_operation("completion/complete")))
    }

    async fn subscribe(&self, uri: &str) -> Result<()> {
        if self.is_modern() {
            let granted = self.listener.subscribe(uri, self.timeouts.request).await;
            return granted.map_err(|error| self.explain(error));
        }
        self.command(SubscribeRequest::new(SubscribeRequestParams::new(uri)).into())
            .await
    }

    async fn unsubscribe(&self, uri: &str) -> Result<()> {
        if self.is_modern() {
            self.listener.unsubscribe(uri);
            return Ok(());
        }
        self.command(UnsubscribeRequest::new(UnsubscribeRequestParams::new(uri)).into())
            .await
    }

    async fn set_log_level(&self, level: LoggingLevel) -> Result<()> {
        if self.is_modern() {
            let mut meta = RequestMetaObject::new();
            meta.set_log_level(level);
            self.peer.set_log_meta(meta);
            return Ok(());
        }
        self.command(SetLevelRequest::new(SetLevelRequestParams::new(level)).into())
            .await
    }

    async fn request(
        &self,
        method: &str,
        params: Option<Value>,
        options: &RequestOptions,
    ) -> Result<Value> {
        if matches!(method, "initialize" | "subscriptions/listen") {
            return Err(self.explain(Error::new(
                ErrorKind::InvalidArgument,
                format!("{method} is the client's own business and cannot be sent by hand"),
            )));
        }
        let request = ClientRequest::CustomRequest(CustomRequest::new(method, params));
        let result = self.ask(request, &self.clock(options), options).await?;
        lenient::to_value(&result).map_err(|error| self.explain(error))
    }

    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        probe::probe(&self.peer, timeout)
            .await
            .map_err(|error| self.explain(error))
    }

    fn notices(&self) -> broadcast::Receiver<ServerNotice> {
        self.peer.shared.notices.subscribe()
    }

    async fn closed(&self) -> CloseReason {
        self.peer.closed().await
    }

    fn is_closed(&self) -> bool {
        let shared = &self.peer.shared;
        shared.dead.is_cancelled() || shared.closing.is_cancelled()
    }

    async fn close(&self) {
        self.peer.close().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.peer.shared.closing.cancel();
    }
}
