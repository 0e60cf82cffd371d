//! A worker in the registry.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use mcpool_core::{Result, ServerName};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::subjects::token;

use super::{Beat, FleetServer, HEARTBEAT, Registry, catalog};

/// How often everything is written again, since the bucket forgets what is older than a day.
const REFRESH: Duration = Duration::from_secs(8 * 3600);

/// This process as a worker of the registry. Dropping it ends the heartbeats: after 20 s the
/// worker is shown as gone. [`leave`](Self::leave) takes it off at once.
#[derive(Debug)]
pub struct Announced {
    shared: Arc<Shared>,
    beating: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    registry: Registry,
    /// What was written last of each server, and its catalog.
    written: Mutex<BTreeMap<ServerName, (FleetServer, Option<Bytes>)>>,
}

impl Announced {
    pub(super) async fn begin(registry: Registry, place: &str) -> Result<Self> {
        let mut beat = Beat {
            count: 1,
            place: place.to_owned(),
        };
        let shared = Arc::new(Shared {
            registry,
            written: Mutex::default(),
        });
        shared.beat(&beat).await?;
        let beating = Arc::clone(&shared);
        let beats = u64::max(1, REFRESH.as_secs() / HEARTBEAT.as_secs());
        let task = async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                beat.count = beat.count.saturating_add(1);
                let mut done = beating.beat(&beat).await;
                if done.is_ok() && beat.count.is_multiple_of(beats) {
                    done = beating.refresh().await;
                }
                if let Err(error) = done {
                    tracing::debug!(%error, "the registry cannot be written");
                }
            }
        };
        Ok(Self {
            shared,
            beating: AbortOnDropHandle::new(tokio::spawn(task)),
        })
    }

    /// Writes the state of a server, if it is another than before. With a catalog (`Some`) that
    /// is stored first, and its hash is set.
    ///
    /// When the future is dropped, the state may be written or not.
    ///
    /// # Errors
    /// `Connect` when the registry cannot be written: nothing is remembered, call it again.
    /// `TooLarge` for a catalog above 64 MiB.
    pub async fn publish(&self, mut server: FleetServer, catalog: Option<Bytes>) -> Result<()> {
        let registry = &self.shared.registry;
        let mut written = self.shared.written.lock().await;
        let before = written.get(&server.name);
        let catalog = match catalog {
            Some(catalog) => {
                let same = before.filter(|(_, before)| before.as_ref() == Some(&catalog));
                server.catalog = match same {
                    Some((before, _)) => before.catalog.clone(),
                    None => Some(catalog::store(&registry.bucket, &catalog, registry.part).await?),
                };
                Some(catalog)
            }
            // The last good one stays.
            None => before.and_then(|(before, catalog)| {
                server.catalog.clone_from(&before.catalog);
                catalog.clone()
            }),
        };
        if before.is_some_and(|(before, _)| *before == server) {
            return Ok(());
        }
        self.shared.put(&server).await?;
        written.insert(server.name.clone(), (server, catalog));
        Ok(())
    }

    /// Takes a server off.
    ///
    /// # Errors
    /// `Connect` when the registry cannot be written.
    pub async fn withdraw(&self, server: &ServerName) -> Result<()> {
        self.shared.withdraw(server).await
    }

    /// Takes the worker and its servers off.
    ///
    /// # Errors
    /// `Connect` when the registry cannot be written: what is left is shown as gone after 20 s.
    pub async fn leave(self) -> Result<()> {
        let Self { shared, beating } = self;
        // A beat after this would show the worker again.
        beating.abort();
        let _ = beating.await;
        let servers: Vec<ServerName> = shared.written.lock().await.keys().cloned().collect();
        for server in servers {
            shared.withdraw(&server).await?;
        }
        let registry = &shared.registry;
        registry
            .bucket
            .delete(&format!("worker.{}", registry.identity))
            .await
    }
}

impl Shared {
    async fn beat(&self, beat: &Beat) -> Result<()> {
        let key = format!("worker.{}", self.registry.identity);
        // Numbers and text always can be written as JSON.
        let value = serde_json::to_vec(beat).unwrap_or_default();
        self.registry.bucket.put(&key, value.into()).await.map(drop)
    }

    async fn put(&self, server: &FleetServer) -> Result<()> {
        let key = format!("server.{}.{}", self.registry.identity, token(&server.name));
        let value = serde_json::to_vec(server).unwrap_or_default();
        self.registry.bucket.put(&key, value.into()).await.map(drop)
    }

    async fn withdraw(&self, server: &ServerName) -> Result<()> {
        let mut written = self.written.lock().await;
        let key = format!("server.{}.{}", self.registry.identity, token(server));
        self.registry.bucket.delete(&key).await?;
        written.remove(server);
        Ok(())
    }

    async fn refresh(&self) -> Result<()> {
        let written = self.written.lock().await;
        for (server, catalog) in written.values() {
            if let Some(catalog) = catalog {
                catalog::store(&self.registry.bucket, catalog, self.registry.part).await?;
            }
            self.put(server).await?;
        }
        Ok(())
    }
}
