//! Stdio MCP servers on many machines, reached over [NATS](https://nats.io).
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod identity;
mod subjects;

pub use identity::{Epoch, Identity, PoolName, Sharing};
pub use subjects::token;
