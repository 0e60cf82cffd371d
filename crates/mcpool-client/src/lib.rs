//! One live MCP session with one server, and the factory that makes one from a
//! [`ServerSpec`](mcpool_core::ServerSpec).
//!
//! [`StandardFactory`] implements [`ClientFactory`](mcpool_core::ClientFactory): it opens a
//! transport, finds out which transport and which era of the protocol the server speaks, keeps
//! the evidence, and gives a [`Client`](mcpool_core::Client). [`IsolatedClient`] is a client for
//! a caller that wants one of its own. What can be asked of either is in
//! [`Verbs`](mcpool_core::Verbs).
//!
//! | question | file |
//! |---|---|
//! | which transport, which era, in which order | `negotiate.rs`, `era.rs`, `handshake.rs`, `memory.rs` |
//! | what was tried | `evidence.rs` |
//! | how a request is sent, waits and times out | `call.rs`, `link.rs`, `clock.rs`, `pauses.rs` |
//! | which arguments travel as headers | `tool_headers.rs` |
//! | a server that asks back | `rounds.rs`, `incoming.rs`, `answerer.rs`, `callers.rs` |
//! | what an application puts around requests | `layers.rs` |
//! | is it alive; what has changed | `probe.rs`, `activity.rs`, `listen.rs`, `stream.rs`, `notice.rs` |
//!
//! # Timeouts
//! A transport has none: the session's clock runs around each request. Without a word from the
//! server for [`RequestOptions::timeout`](mcpool_core::RequestOptions::timeout) a request ends,
//! with progress at [`max_total`](mcpool_core::RequestOptions::max_total); while the application
//! answers a question of the server in its course both stand still, for an hour in all at most.
//!
//! # Bounds
//! Questions of the server that are open: 64. Questions of one round of a multi-round-trip
//! request: 64; rounds: `limits.max_rounds`. Time for one answer of the application: an hour.
//! Subscriptions on a connection from MCP 2026-07-28 on: 256. Notices that a slow reader may be
//! behind: 32. Servers whose era is remembered: 4 096.
//!
//! # Cargo features
//! `stdio`, `http` and `sse`, all on by default, bring the connector of that transport. Without
//! any, register connectors with
//! [`with_connector`](StandardFactory::with_connector), or name one in a spec
//! ([`TransportSpec::Custom`](mcpool_core::TransportSpec::Custom)).
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod activity;
mod answerer;
mod call;
mod callers;
mod client_info;
mod clock;
mod era;
mod evidence;
mod factory;
mod handshake;
mod incoming;
mod isolated;
mod layers;
mod link;
mod listen;
mod memory;
mod negotiate;
mod notice;
mod pauses;
mod probe;
mod rounds;
mod session;
mod stream;
mod tool_headers;

pub use client_info::ClientInfo;
pub use evidence::ConnectFailure;
pub use factory::StandardFactory;
pub use isolated::IsolatedClient;
pub use layers::{AuditLog, TimeoutCap};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
