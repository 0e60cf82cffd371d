//! Keeps connections to many MCP servers alive for one application.
//!
//! [`ConnectionManager`] has the verbs. It reaches servers through a
//! [`ClientFactory`](mcpool_core::ClientFactory) and knows no transport.
//!
//! ```
//! # use std::sync::Arc;
//! # use mcpool_testkit::scripted_client::ScriptedFactory;
//! use std::time::Duration;
//! use mcpool_core::{ServerSpec, StdioSpec};
//! use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
//! # let factory = Arc::new(ScriptedFactory::new());
//! let manager = ConnectionManager::new(factory);
//! manager
//!     .start(vec![ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?])
//!     .await?;
//!
//! let tools = manager.tools(Refresh::IfStale).await;
//! assert!(tools.get("files__echo").is_some());
//! manager.call("files__echo", None, &CallOptions::new()).await?;
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
//! - Whatever happens is told: [`ServerStatus`] for now, [`EventStream`] for what changes, and the
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
//! - `blocking`: module `blocking`, the same verbs for programs without a runtime.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "blocking")]
#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
pub mod blocking;
mod budget;
mod call;
mod catalog;
mod configure;
mod connect;
mod connection;
mod continuity;
mod events;
mod lists;
mod machine;
mod manager;
mod metrics;
pub mod naming;
mod observe;
mod operations;
mod options;
mod queue;
mod reload;
mod replay;
mod requests;
mod server;
mod shutdown;
mod signal;
mod slot;
mod status;
mod supervisor;
mod suspend;
mod tasks;
mod view;

pub use budget::Budget;
pub use catalog::Listing;
pub use configure::StartReport;
pub use events::{EventItem, EventStream};
pub use lists::Items;
pub use manager::{ConnectionManager, ManagerBuilder};
pub use options::{CallOptions, NotReady, Refresh};
pub use reload::ConfigDiff;
pub use shutdown::ShutdownReport;
pub use signal::Signal;
pub use status::{DisconnectStatus, ErrorStatus, InstanceStatus, ServerStatus};
pub use suspend::{SuspendClock, SystemClock};
pub use view::{ToolEntry, ToolSnapshot};
