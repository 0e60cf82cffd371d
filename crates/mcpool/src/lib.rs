//! Keeps connections to many [MCP](https://modelcontextprotocol.io) servers alive for one
//! application.
//!
//! This crate is the facade: it re-exports the crates that do the work and has no logic of its
//! own. This page is the tour.
//!
//! # The shortest program
//!
//! A [`ServerSpec`] says what a server is. A [`ConnectionManager`] keeps many of them connected.
//! A [`StandardFactory`] knows how to connect over stdio, Streamable HTTP and legacy SSE.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use mcpool::{ConnectionManager, Refresh, ServerSpec, StandardFactory, StdioSpec};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), mcpool::Error> {
//! let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
//!
//! // Connects to all at once. A server that fails does not hold up the others.
//! let files = StdioSpec::new("mcp-server-filesystem").with_args(["/srv"]);
//! let report = manager
//!     .start(vec![
//!         ServerSpec::stdio("files", files)?,
//!         ServerSpec::url("docs", "https://example.com/mcp")?,
//!     ])
//!     .await?;
//! for (name, error) in report.failed() {
//!     eprintln!("{name} is not there yet: {error}");
//! }
//!
//! // All tools of all servers, under unique names. The snapshot never changes.
//! let snapshot = manager.tools(Refresh::IfStale).await;
//! for entry in snapshot.entries.iter() {
//!     println!("{} is {} of {}", entry.qualified_name, entry.name, entry.server);
//! }
//!
//! // A call waits for a server that is being connected again. Dropping its future cancels it.
//! let arguments = serde_json::json!({"path": "/srv"});
//! let result = manager.call("files__list_directory", arguments).await?;
//! println!("{:?}", result.content);
//!
//! // Every process and socket is gone after this, or after the last handle is dropped.
//! manager.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does by itself
//!
//! - **Connects again.** A lost server is connected again after a growing, random pause:
//!   [`ReconnectPolicy`]. After the fast attempts it is tried every few minutes, without an end.
//! - **Notices death.** By the end of the process or the connection, and by a heartbeat where
//!   there is no traffic: [`HealthPolicy`].
//! - **Replays only what may be replayed.** Each failed request says what is known of its
//!   [`Delivery`]. One that may have run is not sent again, unless it only reads:
//!   [`replay`](fn@replay).
//! - **Finds out** which transport and which protocol version a server speaks, and keeps the
//!   [`ConnectEvidence`].
//! - **Leaves nothing behind.** Stdio servers run in process groups of their own, which do not
//!   outlive the application, however it ends. How far that goes is a choice: `stdio::Guardian`.
//!
//! # Policies
//!
//! Every number can be set for each server.
//!
//! ```
//! use std::time::Duration;
//! use mcpool::{
//!     HealthPolicy, ReconnectPolicy, RequestTimeouts, ServerPolicy, ServerSpec, StartMode,
//! };
//!
//! let policy = ServerPolicy::default()
//!     .with_reconnect(ReconnectPolicy::five_then_stop())
//!     .with_health(HealthPolicy::default().with_interval(Duration::from_secs(30)))
//!     .with_timeouts(RequestTimeouts::default().with_request(Duration::from_secs(120)));
//!
//! let spec = ServerSpec::url("search", "https://example.com/mcp")?
//!     .with_policy(policy)
//!     // Connected by its first use, closed after ten minutes without one.
//!     .with_start(StartMode::Lazy(Some(Duration::from_secs(600))));
//! assert_eq!(spec.policy.reconnect.max_attempts, Some(5));
//! # Ok::<(), mcpool::Error>(())
//! ```
//!
//! # States and events
//!
//! ```no_run
//! # #[cfg(feature = "manager")]
//! # async fn example(manager: mcpool::ConnectionManager) -> Result<(), mcpool::Error> {
//! use mcpool::EventKind;
//!
//! for status in manager.status_all() {
//!     println!("{}: {} ({:?})", status.name, status.state, status.connectivity);
//! }
//! let mut events = manager.events();
//! while let Some(event) = events.next_event().await {
//!     if let EventKind::RetryScheduled { attempt, delay } = event.kind {
//!         // An event that is about no server, such as a config that was refused, names none.
//!         let server = event.server.as_ref().map_or("-", |name| name.as_str());
//!         println!("{server}: attempt {attempt} in {delay:?}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! One type, [`Error`], with a [kind](Error::kind) to match on, the server, the operation, the
//! last lines of a stdio server's stderr, and two answers: [`Error::recovery`] says what another
//! try takes, [`Error::delivery`] what is known of the request.
//!
//! ```
//! use mcpool::{Delivery, Error, ErrorKind, Recovery};
//!
//! let error = Error::new(ErrorKind::ConnectionLost, "the server went away");
//! assert_eq!(error.recovery(), Recovery::Reconnect);
//! assert_eq!(error.delivery(), Delivery::Unknown);
//! ```
//!
//! # A client of one's own
//!
//! Beside the shared connections of a manager, [`StandardFactory::isolated`] makes a client that
//! shares nothing: its own process or session, closed when it is dropped, from any task.
//!
//! ```no_run
//! use mcpool::{ServerSpec, StandardFactory, StdioSpec, Verbs};
//!
//! # async fn example() -> Result<(), mcpool::Error> {
//! let spec = ServerSpec::stdio("memory", StdioSpec::new("mcp-server-memory"))?;
//! let client = StandardFactory::new().isolated(&spec).await?;
//! println!("{} tools", client.list_tools().await?.items.len());
//! # Ok(())
//! # }
//! ```
//!
//! # Config files
//!
//! [`config`] reads the `mcpServers` files that people have, says everything that is wrong at
//! once, and gives specs whose `${VARIABLES}` are filled in at connect time. One bad entry does
//! not spoil the others: look at `problems`. A file that cannot be understood at all is an error
//! of `checked`. The connect budget of a file is for the manager's builder.
//!
//! ```
//! # #[cfg(all(feature = "config", feature = "manager"))]
//! # fn example(factory: std::sync::Arc<dyn mcpool::ClientFactory>) -> Result<(), mcpool::Error> {
//! use mcpool::{ConnectionManager, config::Loader};
//!
//! let text = r#"{ "mcpServers": { "files": { "command": "mcp-server-filesystem" } } }"#;
//! let loaded = Loader::new().with_text("mcp.json", text).load()?.checked()?;
//! assert_eq!(loaded.servers[0].name.as_str(), "files");
//!
//! let mut builder = ConnectionManager::builder(factory);
//! if let Some(budget) = loaded.budget() {
//!     builder = builder.with_budget(budget);
//! }
//! let manager = builder.build(); // then `manager.start(loaded.servers)`
//! # let _ = manager;
//! # Ok(())
//! # }
//! # #[cfg(all(feature = "config", feature = "manager"))]
//! # example(std::sync::Arc::new(mcpool::StandardFactory::new())).unwrap();
//! ```
//!
//! # Logins
//!
//! With the features `auth` and `browser`, give the factory an [`OAuth`](auth::OAuth): it keeps the tokens, sends
//! them to their servers only, and renews them. A server that wants a login and has none is in
//! [`AuthRequired`](ServerState::AuthRequired) and is left alone; a login connects it at once.
//!
//! ```no_run
//! # #[cfg(all(feature = "browser", feature = "manager"))]
//! # async fn example() -> Result<(), mcpool::Error> {
//! use std::sync::Arc;
//! use mcpool::{ConnectionManager, ServerSpec, StandardFactory, StateKind};
//! use mcpool::auth::{FileStore, InteractiveLogin, OAuth, SystemBrowser};
//!
//! let oauth = OAuth::new(Arc::new(FileStore::in_data_dir()?)).with_client_name("My application");
//! let factory = StandardFactory::new().with_authenticators(Arc::new(oauth.clone()));
//! let manager = ConnectionManager::new(Arc::new(factory));
//! let spec = ServerSpec::url("docs", "https://example.com/mcp")?;
//! let _report = manager.start(vec![spec.clone()]).await?;
//!
//! if manager.server("docs")?.status()?.state == StateKind::AuthRequired {
//!     let agent = InteractiveLogin::new()
//!         .with_browser(Arc::new(SystemBrowser))
//!         .with_prompt(|prompt| eprintln!("log in at {}", prompt.url));
//!     oauth.login(&spec, &agent, None).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Swap a layer
//!
//! There are two seams, both object-safe traits, both with mocks behind the feature `mock`:
//!
//! - a [`Connector`] opens a [`Transport`], which answers requests. Bring your own for one server with
//!   [`ServerSpec::custom`], for all of a kind with [`StandardFactory::with_connector`];
//! - a [`ClientFactory`] turns a spec into a connected [`Client`]. The manager takes any.
//!
//! A [`ClientLayer`] stands around requests. What it sees depends on where it is put:
//!
//! ```text
//! server.call_tool(…)
//!   └ Layered<ServerHandle, L>   each request once, with all its waiting and replay
//!       └ the manager            waits for the server, sends again what certainly did not run
//!           └ LayeredFactory     each attempt, on one connection
//!               └ the client     timeouts, rounds
//!                   └ transport  the wire; a `WireTap` sees each message here
//! ```
//!
//! Of several layers at one place the one that was added last is the outermost. [`TimeoutCap`] and
//! [`AuditLog`] are two of our own.
//!
//! # The protocol's types
//!
//! [`model`] is rmcp's module of that name, re-exported: its types are part of this crate's API.
//! mcpool 0.1 goes with rmcp 3.11. A new minor version of rmcp may come with a new patch version
//! of mcpool, since both keep their APIs; a new major version of rmcp comes with a new minor
//! version of mcpool (a new major one, from 1.0 on). Name the types by `mcpool::model` and no
//! second rmcp is needed. What they do not know is not lost: [`Reply::raw`] is the text that came.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `manager` | yes | `ConnectionManager` and what belongs to it |
//! | `config` | yes | the module `config`: files in JSON |
//! | `toml`, `yaml` | no | config files in these formats; each brings `config` |
//! | `watch` | no | `config::Watcher`, which reads files again when they change; brings `config` |
//! | `edit` | no | `config::edit_file` and `config::HostWriter`, which change files; brings `config` |
//! | `schema` | no | `config::json_schema`; brings `config` |
//! | `stdio`, `http`, `sse` | yes | the transport; `stdio` the module of that name as well |
//! | `gzip` | no | unpacks answers that come as gzip although nobody asked for it, as some proxies do; without it they are errors that name the feature |
//! | `auth` | no | the module `auth`: OAuth |
//! | `browser` | no | `auth::SystemBrowser`, which opens the user's browser; brings `auth` |
//! | `dpop` | no | tokens that are bound to a key; brings `auth` |
//! | `enterprise` | no | the grant `enterprise_managed`; brings `auth` |
//! | `keyring` | no | tokens in the keyring of the operating system; brings `auth` |
//! | `private-key-jwt` | no | the grant `private_key_jwt`; brings `auth` |
//! | `blocking` | no | the module `blocking`: the manager for programs without a runtime |
//! | `metrics` | no | metrics through the `metrics` facade |
//! | `search` | no | the module `search`: finds tools by words; brings `manager` |
//! | `gateway` | no | the module `gateway`: the pool as one MCP server; brings `manager` |
//! | `nats` | no | the module `nats`: stdio servers on many machines; brings `manager` |
//! | `otel` | no | `gateway::Traces`: OpenTelemetry traces of the gateway; brings `gateway` |
//! | `mock` | no | the module `mock`: mockall mocks of the seams |
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "auth")]
#[doc(inline)]
pub use mcpool_auth as auth;
#[cfg(feature = "blocking")]
#[doc(inline)]
pub use mcpool_blocking as blocking;
#[doc(inline)]
pub use mcpool_client::{
    AuditLog, ClientInfo, ConnectFailure, IsolatedClient, StandardFactory, TimeoutCap,
};
#[cfg(feature = "config")]
#[doc(inline)]
pub use mcpool_config as config;
#[cfg(feature = "mock")]
#[doc(inline)]
pub use mcpool_core::mock;
#[cfg(feature = "gateway")]
#[doc(inline)]
pub use mcpool_gateway as gateway;
#[cfg(feature = "nats")]
#[doc(inline)]
pub use mcpool_nats as nats;
// Not `Result`: a glob import of this crate must not hide the standard one.
#[doc(inline)]
pub use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, AuthenticatorProvider, Backoff,
    Caller, Client, ClientFactory, ClientLayer, ClientSnapshot, CloseReason, ConnectAttempt,
    ConnectBudget, ConnectEvidence, ConnectOptions, ConnectRequest, ConnectionInfo, Connectivity,
    Connector, DeclineAll, Delivery, Diagnostics, Direction, DisconnectCause, DpopChoice,
    EnvInheritance, Error, ErrorKind, Event, EventKind, HealthPolicy, HttpSpec, IdentityProvider,
    Inbox, InboxSender, Incoming, Jitter, Layered, LayeredFactory, Limits, Listing, LogLevel,
    Masker, Message, Next, NotAMessage, NoticeSender, Notices, Notification, OAuthGrant, OAuthSpec,
    Offered, PeerInfo, ProbeMethod, ProbeReport, Progress, ProgressCallback, ProtocolChoice,
    ProtocolVersion, Quoted, Raw, RawObject, ReconnectPolicy, Recovery, RejectedItem, Replay,
    Reply, Request, RequestClass, RequestId, RequestOptions, RequestSink, RequestTimeouts,
    Requester, ResponseId, Rounds, RpcError, Secret, SecretSource, Sensitivity, ServerCapabilities,
    ServerName, ServerNotice, ServerPolicy, ServerRequest, ServerRequestHandler, ServerSpec,
    ServerState, Sharing, ShutdownPolicy, SpecResolver, StartMode, StateKind, StderrLine,
    StdioSpec, ToolFilter, ToolTraits, Transport, TransportKind, TransportMonitor, TransportSpec,
    Typed, TypedHandler, Untrusted, Verbs, WireEvent, WireRequest, WireTap, WithOptions,
    clean_json, clean_json_pretty, clean_json_text, encode, encode_notification, encode_response,
    is_localhost, is_safe_method, is_unshowable, model, parse_line, replay, units,
};
#[cfg(feature = "search")]
#[doc(inline)]
pub use mcpool_manager::search;
#[cfg(feature = "manager")]
#[doc(inline)]
pub use mcpool_manager::{
    Budget, CachedList, CallOptions, ConfigDiff, ConnectionManager, DisconnectStatus, EventItem,
    EventStream, InstanceStatus, Items, ManagerBuilder, NotReady, Refresh, ServerHandle,
    ServerStatus, ShutdownReport, Signal, StartReport, SuspendClock, SystemClock, ToolEntry,
    ToolSnapshot, naming,
};
#[cfg(feature = "stdio")]
#[doc(inline)]
pub use mcpool_stdio as stdio;

/// Runs the README's examples as tests.
#[cfg(all(doctest, feature = "manager"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
