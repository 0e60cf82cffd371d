//! OAuth for MCP servers.
//!
//! [`OAuth`] gives every HTTP server of an application its credentials: it implements
//! [`AuthenticatorProvider`](mcpool_core::AuthenticatorProvider), so that Streamable HTTP and
//! legacy SSE use the same tokens. rmcp's `AuthorizationManager` finds the authorization server;
//! the rest is here:
//!
//! - logins by a person, from a terminal ([`InteractiveLogin`]) or a user interface of the
//!   application's own ([`LoginAgent`]);
//! - logins without a person: client credentials with a secret or a signed assertion,
//!   enterprise-managed authorization, workload identity (see
//!   [`OAuthGrant`](mcpool_core::OAuthGrant));
//! - tokens bound to a key (DPoP, RFC 9449);
//! - stores: [`FileStore`], [`MemoryStore`], `KeyringStore` with the feature `keyring`, and the
//!   trait [`TokenStore`] for another;
//! - one refresh, however many calls and processes need it;
//! - credentials that stay with the authorization server that they are of;
//! - a reader of answers that takes what token and registration endpoints really send;
//! - a guard on every address that metadata names.
//!
//! # What is refused, and why
//!
//! | attack | rule |
//! |---|---|
//! | a server that names an authorization server of its choice, to get a configured secret | `issuer` is required, and only that one is asked (MCP 2026-07-28, "Authorization Server Binding") |
//! | the same, later, to get a login | a login binds; another issuer is refused, with both named |
//! | mix-up: the code of one authorization server sent to another | `iss` is compared (RFC 9207) |
//! | metadata that claims another issuer | `issuer` must be where it was read (RFC 8414) |
//! | metadata that points inside the network | addresses are checked as written, and at each connect as resolved |
//! | a flood: endless documents, lists, redirects | everything has a bound |
//! | a redirect to another origin | never followed, at any hop |
//! | a replayed redirect | `state` is good once |
//! | a server that asks for a token for another server | its `resource` must cover its URL, but for a slash at the end (RFC 9728) |
//! | an authorization server without PKCE | S256 or nothing |
//! | a token sent elsewhere | only to the origin of its server |
//!
//! # Cargo features
//!
//! - `browser` (default): [`SystemBrowser`], which opens the user's browser.
//! - `dpop` (default): tokens that are bound to a key. Without it tokens are not, and a spec that
//!   demands it is an error that names the feature.
//! - `private-key-jwt` (default): the grant [`PrivateKeyJwt`](mcpool_core::OAuthGrant), with the
//!   same error.
//! - `enterprise` (default): the grant [`EnterpriseManaged`](mcpool_core::OAuthGrant), with the
//!   same error.
//! - `keyring`: `KeyringStore`, the operating system's keyring.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod account;
mod address;
mod answers;
#[cfg(feature = "private-key-jwt")]
mod assertion;
mod binding;
mod discovery;
mod documents;
mod dpop;
#[cfg(feature = "enterprise")]
mod enterprise;
mod error;
mod features;
mod file_store;
mod grant;
mod guarded_client;
mod headless;
mod http;
mod http_failure;
mod interactive;
#[cfg(any(feature = "dpop", feature = "private-key-jwt"))]
mod jws;
#[cfg(feature = "keyring")]
mod keyring_store;
mod lock;
mod login;
mod oauth;
mod private_files;
mod redirect_listener;
mod registration;
mod secrets;
mod shown;
mod store;
mod token;

pub use file_store::FileStore;
pub use grant::{ClientAuth, Grant, GrantKey, TokenKind};
#[cfg(feature = "browser")]
pub use interactive::SystemBrowser;
pub use interactive::{Browser, InteractiveLogin};
#[cfg(feature = "keyring")]
pub use keyring_store::KeyringStore;
pub use login::{IssuerChange, LoginAgent, LoginPrompt, RedirectReceiver};
pub use oauth::{LoginState, LoginStatus, OAuth};
pub use store::{MemoryStore, StoreLock, TokenStore, put_grant};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
