//! Answers what the server asks, through the application's [`ServerRequestHandler`]: requests of
//! its own, and the questions inside an `input_required` result.
#![allow(
    deprecated,
    reason = "roots and sampling are deprecated by MCP 2026-07-28, spoken by older servers"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

use mcpool_core::{
    ServerName, ServerRequestHandler,
    model::{ClientResult, ErrorCode, ErrorData, GetExtensions, InputRequest, ServerRequest},
};
use rmcp::service::InboundStreamOrigin;
use serde_json::Value;

/// Answers one request of the server.
pub(crate) async fn answer(
    handler: &dyn ServerRequestHandler,
    server: &ServerName,
    request: ServerRequest,
) -> Result<ClientResult, ErrorData> {
    match request {
        ServerRequest::ListRootsRequest(_) => {
            handler.list_roots(server).await.map(ClientResult::from)
        }
        ServerRequest::CreateMessageRequest(request) => handler
            .create_message(server, request.params)
            .await
            .map(ClientResult::from),
        ServerRequest::ElicitRequest(request) => handler
            .elicit(server, request.params)
            .await
            .map(ClientResult::from),
        ServerRequest::PingRequest(_) => Ok(ClientResult::empty(())),
        ServerRequest::CustomRequest(request) => Err(not_offered(&request.method)),
        _ => Err(not_offered("this request")),
    }
}

/// Answers one question of an `input_required` result.
pub(crate) async fn answer_input(
    handler: &dyn ServerRequestHandler,
    server: &ServerName,
    request: InputRequest,
) -> Result<Value, ErrorData> {
    let request = match request {
        InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
        InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
        InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
        _ => return Err(not_offered("this kind of input")),
    };
    let result = answer(handler, server, request).await?;
    serde_json::to_value(result).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// From MCP 2026-07-28 on a server may ask only in the course of a request of ours.
pub(crate) fn check_association(
    request: &ServerRequest,
    request_pending: bool,
) -> Result<(), ErrorData> {
    let restricted = matches!(
        request,
        ServerRequest::CreateMessageRequest(_)
            | ServerRequest::ListRootsRequest(_)
            | ServerRequest::ElicitRequest(_)
    );
    let unassociated = matches!(
        request.extensions().get::<InboundStreamOrigin>(),
        Some(InboundStreamOrigin::Unassociated)
    );
    if restricted && (unassociated || !request_pending) {
        return Err(ErrorData::invalid_params(
            "a server may ask its client only while it works on a request of that client",
            None,
        ));
    }
    Ok(())
}

fn not_offered(method: &str) -> ErrorData {
    ErrorData::new(
        ErrorCode::METHOD_NOT_FOUND,
        format!("this client does not offer {method}"),
        None,
    )
}

/// Stops the clocks of pending requests while a question of the server is being answered.
pub(crate) struct ClockPause<'a>(&'a AtomicUsize);

impl<'a> ClockPause<'a> {
    pub(crate) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for ClockPause<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
