//! Shared HTTP clients, and the HTTP rules that every HTTP part of mcpool keeps.
//!
//! The Streamable HTTP transport, the legacy SSE transport and the OAuth crate all talk HTTP.
//! This crate holds what they must do alike, so that it exists once:
//!
//! - [`HttpPool`] keeps one `reqwest::Client` for all servers of one origin with the same TLS,
//!   proxy and connect settings, so that connections, TLS sessions and root certificates are
//!   shared; an [`OriginClient`] drops idle connections that may be dead;
//! - [`HttpPeer`] is the HTTP side of one server: it adds the spec's headers, the cookies and the
//!   credentials to each request, repeats a request after a refused credential was renewed, and
//!   one whose connection died unused;
//! - [`CheckedResolver`] and [`AddressClass`] decide which addresses are connected to;
//! - [`Challenge`] reads what a server offers with a 401 or 403;
//! - [`read_capped`], [`read_refusal`] and [`drain`] read bodies to their end, within a size and a time, so that
//!   connections are used again;
//! - [`Events`] reads an event stream under a size cap and an idle timeout;
//! - [`refusal_error`], [`status_error`] and [`retry_after`] say in mcpool's words what went
//!   wrong, and what is known of the request's delivery; [`says_lost_session`] knows the words of
//!   servers for that.
//!
//! It is an internal layer. Its signatures have the types of the crate `http`, re-exported here; those
//! of `reqwest` only with the feature `reqwest`, for a crate that builds a client of its own on these
//! rules, as the OAuth crate does.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod body;
mod challenge;
mod cookies;
mod date;
mod error;
mod event_cutter;
mod events;
#[cfg(feature = "gzip")]
mod gzip;
mod localhost;
mod lost_session;
mod peer;
mod pin;
mod pool;
mod redirect;
mod resolver;
mod response;
mod retry_after;
mod tls;

pub use address::{AddressClass, is_loopback, normalized};
pub use body::{drain, read_capped, read_refusal, too_large_error};
pub use challenge::Challenge;
pub use error::{refusal_error, status_error};
pub use events::{Events, ServerEvent, StreamItem};
pub use lost_session::says_lost_session;
pub use peer::{HttpPeer, PeerRequest};
pub use pool::{ClientSettings, HttpPool, OriginClient, Proxies, USER_AGENT};
pub use resolver::{CheckedResolver, RefusedAddress};
pub use response::Response;
pub use retry_after::retry_after;

pub use http;
