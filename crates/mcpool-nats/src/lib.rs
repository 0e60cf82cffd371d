//! Stdio MCP servers on many machines, reached over [NATS](https://nats.io).
//!
//! A [`Worker`] serves the servers of a manager to a pool. [`NatsConnector`] opens transports to
//! them: anything that takes a connector reaches them, a whole gateway for one. What is said
//! between the two is written down in `docs/fleet-wire.md`.
//!
//! ```no_run
//! # async fn example(manager: mcpool_manager::ConnectionManager) -> mcpool_core::Result<()> {
//! use mcpool_nats::{Carrier, NatsConnector, NatsOptions, PoolName, Worker};
//!
//! let options = NatsOptions::new(["nats://127.0.0.1:4222"], PoolName::new("tools")?);
//!
//! // On the machines that have the servers:
//! let worker = Worker::new(Carrier::connect(&options).await?, manager);
//! worker.run(async { /* until SIGTERM */ }).await?;
//!
//! // Anywhere else:
//! let carrier = Carrier::connect(&options).await?;
//! let spec = NatsConnector::spec(&carrier, &"files".parse()?)?;
//! # Ok(()) }
//! ```
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod calls;
mod carrier;
mod clock;
mod connector;
mod discovery;
mod follow;
mod halves;
mod head;
mod identity;
mod incoming;
pub mod kv;
mod outgoing;
mod reasons;
mod spread;
mod subjects;
mod worker;

pub use carrier::{Carrier, NatsOptions};
pub use connector::{NatsConnector, probe};
pub use discovery::discover;
pub use follow::{Follow, fleet};
pub use identity::{Epoch, Identity, PoolName, Sharing};
pub use subjects::token;
pub use worker::{Inventory, ServedServer, Worker};
