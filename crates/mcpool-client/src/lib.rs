//! One live MCP session with one server, and the factory that makes one from a
//! [`ServerSpec`](mcpool_core::ServerSpec).
//!
//! [`StandardFactory`] implements [`ClientFactory`](mcpool_core::ClientFactory): it opens a
//! transport, finds out which transport and which era of the protocol the server speaks, keeps
//! the evidence, and gives a [`Client`](mcpool_core::Client). [`IsolatedClient`] is the same for
//! a caller that wants one of its own.
//!
//! | question | file |
//! |---|---|
//! | which transport, which era, in which order | `negotiate.rs`, `era.rs`, `handshake.rs` |
//! | what was tried | `evidence.rs` |
//! | how a request waits, times out, is cancelled | `peer.rs` |
//! | who owns the transport; what happens when it dies | `driver.rs` |
//! | what a caller is told of a failure | `error_map.rs` |
//! | pages, bad tools, unknown content | `paginate.rs`, `lenient.rs` |
//! | a server that asks back | `rounds.rs`, `handler.rs` |
//! | is it alive; what has changed | `probe.rs`, `listen.rs`, `notice.rs` |
//!
//! # Cargo features
//! `stdio`, `http` and `sse`, all on by default, bring the connector of that transport. Without
//! any, register connectors with
//! [`with_connector`](StandardFactory::with_connector).
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod driver;
mod era;
mod error_map;
mod evidence;
mod factory;
mod handler;
mod handshake;
mod isolated;
mod lenient;
mod listen;
mod negotiate;
mod notice;
mod paginate;
mod peer;
mod probe;
mod rounds;
mod session;

pub use evidence::ConnectFailure;
pub use factory::StandardFactory;
pub use isolated::IsolatedClient;
