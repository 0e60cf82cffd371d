//! An MCP transport made of any pair of message halves: pipes, sockets, event streams, queues.
//!
//! Somebody who brings a carrier of whole messages writes a [`WriteHalf`] and a [`ReadHalf`], or
//! takes those of [`lines`] where messages are lines on a stream of bytes; [`Duplex`] makes a
//! [`Transport`](mcpool_core::Transport) of them. It keeps what the trait demands:
//!
//! - **Ids.** Requests are numbered from 1, entered before their first byte is written, and
//!   matched with their answers in whatever order these come. An error without an id belongs to a
//!   request only when it can be of no other.
//! - **Dropping a request cancels it.** What was not written is withdrawn without a word; else the
//!   server gets `notifications/cancelled`, `initialize` excepted.
//! - **No request hangs.** What cannot be read fails the request that it answers, at once and with
//!   the reason; what is over the limit fails its request only. When the connection ends, each
//!   request ends with the reason and what is known of its own delivery. So it does when the
//!   runtime is gone.
//! - **The reader never waits**: not for the session ([`Inbox`](mcpool_core::Inbox) is bounded),
//!   not for a sink, not for a write. What a sink or a tap of the application panics with is
//!   caught.
//! - **Everything has a bound.** Beside what the inbox holds: 256 cancellations and 64 refusals
//!   that wait to be written, 1 024 requests that were given up, 16 samples of skipped text.
//!
//! ```
//! use mcpool_core::{ConnectRequest, HttpSpec, Transport, TransportKind, TransportSpec, WireRequest};
//! use mcpool_duplex::{Duplex, lines::{LineReader, LineWriter}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
//! # use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
//! let (ours, theirs) = tokio::io::duplex(4096);
//! # tokio::spawn(async move {
//! #     let (read, mut write) = tokio::io::split(theirs);
//! #     let mut lines = tokio::io::BufReader::new(read).lines();
//! #     while let Ok(Some(_)) = lines.next_line().await {
//! #         let _ = write.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n").await;
//! #     }
//! # });
//! let (read, write) = tokio::io::split(ours);
//! let request = ConnectRequest::new("pipe".parse()?, TransportSpec::Http(HttpSpec::new("pipe:")));
//! let limit = request.limits.max_message_bytes;
//! let transport = Duplex::new(
//!     &request,
//!     TransportKind::Custom,
//!     LineReader::new(read, limit),
//!     LineWriter::new(write),
//! )?;
//! let result = transport.request(WireRequest::new("ping", None), None).await?;
//! assert_eq!(result.get(), "{}");
//! transport.close().await?;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connection;
mod departure;
mod dispatch;
mod duplex;
mod ending;
mod frame;
mod halves;
pub mod lines;
mod monitor;
mod pending;
mod scan;
mod task;
mod wire;

/// What the models of the hand-made atomics replace by that of loom.
mod sync {
    pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

    pub(crate) use atomic_waker::AtomicWaker;
    pub(crate) use tokio::runtime::Handle;
}

pub use departure::Departure;
pub use duplex::Duplex;
pub use frame::{Frame, Frames};
pub use halves::{Outgoing, ReadHalf, WriteError, WriteHalf};
pub use monitor::DuplexMonitor;
pub use scan::{IdScanner, Ids};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
