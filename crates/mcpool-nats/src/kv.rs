//! What a pool keeps in JetStream: leases, the registry of its workers, tokens.
//!
//! Each has a bucket (KV) of its own, so that a worker and a gateway can be permitted what they
//! need and no more: `docs/fleet.md`, "Security". A bucket that is not there is created by the
//! first process that may.

mod bucket;
mod lease;
mod registry;
#[cfg(feature = "auth")]
mod sealed;
mod tenure;
#[cfg(feature = "auth")]
mod tokens;

pub use bucket::Storage;
pub use lease::Terms;
pub(crate) use registry::shown;
pub use registry::{
    Announced, FleetReport, FleetServer, FleetSnapshot, FleetWatch, FleetWorker, Registry,
};
#[cfg(feature = "auth")]
pub use sealed::PoolKey;
pub use tenure::{Leases, Tenant, Tenure};
#[cfg(feature = "auth")]
pub use tokens::KvTokenStore;
