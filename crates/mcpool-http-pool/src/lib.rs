//! Shared HTTP clients, and the HTTP rules that every HTTP part of mcpool keeps.
//!
//! The Streamable HTTP transport, the legacy SSE transport and the OAuth crate all talk HTTP.
//! This crate holds what they must do alike, so that it exists once:
//!
//! - [`HttpPool`] keeps one `reqwest::Client` for all servers with the same TLS, proxy and
//!   connect settings, so that connections, TLS sessions and root certificates are shared;
//! - [`HttpPeer`] is the HTTP side of one server: it adds the spec's headers and the credentials
//!   to each request, and repeats a request once after a refused credential was renewed;
//! - [`CheckedResolver`] and [`AddressClass`] decide which addresses are connected to;
//! - [`Challenge`] reads what a server offers with a 401 or 403;
//! - [`read_capped`] and [`drain`] read bodies to their end, within a size and a time, so that
//!   connections are used again;
//! - [`EventLines`] cuts an event stream into lines under a size cap and an idle time-out;
//! - [`request_error`], [`status_error`] and [`retry_after`] say in mcpool's words what went
//!   wrong, and what is known of the request's delivery.
//!
//! It is an internal layer: unlike the crates above it, it shows `reqwest` types.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod batch;
mod body;
mod challenge;
mod error;
mod event_lines;
mod peer;
mod pool;
mod redirect;
mod resolver;
mod retry_after;
mod tls;

pub use address::{AddressClass, is_localhost, is_loopback, normalized};
pub use batch::split_batch;
pub use body::{drain, read_capped};
pub use challenge::Challenge;
pub use error::{read_error, request_error, status_error};
pub use event_lines::EventLines;
pub use peer::{HttpPeer, PeerRequest};
pub use pool::{ClientSettings, HttpPool, Proxies, USER_AGENT};
pub use resolver::{CheckedResolver, RefusedAddress};
pub use retry_after::retry_after;

pub use reqwest;
