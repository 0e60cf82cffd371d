//! Keeps connections to many MCP servers alive for one application.
//!
//! [`ConnectionManager`] has the verbs. It reaches servers through a
//! [`ClientFactory`](mcpool_core::ClientFactory) and knows no transport.
//!
//! ```
//! # use std::sync::Arc;
//! # use mcpool_testkit::FakeFactory;
//! use std::time::Duration;
//! use mcpool_core::{ServerSpec, StdioSpec};
//! use mcpool_manager::{ConnectionManager, Refresh};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
//! # let factory = Arc::new(FakeFactory::new());
//! let manager = ConnectionManager::new(factory);
//! let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
//! manager.start(vec![files]).await?.all_connected()?;
//!
//! let tools = manager.tools(Refresh::IfStale).await;
//! assert!(tools.get("files__echo").is_some());
//! manager.call("files__echo", ()).await?;
//!
//! manager.shutdown(Duration::from_secs(6)).await;
//! # Ok(()) }
//! ```
//!
//! # How it works
//!
//! - Each server (each instance of it) has a **supervisor** task. It alone connects, probes,
//!   reconnects and closes. It is a thin shell over a pure state machine.
//! - A **call** takes the live client from a lock-free slot and speaks to it on the caller's task:
//!   no lock, no hop. While the server is not ready it waits within its deadline, or fails at once
//!   when waiting cannot help.
//! - **Retry is decided by delivery**: what did not reach the server, or was refused before it
//!   ran, is sent once more; what may have run comes back as `OutcomeUnknown`, unless running it
//!   twice does no harm.
//! - The **catalog** is cached, fetched once however many ask, and served stale rather than not at
//!   all; the tools of all servers are one immutable [`ToolSnapshot`] under names that are unique
//!   and stable ([`naming`]).
//! - Whatever happens is reported: [`ServerStatus`] for now, [`EventStream`] for what changes, and the
//!   metrics of `docs/metrics.md` behind the feature `metrics`.
//!
//! # Ending
//!
//! [`ConnectionManager::shutdown`] ends everything within a deadline and reports. Dropping the
//! last handle does the same without waiting. A future of any verb may be dropped at any moment:
//! each says what then becomes of its work.
//!
//! # Features
//!
//! - `metrics`: records through the `metrics` facade.
//! - `search`: the module `search`, which finds tools by words.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod application;
mod apply;
mod catalog;
mod connect;
mod handle;
mod manager;
mod observe;
mod request;
mod server;
mod shared;
mod shutdown;
mod supervise;

/// What the models of the hand-made atomics replace by that of loom.
mod sync {
    pub(crate) use std::sync::atomic;

    pub(crate) use tokio::sync::{Notify, Semaphore, SemaphorePermit};
}

pub use application::Signal;
pub use apply::{StartReport, diff::ConfigDiff};
#[cfg(feature = "search")]
pub use catalog::search;
pub use catalog::{
    cache::CachedList,
    lists::{Items, KnownLists},
    naming,
    view::{ToolEntry, ToolSnapshot},
};
pub use handle::ServerHandle;
pub use manager::{ConnectionManager, ManagerBuilder};
pub use observe::{
    events::{EventItem, EventStream},
    status::{DisconnectStatus, InstanceStatus, ServerStatus},
};
pub use request::options::{CallOptions, NotReady, Refresh};
pub use shutdown::ShutdownReport;
pub use supervise::{
    budget::Budget,
    suspend::{SuspendClock, SystemClock},
};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
