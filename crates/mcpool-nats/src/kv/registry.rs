//! Which workers a pool has, and what they have.
//!
//! | key in the bucket `mcpool-<pool>-fleet` | written | holds |
//! |---|---|---|
//! | `worker.<worker>` | every 5 s | a count: "I am here" |
//! | `server.<worker>.<server>` | on change | its state and why, sharing, epoch, and the hash of its catalog |
//! | `catalog.<hash>.<part>` | when that hash is new | a part of the catalog: its tools, prompts, resources and templates as MCP lists them |
//!
//! The hash is of the content, so a catalog that a gateway has is good for as long as the hash is
//! the same, and equal instances have one. Every key is written by the worker in its name, but for
//! catalogs, which say by their hash what they are.

mod announce;
mod catalog;
mod report;
mod snapshot;
mod watching;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use mcpool_core::{Result, ServerName};
use mcpool_manager::KnownLists;
use serde::{Deserialize, Serialize};

use crate::{
    carrier::Carrier,
    identity::{Epoch, Identity, Sharing},
};

use super::bucket::{Bucket, Storage};

pub use announce::Announced;
pub use report::FleetReport;
pub use snapshot::FleetSnapshot;
pub(crate) use snapshot::shown;
pub use watching::FleetWatch;

/// How often a worker says that it is here.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What nobody writes for so long goes: workers write everything again every 8 h.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// After so long without a word a worker is shown as gone: three heartbeats and an election.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a worker says of one of its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FleetServer {
    /// The server.
    pub name: ServerName,
    /// Its state at the worker: a word of `StateKind`, or `standby` where another worker has its
    /// lease.
    pub state: String,
    /// Why it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many tools it shows.
    #[serde(default)]
    pub tools: usize,
    /// How it is shared.
    #[serde(default)]
    pub sharing: Sharing,
    /// The epoch of its lease; 0 without one.
    #[serde(default)]
    pub epoch: Epoch,
    /// The SHA-256 of its catalog in hexadecimal digits, once it has one.
    #[serde(default)]
    pub catalog: Option<String>,
}

impl FleetServer {
    /// A server in this state, with no catalog yet.
    pub fn new(name: ServerName, state: impl Into<String>) -> Self {
        Self {
            name,
            state: state.into(),
            why: None,
            tools: 0,
            sharing: Sharing::default(),
            epoch: Epoch::NONE,
            catalog: None,
        }
    }
}

/// A worker as the registry shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetWorker {
    /// Whether it was heard of in the last 20 s.
    pub is_here: bool,
    /// Where it runs, as it says.
    pub place: String,
    /// Its servers. Of one that is gone: as they were.
    pub servers: BTreeMap<ServerName, FleetServer>,
}

impl FleetWorker {
    /// A worker of which nothing is known.
    pub(crate) fn unknown() -> Self {
        Self {
            is_here: false,
            place: String::new(),
            servers: BTreeMap::new(),
        }
    }
}

/// The registry of a pool. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Registry {
    bucket: Bucket,
    identity: Identity,
    part: usize,
}

impl Registry {
    /// Opens the pool's registry, and creates it if it is not there.
    ///
    /// # Errors
    /// `Connect` when JetStream is not there, or does not let this identity use the bucket.
    pub async fn open(carrier: &Carrier, storage: Storage) -> Result<Self> {
        let bucket = Bucket::open(carrier, "fleet", storage, MAX_AGE).await?;
        Ok(Self::of(carrier, bucket))
    }

    /// Opens the pool's registry, if it is there: what a gateway may that only reads it.
    ///
    /// # Errors
    /// `Connect` when there is none, or JetStream does not let this identity use it.
    pub async fn find(carrier: &Carrier) -> Result<Self> {
        Ok(Self::of(carrier, Bucket::find(carrier, "fleet").await?))
    }

    fn of(carrier: &Carrier, bucket: Bucket) -> Self {
        Self {
            bucket,
            identity: carrier.identity().clone(),
            part: carrier.max_body(),
        }
    }

    /// Shows this process as a worker of the pool, until what it gives is dropped. `place` is
    /// shown to people: a host's name, a zone.
    ///
    /// # Errors
    /// `Connect` when the registry cannot be written.
    pub async fn announce(&self, place: &str) -> Result<Announced> {
        Announced::begin(self.clone(), place).await
    }

    /// The workers of the pool, now and as they change. It ends when it is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn watch(&self) -> FleetWatch {
        FleetWatch::begin(self.bucket.clone())
    }

    /// The catalog of this hash, as [`Announced::publish`] got it.
    ///
    /// # Errors
    /// `Connect` when the registry cannot be read, `Protocol` when what is there is not of this
    /// hash.
    pub async fn catalog(&self, hash: &str) -> Result<Bytes> {
        catalog::load(&self.bucket, hash).await
    }

    /// The lists in the catalog of this hash, as a [`FleetReport`] has stored them.
    ///
    /// # Errors
    /// As [`catalog`](Self::catalog); `VersionMismatch` for one that another version has stored.
    pub async fn lists(&self, hash: &str) -> Result<KnownLists> {
        Ok(catalog::Catalog::read(&self.catalog(hash).await?)?.lists())
    }
}

/// The head of a worker's key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Beat {
    count: u64,
    place: String,
}
