//! The verbs of the protocol, once, over every [`Requester`]: a client, a handle of the manager, a
//! wrapper of either.
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

mod lenient;
mod listing;
mod pages;
mod reply;
mod typed_handler;
mod with_options;

pub use listing::Listing;
pub use reply::Reply;
pub use typed_handler::{Typed, TypedHandler};
pub use with_options::WithOptions;

use async_trait::async_trait;
use rmcp::model::{
    CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, LoggingLevel, Prompt,
    ReadResourceResult, Resource, ResourceTemplate, Tool,
};
use serde::Serialize;
use serde_json::json;

use self::{lenient::Payload, pages::List};
use crate::{Error, ErrorKind, Raw, RawObject, Request, RequestOptions, Requester, Result};

/// The verbs of the protocol. They are there for every [`Requester`], and none is to be
/// implemented.
///
/// Arguments are anything that serialises to an object, `()` for none. Options are set for a
/// group of calls: `client.with_options(&options).call_tool(…)`.
///
/// Dropping the future of a verb cancels its request.
///
/// ```no_run
/// use mcpool_core::{Requester, Verbs};
/// use serde_json::json;
///
/// # async fn example(server: &dyn Requester) -> mcpool_core::Result<()> {
/// let sum = server.call_tool("add", json!({"a": 1, "b": 2})).await?;
/// println!("{:?}, and as it came: {}", sum.content, sum.raw().get());
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Verbs: Requester {
    /// The same requester with these options for every request.
    fn with_options<'a>(&'a self, options: &'a RequestOptions) -> WithOptions<'a, Self> {
        WithOptions::new(self, options)
    }

    /// The tools, all pages, in the server's order. Of two with one name the first is kept.
    ///
    /// # Errors
    /// When a page cannot be fetched ([`Rpc`](ErrorKind::Rpc) …), or the list is over
    /// [`Limits`](crate::Limits) ([`TooLarge`](ErrorKind::TooLarge)). A server that does not
    /// offer tools has none.
    async fn list_tools(&self) -> Result<Listing<Tool>> {
        pages::walk(self, List::TOOLS, |tool: &Tool| tool.name.as_ref()).await
    }

    /// Calls a tool. A tool that fails is an `Ok` with `is_error` set.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for arguments that are no object,
    /// [`Rpc`](ErrorKind::Rpc) when the server refuses, otherwise what happened on the way.
    async fn call_tool<A: Serialize + Send + Sync>(
        &self,
        name: &str,
        arguments: A,
    ) -> Result<Reply<CallToolResult>> {
        let params = named(name, &arguments)?;
        ask(self, "tools/call", params).await
    }

    /// The prompts, all pages.
    ///
    /// # Errors
    /// As [`list_tools`](Self::list_tools).
    async fn list_prompts(&self) -> Result<Listing<Prompt>> {
        pages::walk(self, List::PROMPTS, |prompt: &Prompt| prompt.name.as_str()).await
    }

    /// One prompt, filled in.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    async fn get_prompt<A: Serialize + Send + Sync>(
        &self,
        name: &str,
        arguments: A,
    ) -> Result<Reply<GetPromptResult>> {
        let params = named(name, &arguments)?;
        ask(self, "prompts/get", params).await
    }

    /// The resources, all pages.
    ///
    /// # Errors
    /// As [`list_tools`](Self::list_tools).
    async fn list_resources(&self) -> Result<Listing<Resource>> {
        pages::walk(self, List::RESOURCES, |resource: &Resource| {
            resource.uri.as_str()
        })
        .await
    }

    /// The resource templates, all pages.
    ///
    /// # Errors
    /// As [`list_tools`](Self::list_tools).
    async fn list_resource_templates(&self) -> Result<Listing<ResourceTemplate>> {
        pages::walk(self, List::TEMPLATES, |template: &ResourceTemplate| {
            template.uri_template.as_str()
        })
        .await
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    async fn read_resource(&self, uri: &str) -> Result<Reply<ReadResourceResult>> {
        ask(self, "resources/read", Raw::of(&json!({ "uri": uri }))?).await
    }

    /// Completes an argument of a prompt or of a resource template.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    async fn complete(&self, params: CompleteRequestParams) -> Result<Reply<CompleteResult>> {
        ask(self, "completion/complete", Raw::of(&params)?).await
    }

    /// Subscribes to the changes of a resource: they come as
    /// [`ServerNotice::ResourceUpdated`](crate::ServerNotice::ResourceUpdated).
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    async fn subscribe(&self, uri: &str) -> Result<()> {
        command(
            self,
            "resources/subscribe",
            Raw::of(&json!({ "uri": uri }))?,
        )
        .await
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    async fn unsubscribe(&self, uri: &str) -> Result<()> {
        command(
            self,
            "resources/unsubscribe",
            Raw::of(&json!({ "uri": uri }))?,
        )
        .await
    }

    /// Sets the least severe level of the log messages that the server sends. Deprecated by MCP
    /// 2026-07-28, where the session says it with each request.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    async fn set_log_level(&self, level: LoggingLevel) -> Result<()> {
        command(
            self,
            "logging/setLevel",
            Raw::of(&json!({ "level": level }))?,
        )
        .await
    }
}

impl<R: Requester + ?Sized> Verbs for R {}

async fn ask<T: Payload>(
    server: &(impl Requester + ?Sized),
    method: &'static str,
    params: Raw,
) -> Result<Reply<T>> {
    let request = Request::new(method).with_raw_params(params);
    let raw = server.request(&request, &RequestOptions::new()).await?;
    lenient::read(raw).map_err(|error| error.with_server(server.server()).with_operation(method))
}

async fn command(
    server: &(impl Requester + ?Sized),
    method: &'static str,
    params: Raw,
) -> Result<()> {
    let request = Request::new(method).with_raw_params(params);
    server.request(&request, &RequestOptions::new()).await?;
    Ok(())
}

/// The parameters of a request for something with a name and arguments. They are written in one
/// go: arguments may be megabytes.
fn named<A: Serialize>(name: &str, arguments: &A) -> Result<Raw> {
    #[derive(Serialize)]
    struct Named<'a, A> {
        name: &'a str,
        arguments: &'a A,
    }
    let params = Raw::of(&Named { name, arguments })?;
    // A name is longer as JSON where it holds what has to be escaped.
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    let name_length = match name.bytes().all(plain) {
        true => name.len() + 2,
        false => Raw::of(name)?.len(),
    };
    let before = r#"{"name":,"arguments":"#.len() + name_length;
    match params.get().get(before..) {
        Some(arguments) if arguments.starts_with('{') => Ok(params),
        Some("null}") => {
            let mut params = RawObject::new();
            params.insert("name", Raw::of(name)?);
            params.to_raw()
        }
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            "the arguments are no object: give something that serialises to one, or `()`",
        )),
    }
}

#[cfg(test)]
mod tests;
