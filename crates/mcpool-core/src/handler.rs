#![allow(
    deprecated,
    reason = "roots and sampling are deprecated by MCP 2026-07-28, spoken by older servers"
)]

use async_trait::async_trait;
use rmcp::model::{
    ClientCapabilities, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams,
    ElicitResult, ElicitationAction, ErrorCode, ErrorData, ListRootsResult,
};

use crate::ServerName;

/// Answers what a server asks of its client: roots, sampling, elicitation.
///
/// Only what [`capabilities`](ServerRequestHandler::capabilities) declares is asked by a server
/// that keeps to the protocol; anything else is declined by the defaults here.
#[async_trait]
pub trait ServerRequestHandler: Send + Sync {
    /// What the client declares. Declare elicitation only where a person can answer.
    fn capabilities(&self, _server: &ServerName) -> ClientCapabilities {
        ClientCapabilities::default()
    }

    /// The roots of the client.
    ///
    /// # Errors
    /// A JSON-RPC error for the server.
    async fn list_roots(
        &self,
        _server: &ServerName,
    ) -> std::result::Result<ListRootsResult, ErrorData> {
        Err(declined("roots/list"))
    }

    /// A completion by the client's model.
    ///
    /// # Errors
    /// A JSON-RPC error for the server.
    async fn create_message(
        &self,
        _server: &ServerName,
        _params: CreateMessageRequestParams,
    ) -> std::result::Result<CreateMessageResult, ErrorData> {
        Err(declined("sampling/createMessage"))
    }

    /// A question to the person. Say which server asks, and let the person decline.
    ///
    /// # Errors
    /// A JSON-RPC error for the server.
    async fn elicit(
        &self,
        _server: &ServerName,
        _params: ElicitRequestParams,
    ) -> std::result::Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Decline))
    }
}

fn declined(method: &str) -> ErrorData {
    ErrorData::new(
        ErrorCode::METHOD_NOT_FOUND,
        format!("this client does not offer {method}"),
        None,
    )
}

/// The default handler: declares nothing, declines everything.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct has nothing to add"
)]
pub struct DeclineAll;

impl ServerRequestHandler for DeclineAll {}
