//! Keeps connections to many MCP servers alive for one application.
//!
//! [`ConnectionManager`] has the verbs. Behind it each server has a supervisor task that alone
//! connects, probes, reconnects and closes; calls take the live client from a lock-free slot.
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
pub use manager::{Builder, ConnectionManager};
pub use options::{CallOptions, NotReady, Refresh};
pub use reload::ConfigDiff;
pub use shutdown::ShutdownReport;
pub use signal::Signal;
pub use status::{DisconnectStatus, ErrorStatus, InstanceStatus, ServerStatus};
pub use suspend::{SuspendClock, SystemClock};
pub use view::{ToolEntry, ToolSnapshot};
