//! Who answers what a server asks of its client: roots, sampling, elicitation.

use std::{fmt, result};

use async_trait::async_trait;

use crate::{Notification, Raw, RpcError, ServerName, ServerRequest};

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

impl fmt::Debug for dyn ServerRequestHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerRequestHandler")
    }
}

/// Who stands behind one request, for a program that sends requests of many: set with
/// [`RequestOptions::with_caller`](crate::RequestOptions::with_caller).
///
/// Which request a server means is known over Streamable HTTP, and from MCP 2026-07-28 on. Over
/// stdio and HTTP+SSE a server's request names none: it goes to the caller when the requests with a
/// caller in flight on that connection are of one [client](Self::client), and is refused when they
/// are of several.
/// Dropping the future of [`answer`](Self::answer) withdraws the question.
#[async_trait]
pub trait Caller: Send + Sync {
    /// A notification that came in the course of the request: a log message, for one. `true` keeps
    /// it from the notices of the server. Called by the connection's reader: it must not block.
    fn heard(&self, _notification: &Notification) -> bool {
        false
    }

    /// The client whose request it is, where several requests may be of one: any text that
    /// distinguishes clients. A question that names no request goes to the latest of those in flight when
    /// all of them are of one client. Default `None`: of a client with no other request.
    fn client(&self) -> Option<&str> {
        None
    }

    /// Answers what the server asks in the course of the request. The session has checked that
    /// the connection's handler declares it; from MCP 2026-07-28 on, where each request declares
    /// what its client can do, checking is the caller's.
    ///
    /// # Errors
    /// A JSON-RPC error for the server.
    async fn answer(
        &self,
        server: &ServerName,
        request: ServerRequest,
    ) -> result::Result<Raw, RpcError>;
}

impl fmt::Debug for dyn Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller")
    }
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
