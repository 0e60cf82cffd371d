//! The servers of a pool's workers among those of a manager, as they come and go.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::{ServerName, ServerSpec, StartMode};
use mcpool_manager::ConnectionManager;
use tokio::time::Instant;

use crate::{carrier::Carrier, connector::NatsConnector, discovery::discover};

/// How often the workers are asked.
const LOOK: Duration = Duration::from_secs(2);

/// How long workers have for their answers.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a server that no worker has any more stays listed: a worker that is started again has
/// it soon.
const ABSENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Servers that are taken from a pool.
const MAX_SERVERS: usize = 10_000;

/// Adds the servers of a pool's workers to a manager, and removes those that no worker has any
/// more. A server of the same name that the manager has already stays as it is.
///
/// Clones share what they know. What applies a config beside it adds [`specs`](Self::specs).
#[derive(Clone)]
pub struct Follow {
    carrier: Carrier,
    known: Arc<Mutex<BTreeMap<ServerName, Known>>>,
}

struct Known {
    spec: ServerSpec,
    seen: Instant,
}

impl Follow {
    /// Nothing is asked before [`run`](Self::run).
    #[must_use]
    pub fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            known: Arc::default(),
        }
    }

    /// The servers of the pool that were added.
    #[must_use]
    pub fn specs(&self) -> Vec<ServerSpec> {
        let known = self.known();
        known.values().map(|known| known.spec.clone()).collect()
    }

    /// Follows the pool until the manager is shut down. Dropping the future leaves the servers as
    /// they are.
    pub async fn run(&self, manager: &ConnectionManager) {
        while !manager.is_shut_down() {
            match discover(&self.carrier, ANSWER_TIMEOUT).await {
                Ok(found) => {
                    let names = found
                        .into_iter()
                        .flat_map(|worker| worker.servers.into_keys());
                    self.seen(manager, names);
                    self.forget(manager).await;
                }
                // While NATS is away nobody is known to be gone.
                Err(error) => {
                    tracing::debug!(%error, "the pool cannot be asked");
                    let now = Instant::now();
                    self.known().values_mut().for_each(|known| known.seen = now);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn seen(&self, manager: &ConnectionManager, names: impl Iterator<Item = ServerName>) {
        let mut known = self.known();
        for name in names {
            let now = Instant::now();
            if let Some(known) = known.get_mut(&name) {
                known.seen = now;
                continue;
            }
            if known.len() >= MAX_SERVERS {
                tracing::warn!(server = %name, "the pool has too many servers; it is left out");
                continue;
            }
            let Ok(mut spec) = NatsConnector::spec(&self.carrier, &name) else {
                continue;
            };
            spec.start = StartMode::Background;
            match manager.add(spec.clone()) {
                Ok(()) => {
                    tracing::info!(server = %name, pool = %self.carrier.pool(), "a server of the pool");
                    known.insert(name, Known { spec, seen: now });
                }
                // The manager has one of its own.
                Err(error) => tracing::debug!(server = %name, %error, "not added"),
            }
        }
    }

    async fn forget(&self, manager: &ConnectionManager) {
        let gone: Vec<ServerName> = {
            let mut known = self.known();
            let gone = known
                .iter()
                .filter(|(_, known)| known.seen.elapsed() > ABSENCE_TIMEOUT)
                .map(|(name, _)| name.clone())
                .collect();
            known.retain(|_, known| known.seen.elapsed() <= ABSENCE_TIMEOUT);
            gone
        };
        for name in gone {
            tracing::info!(server = %name, pool = %self.carrier.pool(), "gone from the pool");
            if let Err(error) = manager.remove(name.as_str()).await {
                tracing::debug!(server = %name, %error, "not removed");
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ServerName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("carrier", &self.carrier)
            .field("servers", &self.known().len())
            .finish()
    }
}
