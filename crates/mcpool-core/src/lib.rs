//! The vocabulary of mcpool.
//!
//! This crate holds what all other mcpool crates have in common, and does no I/O: server
//! names, specs and policies, connection states and events, one error type, and the two seams
//! of the system, both object-safe and both with a mockall mock behind the `mock` feature:
//!
//! 1. [`Connector`] opens a [`Transport`], which answers requests;
//! 2. [`ClientFactory`] turns a [`ServerSpec`] into a connected [`Client`].
//!
//! The wire is our own: a JSON-RPC [envelope](Message) whose payloads stay [`Raw`] text until
//! somebody wants a type. With the feature `model` the protocol's own types are rmcp's, re-exported
//! as `model`, and `Verbs` (`call_tool`, `list_tools` …) stand over every [`Requester`].
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod auth;
mod backoff;
mod client;
mod delivery;
mod disconnect;
mod error;
mod event;
mod exhausted;
mod handler;
mod list;
mod log_level;
mod mask;
mod message;
#[cfg(feature = "mock")]
pub mod mock;
mod name;
mod oauth;
mod param_headers;
mod policy;
mod raw;
mod secret;
mod spec;
mod state;
mod surrogates;
mod trace_context;
mod transport;
pub mod units;
mod untrusted;
#[cfg(feature = "model")]
mod verbs;
mod version;

pub use auth::{AuthChallenge, AuthDecision, AuthRequest, Authenticator, AuthenticatorProvider};
pub use backoff::Backoff;
pub use client::{
    Client, ClientFactory, ClientLayer, ClientSnapshot, CloseReason, ConnectAttempt,
    ConnectEvidence, ConnectOptions, ConnectionInfo, Layered, LayeredFactory, Next, NoticeSender,
    Notices, Offered, PeerInfo, ProbeMethod, ProbeReport, ProgressCallback, Request,
    RequestOptions, Requester, Rounds, ServerCapabilities, ServerNotice,
};
pub use delivery::{Delivery, Replay, ToolTraits, is_client_method, is_safe_method, replay};
pub use disconnect::DisconnectCause;
pub use error::{Error, ErrorKind, Recovery, Result};
pub use event::{Event, EventKind};
pub use exhausted::is_exhausted;
pub use handler::{Caller, DeclineAll, ServerRequestHandler};
pub use list::RejectedItem;
pub use log_level::LogLevel;
pub use mask::{Masker, Sensitivity};
pub use message::{
    Message, NotAMessage, Notification, ParsedLine, RawObject, RequestId, ResponseId, RpcError,
    ServerRequest, parse_line,
};
pub use name::ServerName;
pub use oauth::{DpopChoice, IdentityProvider, OAuthGrant, OAuthSpec, SecretSource};
pub use param_headers::ParamHeaders;
pub use policy::{
    ConnectBudget, HealthPolicy, Jitter, Limits, ReconnectPolicy, RequestTimeouts, ServerPolicy,
    ShutdownPolicy,
};
pub use raw::Raw;
pub use secret::Secret;
pub use spec::{
    ConnectRequest, Connector, EnvInheritance, HttpSpec, ProtocolChoice, ServerSpec, Sharing,
    SpecResolver, StartMode, StdioSpec, ToolFilter, TransportSpec, is_localhost,
};
pub use state::{Connectivity, ServerState, StateKind};
pub use trace_context::TraceContext;
pub use transport::{
    Diagnostics, Direction, Inbox, InboxSender, Incoming, MAX_OPEN_SERVER_REQUESTS, Progress,
    RequestClass, RequestSink, StderrLine, Transport, TransportKind, TransportMonitor, WireEvent,
    WireRequest, WireTap, encode, encode_notification, encode_response,
};
pub use untrusted::{
    Quoted, Untrusted, clean_json, clean_json_pretty, clean_json_text, is_unshowable,
};
#[cfg(feature = "model")]
pub use verbs::{Listing, Reply, Typed, TypedHandler, Verbs, WithOptions};
pub use version::ProtocolVersion;

/// rmcp's payload types: the types of the protocol's parameters and results.
#[cfg(feature = "model")]
pub use rmcp::model;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
