//! MCP over Streamable HTTP, on a pooled HTTP client.
//!
//! rmcp's worker speaks the protocol: sessions, `Mcp-*` headers, resumption, re-initialisation.
//! Below it stands our own HTTP client, above it our own transport:
//!
//! - `connector.rs` opens a transport;
//! - `transport.rs` sends, receives and closes;
//! - `client.rs` is the HTTP client that rmcp's worker drives: POST, GET, DELETE;
//! - `answer.rs` reads what a POST was answered with;
//! - `stream.rs` turns an event stream into the events that the worker wants;
//! - `link.rs` is what all of them share: the end, its reason, and how a dead server is noticed;
//! - `pacing.rs` keeps a server that closes its stream at once from being asked in a hot loop.
//!
//! ```
//! use mcpool_core::{ConnectRequest, Connector, HttpSpec, ServerSpec};
//! use mcpool_http::HttpConnector;
//! use mcpool_http_pool::HttpPool;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> mcpool_core::Result<()> {
//! let spec = ServerSpec::http("weather", HttpSpec::new("https://weather.example/mcp"))?;
//! let connector = HttpConnector::new(HttpPool::shared());
//! # let spec = ServerSpec::http("weather", HttpSpec::new("http://127.0.0.1:1/mcp"))?;
//! let transport = connector.connect(ConnectRequest::new(spec.into())).await?;
//! # let _ = transport;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod client;
mod connector;
mod link;
mod pacing;
mod stream;
mod transport;

pub use connector::HttpConnector;
pub use link::SESSION_RENEWED;
