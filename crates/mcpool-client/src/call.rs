//! One operation of the application: a request, perhaps sent in several rounds, on one clock.

use std::{borrow::Cow, collections::HashSet};

use mcpool_core::{
    Error, Limits, Raw, RawObject, Request, RequestOptions, Result, RpcError, TransportKind,
    WireRequest,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    answerer::Answerer,
    clock::Clock,
    link::{Ask, Link},
    tool_headers::ToolHeaders,
};

/// What a session gives its calls.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) link: &'a Link,
    pub(crate) tools: &'a ToolHeaders,
    pub(crate) limits: &'a Limits,
    pub(crate) answerer: &'a Answerer,
}

/// One operation.
pub(crate) struct Call<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) request: &'a Request,
    pub(crate) clock: Clock,
    pub(crate) options: &'a RequestOptions,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        context: Context<'a>,
        request: &'a Request,
        options: &'a RequestOptions,
        clock: Clock,
    ) -> Self {
        Self {
            context,
            request,
            clock,
            options,
        }
    }

    pub(crate) fn operation(&self) -> &'static str {
        operation(self.request)
    }

    /// Sends it once, with these parameters. When the server finds that the headers do not match
    /// the arguments, which it says before it runs anything, the tools are listed again, and it is
    /// sent once more (MCP 2026-07-28, "Custom Headers from Tool Parameters").
    pub(crate) async fn send(&self, params: Option<&Raw>) -> Result<Raw> {
        match self.send_once(params).await {
            Err(error) if self.is_mismatch(&error) => {
                if let Err(failure) = Box::pin(self.list_tools()).await {
                    tracing::debug!(
                        server = %self.context.link.server,
                        kind = %failure.kind(),
                        "the tools could not be listed again"
                    );
                    return Err(error);
                }
                self.send_once(params).await
            }
            outcome => outcome,
        }
    }

    async fn send_once(&self, params: Option<&Raw>) -> Result<Raw> {
        let Context { link, tools, .. } = self.context;
        let method = &*self.request.method;
        let with_headers = link.is_modern() && link.kind() != TransportKind::Stdio;
        let name = match params {
            Some(params) if with_headers => name_of(method, params),
            _ => None,
        };
        let headers = match (method, &name, params) {
            ("tools/call", Some(name), Some(params)) => tools.of_call(name, params),
            _ => Vec::new(),
        };
        let meta = link.meta(self.options.meta.as_ref());
        let wire = WireRequest::new(method, params)
            .with_meta(meta.as_deref())
            .with_version(link.version())
            .with_name(name.as_deref())
            .with_headers(&headers);
        let mut ask = Ask::new(wire);
        ask.progress = self.options.progress.as_ref();
        ask.caller = self.options.caller.as_ref();
        let answer = link.ask(ask, &self.clock, self.operation()).await?;
        if with_headers && method == "tools/list" {
            tools.learn(&answer);
        }
        Ok(answer)
    }

    fn is_mismatch(&self, error: &Error) -> bool {
        let code = error.rpc().map(|rpc| rpc.code);
        code == Some(RpcError::HEADER_MISMATCH) && self.request.method == "tools/call"
    }

    /// Walks the list of tools for what it says of headers.
    async fn list_tools(&self) -> Result<()> {
        let Context {
            link,
            tools,
            limits,
            ..
        } = self.context;
        let mut seen = HashSet::new();
        let mut params = None;
        for _ in 0..limits.max_pages.max(1) {
            let meta = link.meta(self.options.meta.as_ref());
            let wire = WireRequest::new("tools/list", params.as_ref())
                .with_meta(meta.as_deref())
                .with_version(link.version());
            let page = link.ask(Ask::new(wire), &self.clock, "tools/list").await?;
            let Some(cursor) = tools.learn(&page) else {
                break;
            };
            if !seen.insert(cursor.get().to_owned()) {
                break;
            }
            let mut next = RawObject::new();
            next.insert("cursor", cursor);
            params = Some(next.to_raw()?);
        }
        Ok(())
    }
}

/// What a request is for, by its parameters (MCP 2026-07-28, "Standard Request Headers").
fn name_of(method: &str, params: &Raw) -> Option<String> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, default)]
        name: Option<&'a RawValue>,
        #[serde(borrow, default)]
        uri: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "taskId")]
        task: Option<&'a RawValue>,
    }
    let params: Params<'_> = serde_json::from_str(params.get()).ok()?;
    let name = match method {
        "tools/call" | "prompts/get" => params.name,
        "resources/read" => params.uri,
        "tasks/get" | "tasks/update" | "tasks/cancel" => params.task,
        _ => None,
    };
    Raw::copied(name?).parse().ok()
}

/// The name of an operation in an error: the method, where it is one that is known when this is
/// compiled.
fn operation(request: &Request) -> &'static str {
    match &request.method {
        Cow::Borrowed(method) => method,
        Cow::Owned(method) => Request::known_method(method).unwrap_or("request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_is_for_stands_in_its_parameters() {
        let params = r#"{"name":"t\u00fc","uri":"a:b","taskId":5}"#;
        let params = Raw::from_text(params.to_owned()).unwrap();
        assert_eq!(name_of("tools/call", &params).as_deref(), Some("tü"));
        assert_eq!(name_of("resources/read", &params).as_deref(), Some("a:b"));
        assert_eq!(name_of("tasks/get", &params), None);
        assert_eq!(name_of("tools/list", &params), None);
        assert_eq!(name_of("tools/call", &Raw::null()), None);
    }

    #[test]
    fn an_operation_is_a_word_of_the_program() {
        let of = |method: Cow<'static, str>| operation(&Request::new(method));
        assert_eq!(of("vendor/x".into()), "vendor/x");
        assert_eq!(of("tools/call".to_owned().into()), "tools/call");
        assert_eq!(of("vendor/x".to_owned().into()), "request");
    }
}
