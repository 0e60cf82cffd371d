//! Who answers what a server asks of its client: roots, sampling, elicitation.

use std::result;

use async_trait::async_trait;

use crate::{Raw, RpcError, ServerName, ServerRequest};

/// Answers what a server asks of its client.
///
/// What was not declared in [`capabilities`](Self::capabilities) never gets here: the session
/// refuses it with −32601, and answers `ping` itself. Calls run on tasks of the session, at most
/// 64 at once; dropping the future withdraws the question (the server cancelled it, or the
/// connection ended).
///
/// `TypedHandler` (feature `model`) is the same with the protocol's types.
#[async_trait]
pub trait ServerRequestHandler: Send + Sync {
    /// What the client declares, as the protocol's `ClientCapabilities` object. Declare
    /// elicitation only where a person can answer.
    fn capabilities(&self, _server: &ServerName) -> Raw {
        Raw::empty_object()
    }

    /// Answers one question.
    ///
    /// # Errors
    /// A JSON-RPC error for the server.
    async fn answer(
        &self,
        server: &ServerName,
        request: ServerRequest,
    ) -> result::Result<Raw, RpcError>;
}

/// The default handler: declares nothing, refuses everything with −32601.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct has nothing to add"
)]
pub struct DeclineAll;

#[async_trait]
impl ServerRequestHandler for DeclineAll {
    async fn answer(
        &self,
        _server: &ServerName,
        request: ServerRequest,
    ) -> result::Result<Raw, RpcError> {
        Err(RpcError::method_not_found(&request.method))
    }
}
