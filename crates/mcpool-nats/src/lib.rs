//! Stdio MCP servers on many machines, reached over [NATS](https://nats.io).
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod carrier;
mod clock;
mod identity;
pub mod kv;
mod subjects;

pub use carrier::{Carrier, NatsOptions};
pub use identity::{Epoch, Identity, PoolName, Sharing};
pub use subjects::token;
