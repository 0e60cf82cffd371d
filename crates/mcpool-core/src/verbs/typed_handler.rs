//! A handler of the server's questions with the protocol's types.
#![allow(
    deprecated,
    reason = "roots and sampling are deprecated by MCP 2026-07-28, spoken by older servers"
)]

use std::result;

use async_trait::async_trait;
use rmcp::model::{
    ClientCapabilities, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams,
    ElicitResult, ElicitationAction, ListRootsResult,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Raw, RpcError, ServerName, ServerRequest, ServerRequestHandler};

/// Answers what a server asks of its client, with the protocol's types. [`Typed`] makes a
/// [`ServerRequestHandler`] of it.
#[async_trait]
pub trait TypedHandler: Send + Sync {
    /// What the client declares. Declare elicitation only where a person can answer.
    fn capabilities(&self, _server: &ServerName) -> ClientCapabilities {
        ClientCapabilities::default()
    }

    /// The roots of the client.
    ///
    /// # Errors
    /// A JSON-RPC error for the server.
    async fn list_roots(&self, _server: &ServerName) -> result::Result<ListRootsResult, RpcError> {
        Err(RpcError::method_not_found("roots/list"))
    }

    /// A completion by the client's model.
    ///
    /// # Errors
    /// A JSON-RPC error for the server.
    async fn create_message(
        &self,
        _server: &ServerName,
        _params: CreateMessageRequestParams,
    ) -> result::Result<CreateMessageResult, RpcError> {
        Err(RpcError::method_not_found("sampling/createMessage"))
    }

    /// A question to the person. Say which server asks, and let the person decline.
    ///
    /// # Errors
    /// A JSON-RPC error for the server.
    async fn elicit(
        &self,
        _server: &ServerName,
        _params: ElicitRequestParams,
    ) -> result::Result<ElicitResult, RpcError> {
        Ok(ElicitResult::new(ElicitationAction::Decline))
    }
}

/// A [`TypedHandler`] as a [`ServerRequestHandler`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Typed<H>(H);

impl<H> Typed<H> {
    /// Wraps a handler.
    #[must_use]
    pub fn new(handler: H) -> Self {
        Self(handler)
    }
}

#[async_trait]
impl<H: TypedHandler> ServerRequestHandler for Typed<H> {
    fn capabilities(&self, server: &ServerName) -> Raw {
        Raw::of(&self.0.capabilities(server)).unwrap_or_else(|_| Raw::empty_object())
    }

    async fn answer(
        &self,
        server: &ServerName,
        request: ServerRequest,
    ) -> result::Result<Raw, RpcError> {
        match request.method.as_str() {
            "roots/list" => write(&self.0.list_roots(server).await?),
            "sampling/createMessage" => {
                write(&self.0.create_message(server, read(&request)?).await?)
            }
            "elicitation/create" => write(&self.0.elicit(server, read(&request)?).await?),
            other => Err(RpcError::method_not_found(other)),
        }
    }
}

fn read<T: DeserializeOwned>(request: &ServerRequest) -> result::Result<T, RpcError> {
    let params = request.params.clone().unwrap_or_else(Raw::empty_object);
    params
        .parse()
        .map_err(|error| RpcError::new(RpcError::INVALID_PARAMS, error.message()))
}

fn write<T: Serialize>(result: &T) -> result::Result<Raw, RpcError> {
    Raw::of(result).map_err(|error| RpcError::new(RpcError::INTERNAL, error.message()))
}
