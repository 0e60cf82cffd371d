//! MCP over Streamable HTTP (MCP 2025-03-26 and later), on a pooled HTTP client.
//!
//! A request is one POST on the caller's task, and its answer is read there: no task, queue or
//! table stands in between. What else a connection needs runs beside it, on the runtime on which
//! it was made.
//!
//! - `connector.rs` opens a transport; `transport.rs` is one: requests, notifications, the close;
//! - `exchange.rs` is one request and its answer, `post.rs` one POST; `headers.rs` are the headers
//!   of MCP; `refusal.rs` knows a lost session in whatever words;
//! - `stream.rs` reads an answer that is an event stream, `resume.rs` goes on after it broke off,
//!   `incoming.rs` hands over what else the server says;
//! - `session.rs` is a session and what it holds on the server, `renewal.rs` begins a lost one
//!   again, once for all;
//! - `standing.rs` is the stream on which the server speaks by itself, `pacing.rs` how often it is
//!   asked for;
//! - `link.rs` is what all of them share: the end and its reason, and how a dead server is
//!   noticed; `in_flight.rs` finds a request by its id, `aside.rs` runs what nobody waits for,
//!   `notes.rs` keeps what is odd.
//!
//! ```
//! use mcpool_core::{ConnectRequest, Connector, HttpSpec, TransportSpec, WireRequest};
//! use mcpool_http::HttpConnector;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> mcpool_core::Result<()> {
//! let target = TransportSpec::Http(HttpSpec::new("https://weather.example/mcp"));
//! # let target = TransportSpec::Http(HttpSpec::new("http://127.0.0.1:1/mcp"));
//! let connector = HttpConnector::default();
//! let transport = connector.connect(ConnectRequest::new("weather".parse()?, target)).await?;
//! let answer = transport.request(WireRequest::new("ping", None), None).await;
//! # assert!(answer.is_err());
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod aside;
mod connector;
mod exchange;
mod guarded;
mod headers;
mod in_flight;
mod incoming;
mod link;
mod notes;
mod pacing;
mod post;
mod refusal;
mod renewal;
mod resume;
mod session;
mod standing;
mod stream;
mod transport;

pub use connector::HttpConnector;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
