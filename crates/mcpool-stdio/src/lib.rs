//! MCP over the standard input and output of a child process.
//!
//! [`StdioConnector`] starts a server and gives a [`StdioTransport`], which carries one JSON-RPC
//! message a line (MCP, "Transports", stdio, all revisions). What this crate promises:
//!
//! - **Nothing stays behind.** A server runs in a process group of its own, every process of it
//!   carries a marker in its environment (`MCPOOL_SERVER_ID`), and all that descend from it are
//!   followed. All of them are dead after [`close`](mcpool_core::Transport::close), after a drop
//!   (with no runtime running as well), after a [`kill`](mcpool_core::TransportMonitor::kill),
//!   after the server's own exit, and after the death of the application, however it died. What
//!   left the group is found on Linux only; how far the promise goes depends on the
//!   [`Guardian`].
//! - **Close is bounded** by the spec's `ShutdownPolicy`: stdin is closed, after `stdin_grace`
//!   the group gets SIGTERM (and SIGCONT, so that a stopped process can react), after `term_grace`
//!   SIGKILL, and after `total` the close returns, even when the server never reads or a send is
//!   stuck. What was killed has a second to be gone, past `total` as well. What is left of the
//!   group when its leader has exited is killed after a quarter of `term_grace`.
//! - **Nothing blocks anything.** stdin, stdout and stderr are handled side by side; a server that
//!   does not read is read from all the same.
//! - **No silence.** An answer over `Limits::max_message_bytes` fails exactly the request that
//!   it answers; if that cannot be found out, it ends the connection. Lines that are no message
//!   are skipped, counted and logged once.
//! - **Errors say why**: how the process ended, and the last lines of its stderr, in which
//!   known secrets are masked and control characters escaped.
//!
//! # With rmcp's own client
//!
//! The feature `rmcp` gives the same processes as a transport of rmcp, for a program that keeps
//! its client and wants servers that do not outlive it: `StdioConnector::open_rmcp`.
//!
//! # Windows
//!
//! On Windows a job object takes the place of process group and guardian, and there is no
//! SIGTERM step. That code is compiled only there and is not run by this project's tests.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(unix)]
mod child;
mod clock;
mod command;
mod connector;
mod guardian;
mod halves;
mod monitor;
#[cfg(unix)]
mod orphans;
mod pace;
mod pipes;
#[cfg_attr(windows, path = "process_windows.rs")]
mod process;
#[cfg(feature = "rmcp")]
mod rmcp_transport;
mod shutdown;
mod starting;
mod stderr;
mod tend;
mod transport;

pub use clock::MachineTime;
pub use connector::StdioConnector;
pub use guardian::{Guardian, GuardianProgram, run_guardian};
pub use monitor::StdioMonitor;
#[cfg(feature = "rmcp")]
pub use rmcp_transport::RmcpTransport;
pub use stderr::{StderrEvent, StderrStream};
pub use transport::StdioTransport;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
