//! Files, as every part of mcpool handles them:
//!
//! - `read.rs` reads what a configuration names: regular files only, and never more than a bound,
//!   because a path from a file can lead to a pipe without a writer or to a device without an end;
//! - `trusted.rs` reads keys and the like, which nobody else may change;
//! - `replace.rs` writes so that a reader sees the old text or the new one, and nothing between;
//! - `lock.rs` lets one process at a time change a file, with locks that nobody else can take.
//!
//! Everything here blocks: call it from a thread that may block.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod lock;
mod read;
mod replace;
mod trusted;

pub use lock::{Lock, Locks};
pub use read::{read_regular, read_stream};
pub use replace::{located, resolved, write_keeping_mode, write_private};
pub use trusted::{Holds, Trusted, read_trusted};
