//! MCP over the legacy HTTP+SSE transport (revision 2024-11-05, "HTTP with SSE").
//!
//! The client opens an event stream with GET; its event `endpoint` says where to POST messages;
//! every answer comes over the stream. [`SseConnector`] opens such connections:
//!
//! - `connector.rs` opens the stream and waits for the endpoint;
//! - `endpoint.rs` decides whether that endpoint may be used: only within the stream's origin;
//! - `stream.rs` reads the stream, and what servers put into the answers of POSTs;
//! - `post.rs` POSTs, each message by itself.
//!
//! Ids, cancelling and matching are [`mcpool_duplex`]'s. Each request has its own outcome: a POST
//! that is refused fails its request alone, and only two in a row that the server refuses because
//! it does not know the session (404, 410) end the connection. An event over the limit fails the
//! request that it answers.
//!
//! ```
//! use mcpool_core::{ConnectRequest, Connector, HttpSpec, TransportSpec};
//! use mcpool_http_pool::HttpPool;
//! use mcpool_sse::SseConnector;
//!
//! # async fn connect() -> mcpool_core::Result<()> {
//! let spec = HttpSpec::new("https://weather.example/sse");
//! let connector = SseConnector::new(HttpPool::shared());
//! let request = ConnectRequest::new("weather".parse()?, TransportSpec::Sse(spec));
//! let transport = connector.connect(request).await?;
//! # let _ = transport;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connector;
mod endpoint;
mod post;
mod stream;

pub use connector::SseConnector;
