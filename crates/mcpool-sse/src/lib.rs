//! MCP over the legacy HTTP+SSE transport (revision 2024-11-05, "HTTP with SSE").
//!
//! The client opens an event stream with GET; the first event, `endpoint`, says where to POST
//! messages; every answer comes over the stream. [`SseConnector`] opens such connections:
//!
//! - `connector.rs` opens the stream and waits for the endpoint;
//! - `endpoint.rs` decides whether that endpoint may be used: only within the stream's origin;
//! - `stream.rs` reads the stream until it ends and keeps why it ended;
//! - `transport.rs` sends, receives and closes.
//!
//! ```
//! use mcpool_core::{ConnectRequest, Connector, HttpSpec, ServerSpec};
//! use mcpool_http_pool::HttpPool;
//! use mcpool_sse::SseConnector;
//!
//! # async fn connect() -> mcpool_core::Result<()> {
//! let spec = ServerSpec::sse("weather", HttpSpec::new("https://weather.example/sse"))?;
//! let connector = SseConnector::new(HttpPool::shared());
//! let transport = connector.connect(ConnectRequest::new(spec.into())).await?;
//! # let _ = transport;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connector;
mod endpoint;
mod stream;
mod transport;

pub use connector::SseConnector;
