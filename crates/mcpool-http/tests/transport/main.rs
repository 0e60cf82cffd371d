//! The transport against servers of all kinds.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod answers;
mod cancelling;
mod drive;
mod faults;
mod questions;
mod renewal;
mod resumption;
mod runtimes;
mod server;
mod session;
mod sockets;
mod standing;
