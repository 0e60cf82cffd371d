//! The requests that the manager sends for its callers, each with its method and its promises.
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

use futures::future::BoxFuture;
use mcpool_core::{
    Client, RequestOptions, Result, ToolTraits,
    model::{
        CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, JsonObject,
        LoggingLevel, ReadResourceResult,
    },
};
use serde_json::Value;

use crate::{call::Operation, catalog, server::Server};

pub(crate) struct CallTool<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: Option<JsonObject>,
}

impl Operation for CallTool<'_> {
    type Output = CallToolResult;

    fn method(&self) -> &'static str {
        "tools/call"
    }

    fn target(&self) -> &str {
        self.name
    }

    fn permitted(&self, server: &Server) -> Result<()> {
        if server.spec().tools.permits(self.name) {
            return Ok(());
        }
        Err(catalog::unknown_tool(format!(
            "the tool {:?} is hidden by the server's tool filter",
            self.name
        )))
    }

    fn traits(&self, server: &Server) -> ToolTraits {
        let hints = server.catalog.tools.cached().and_then(|listing| {
            let tool = listing.items.iter().find(|tool| tool.name == self.name)?;
            tool.annotations.clone()
        });
        let (read_only, idempotent) = hints.map_or((false, false), |hints| {
            (
                hints.read_only_hint.unwrap_or(false),
                hints.idempotent_hint.unwrap_or(false),
            )
        });
        ToolTraits::new(
            read_only,
            idempotent,
            server.spec().policy.trust_annotations,
        )
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<CallToolResult>> {
        client.call_tool(self.name, self.arguments.clone(), options)
    }
}

pub(crate) struct Complete {
    pub(crate) params: CompleteRequestParams,
}

impl Operation for Complete {
    type Output = CompleteResult;

    fn method(&self) -> &'static str {
        "completion/complete"
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<CompleteResult>> {
        client.complete(self.params.clone(), options)
    }
}

pub(crate) struct ReadResource<'a> {
    pub(crate) uri: &'a str,
}

impl Operation for ReadResource<'_> {
    type Output = ReadResourceResult;

    fn method(&self) -> &'static str {
        "resources/read"
    }

    fn target(&self) -> &str {
        self.uri
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<ReadResourceResult>> {
        client.read_resource(self.uri, options)
    }
}

pub(crate) struct GetPrompt<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: Option<JsonObject>,
}

impl Operation for GetPrompt<'_> {
    type Output = GetPromptResult;

    fn method(&self) -> &'static str {
        "prompts/get"
    }

    fn target(&self) -> &str {
        self.name
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<GetPromptResult>> {
        client.get_prompt(self.name, self.arguments.clone(), options)
    }
}

/// Any request at all. It counts as one that may do harm when it is run twice.
pub(crate) struct Raw<'a> {
    pub(crate) method: &'a str,
    pub(crate) params: Option<Value>,
}

impl Operation for Raw<'_> {
    type Output = Value;

    fn method(&self) -> &'static str {
        "request"
    }

    fn target(&self) -> &str {
        self.method
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Value>> {
        client.request(self.method, self.params.clone(), options)
    }
}

/// Subscribing, or its opposite. Running it twice is running it once.
pub(crate) struct Subscribe<'a> {
    pub(crate) uri: &'a str,
    pub(crate) on: bool,
}

impl Operation for Subscribe<'_> {
    type Output = ();

    fn method(&self) -> &'static str {
        if self.on {
            "resources/subscribe"
        } else {
            "resources/unsubscribe"
        }
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        _options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<()>> {
        if self.on {
            client.subscribe(self.uri)
        } else {
            client.unsubscribe(self.uri)
        }
    }
}

/// Setting the log level.
pub(crate) struct SetLogLevel {
    pub(crate) level: LoggingLevel,
}

impl Operation for SetLogLevel {
    type Output = ();

    fn method(&self) -> &'static str {
        "logging/setLevel"
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        _options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<()>> {
        client.set_log_level(self.level)
    }
}
