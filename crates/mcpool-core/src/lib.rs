//! The vocabulary of mcpool.
//!
//! This crate holds what every other mcpool crate speaks and nothing that does I/O: server
//! names, specs and policies, connection states and events, one error type, and the two seams
//! of the system, both object-safe and both with a mockall mock behind the `mock` feature:
//!
//! 1. [`Connector`] opens a [`Transport`], which carries JSON-RPC messages;
//! 2. [`ClientFactory`] turns a [`ServerSpec`] into a connected [`Client`].
//!
//! The protocol's own types are rmcp's and are re-exported as [`model`].
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod auth;
mod backoff;
mod client;
mod delivery;
mod error;
mod event;
mod handler;
mod mask;
#[cfg(feature = "mock")]
pub mod mock;
mod name;
mod oauth;
mod policy;
mod secret;
mod spec;
mod state;
mod transport;
mod untrusted;

pub use auth::{AuthChallenge, AuthDecision, AuthRequest, Authenticator, AuthenticatorProvider};
pub use backoff::Backoff;
pub use client::{
    Client, ClientFactory, CloseReason, ConnectAttempt, ConnectEvidence, ConnectionInfo,
    ConnectionTimes, ProbeMethod, ProbeReport, Progress, ProgressCallback, RejectedItem,
    RequestOptions, ServerNotice, ToolListing,
};
pub use delivery::{Delivery, Replay, ToolTraits, is_safe_method, replay};
pub use error::{Error, ErrorKind, Result, Retry};
pub use event::{DisconnectCause, Event, EventKind};
pub use handler::{DeclineAll, ServerRequestHandler};
pub use mask::{Masker, Sensitivity};
pub use name::ServerName;
pub use oauth::{DpopChoice, IdentityProvider, OAuthGrant, OAuthSpec, SecretSource};
pub use policy::{
    ConnectBudget, HealthPolicy, Jitter, Limits, ReconnectPolicy, RequestTimeouts, ServerPolicy,
    ShutdownPolicy,
};
pub use secret::Secret;
pub use spec::{
    EnvInheritance, HttpSpec, ProtocolChoice, ServerSpec, SpecResolver, StartMode, StdioSpec,
    ToolFilter, TransportKind, TransportSpec,
};
pub use state::{CoarseState, ServerState};
pub use transport::{
    ConnectRequest, Connector, Diagnostics, IncomingMessage, OutgoingMessage, StderrLine,
    Transport, TransportMonitor,
};
pub use untrusted::{Quoted, Untrusted, clean_json, clean_json_pretty, is_unshowable};

/// rmcp's message model: the types of the protocol itself.
pub use rmcp::model;
