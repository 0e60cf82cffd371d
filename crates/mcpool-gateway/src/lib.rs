//! Serves the whole pool of a [`ConnectionManager`](mcpool_manager::ConnectionManager) as one MCP
//! server.
//!
//! [`Gateway`] answers requests of clients of both eras of the protocol, over streams
//! ([`Gateway::serve_lines`]) and over Streamable HTTP ([`Gateway::router`]).
//!
//! # What it does
//! - **Names.** Tools and prompts are `server__name`
//!   ([`naming`](mcpool_manager::naming)); resources keep their URIs, and of two servers with one
//!   URI the first by name is asked. A [`Scope`] serves a part, or one server under its own names.
//! - **Raw.** What a server lists and answers is passed on as the text that came. Changed are
//!   `name`, `_meta` (what belongs to one hop), `resultType` and cache hints as the client's era
//!   wants them, and a `requestState`, which is sealed.
//! - **A server that is down** fails its own calls and no others: a call waits for it as the pool
//!   does, and fails with words that a model understands.
//! - **What servers ask** reaches the client that made the call, in either era: see [`Relay`].
//! - **A server that clients do not share** ([`Sharing::Client`](mcpool_core::Sharing::Client)) has
//!   an instance for each client: for its calls, with its capabilities, until it goes.
//! - **Tool search**, where it is wanted: two tools that find and call all others
//!   ([`GatewayBuilder::with_tool_search`]).
//! - **Sessions** of older clients are sealed tokens ([`SealingKeys`]): nothing is stored, so a
//!   restart with the same key goes on, and so does another replica.
//! - **Access** over HTTP by [`AccessKeys`], and an [`AuditEntry`] for each request of a client.
//!
//! # Traces
//! The trace that a client names (W3C Trace Context, in `_meta` or in HTTP headers) is passed on to
//! servers. With the feature `otel` each request has a span in it, recorded by OpenTelemetry's global
//! tracer; `Traces` exports them.
//!
//! # Bounds
//! `docs/limits.md` lists them.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod addresses;
mod arguments;
mod audit;
mod calls;
mod catalog;
mod client;
mod down_servers;
mod drain;
mod era;
mod fault;
mod fleet;
mod flights;
mod gateway;
mod grant;
mod guests;
mod http;
mod https;
mod hub;
mod limits;
mod listening;
mod notices;
mod oauth;
mod offers;
mod outlet;
mod own;
mod parking;
mod pulse;
mod reach;
mod relay;
mod replica;
mod scope;
mod seal;
mod searching;
mod session;
mod span;
mod stdio;
mod tool_search;
#[cfg(feature = "otel")]
mod traces;

pub use access::AccessKeys;
pub use audit::{AuditEntry, AuditOutcome, AuditSink};
pub use down_servers::DownServers;
pub use fleet::{Fleet, FleetServer, FleetWorker};
pub use gateway::{Gateway, GatewayBuilder};
pub use grant::Grant;
pub use http::{HttpOptions, HttpServer, Tls};
pub use limits::Limits;
pub use oauth::ResourceServer;
pub use relay::Relay;
pub use scope::{Profile, Profiles, Scope};
pub use seal::SealingKeys;
#[cfg(feature = "otel")]
pub use traces::Traces;
