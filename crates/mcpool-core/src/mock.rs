//! Mocks of the seams, by mockall, for tests of the layers above them.
//!
//! ```
//! use std::sync::Arc;
//! use mcpool_core::{Client, ErrorKind, Error, RequestOptions, mock::MockClient};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let mut client = MockClient::new();
//! client
//!     .expect_call_tool()
//!     .returning(|_, _, _| Err(Error::new(ErrorKind::Timeout, "no answer")));
//! let client: Arc<dyn Client> = Arc::new(client);
//! let error = client.call_tool("x", None, &RequestOptions::new()).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Timeout);
//! # }
//! ```
#![allow(missing_docs, reason = "mockall writes these methods")]
#![allow(deprecated, reason = "the log level is deprecated by MCP 2026-07-28")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use rmcp::model::{
    CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, JsonObject,
    LoggingLevel, Prompt, ReadResourceResult, Resource, ResourceTemplate,
};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::{
    Client, ClientFactory, CloseReason, ConnectRequest, ConnectionInfo, ConnectionTimes, Connector,
    Diagnostics, IncomingMessage, OutgoingMessage, ProbeReport, RequestOptions, Result,
    ServerNotice, ServerSpec, ToolListing, Transport, TransportKind, TransportMonitor,
};

mockall::mock! {
    /// A mock of [`Client`].
    pub Client {}

    #[async_trait]
    impl Client for Client {
        fn info(&self) -> &ConnectionInfo;
        fn times(&self) -> ConnectionTimes;
        fn diagnostics(&self) -> Diagnostics;
        async fn list_tools(&self, options: &RequestOptions) -> Result<ToolListing>;
        async fn call_tool(&self, name: &str, arguments: Option<JsonObject>, options: &RequestOptions) -> Result<CallToolResult>;
        async fn list_prompts(&self, options: &RequestOptions) -> Result<Vec<Prompt>>;
        async fn get_prompt(&self, name: &str, arguments: Option<JsonObject>, options: &RequestOptions) -> Result<GetPromptResult>;
        async fn list_resources(&self, options: &RequestOptions) -> Result<Vec<Resource>>;
        async fn list_resource_templates(&self, options: &RequestOptions) -> Result<Vec<ResourceTemplate>>;
        async fn read_resource(&self, uri: &str, options: &RequestOptions) -> Result<ReadResourceResult>;
        async fn complete(&self, params: CompleteRequestParams, options: &RequestOptions) -> Result<CompleteResult>;
        async fn subscribe(&self, uri: &str) -> Result<()>;
        async fn unsubscribe(&self, uri: &str) -> Result<()>;
        async fn set_log_level(&self, level: LoggingLevel) -> Result<()>;
        async fn request(&self, method: &str, params: Option<Value>, options: &RequestOptions) -> Result<Value>;
        async fn probe(&self, timeout: Duration) -> Result<ProbeReport>;
        fn notices(&self) -> broadcast::Receiver<ServerNotice>;
        async fn closed(&self) -> CloseReason;
        fn is_closed(&self) -> bool;
        async fn close(&self);
    }
}

mockall::mock! {
    /// A mock of [`ClientFactory`].
    pub ClientFactory {}

    #[async_trait]
    impl ClientFactory for ClientFactory {
        async fn connect(&self, spec: &ServerSpec) -> Result<Arc<dyn Client>>;
    }
}

mockall::mock! {
    /// A mock of [`Connector`].
    pub Connector {}

    #[async_trait]
    impl Connector for Connector {
        fn kind(&self) -> TransportKind;
        async fn connect(&self, request: ConnectRequest) -> Result<Box<dyn Transport>>;
    }
}

mockall::mock! {
    /// A mock of [`Transport`].
    pub Transport {}

    impl Transport for Transport {
        fn send(&self, message: OutgoingMessage) -> BoxFuture<'static, Result<()>>;
        fn receive<'a>(&'a mut self) -> BoxFuture<'a, Option<IncomingMessage>>;
        fn close<'a>(&'a mut self) -> BoxFuture<'a, Result<()>>;
        fn monitor(&self) -> Arc<dyn TransportMonitor>;
    }
}
