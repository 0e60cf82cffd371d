//! Where tokens are kept: the seam for a downstream store, and the store in memory.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_core::Result;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{Grant, GrantKey};

/// Keeps tokens. `mcpool-auth` brings [`FileStore`](crate::FileStore), [`MemoryStore`] and, with
/// the feature `keyring`, `KeyringStore`.
///
/// The rule that keeps everybody logged in: who refreshes takes the [`lock`](Self::lock), loads
/// again, and adopts what it finds there if that is newer. So the lock must hold across every
/// process that shares the store.
#[async_trait]
pub trait TokenStore: Send + Sync + fmt::Debug {
    /// The grants of a server, of each authorization server at most one, the newest first.
    ///
    /// # Errors
    /// [`Internal`](mcpool_core::ErrorKind::Internal) when what is stored cannot be read. A
    /// store never answers a damaged entry with "nothing": that would log the user out.
    async fn load(&self, key: &GrantKey) -> Result<Vec<Grant>>;

    /// Stores a grant in place of the one with the same key and issuer, if there is one: what
    /// [`put_grant`] does to the list of a server.
    /// All of it is stored or nothing, also when the future is dropped or the process dies.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn save(&self, grant: &Grant) -> Result<()>;

    /// Removes the grants of a server: of this issuer, or all. Whether there were any.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn remove(&self, key: &GrantKey, issuer: Option<&str>) -> Result<bool>;

    /// Waits until nobody else, in no process, holds the lock of this key.
    ///
    /// Dropping the future stops the wait. `load`, `save` and `remove` work with and without it.
    ///
    /// # Errors
    /// [`Timeout`](mcpool_core::ErrorKind::Timeout) when somebody holds it for far too long; it
    /// should say who.
    async fn lock(&self, key: &GrantKey) -> Result<StoreLock>;

    /// How often to look for what another process stored, while a server waits for a login.
    /// Default 1 s.
    fn poll_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// A lock of a [`TokenStore`]; dropping it releases it.
#[must_use = "dropping the lock releases it"]
pub struct StoreLock(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any + Send>);

impl StoreLock {
    /// Wraps what releases the lock when it is dropped.
    pub fn new(guard: impl Any + Send) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for StoreLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreLock")
    }
}

/// Of more authorization servers than these for one server, the oldest is forgotten.
const MAX_ISSUERS: usize = 8;

/// What [`TokenStore::save`] does to the grants of a server: the new one comes first, in place of
/// the one of the same issuer. Of more than 8 issuers the oldest is forgotten.
pub fn put_grant(grants: &mut Vec<Grant>, grant: Grant) {
    grants.retain(|old| old.issuer != grant.issuer);
    grants.insert(0, grant);
    grants.truncate(MAX_ISSUERS);
}

/// Keeps tokens for as long as the program runs. For tests, and for who must not write to disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<MemoryInner>);

#[derive(Debug, Default)]
struct MemoryInner {
    grants: std::sync::Mutex<BTreeMap<GrantKey, Vec<Grant>>>,
    locks: std::sync::Mutex<BTreeMap<GrantKey, Arc<Mutex<()>>>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn grants(&self) -> std::sync::MutexGuard<'_, BTreeMap<GrantKey, Vec<Grant>>> {
        self.0
            .grants
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn load(&self, key: &GrantKey) -> Result<Vec<Grant>> {
        Ok(self.grants().get(key).cloned().unwrap_or_default())
    }

    async fn save(&self, grant: &Grant) -> Result<()> {
        put_grant(
            self.grants().entry(grant.key.clone()).or_default(),
            grant.clone(),
        );
        Ok(())
    }

    async fn remove(&self, key: &GrantKey, issuer: Option<&str>) -> Result<bool> {
        let mut all = self.grants();
        let Some(grants) = all.get_mut(key) else {
            return Ok(false);
        };
        let before = grants.len();
        grants.retain(|grant| issuer.is_some_and(|issuer| issuer != grant.issuer));
        let removed = grants.len() != before;
        if grants.is_empty() {
            all.remove(key);
        }
        Ok(removed)
    }

    async fn lock(&self, key: &GrantKey) -> Result<StoreLock> {
        let lock = {
            let mut locks = self
                .0
                .locks
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            // Only the ones that somebody holds or waits for.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        let guard: OwnedMutexGuard<()> = lock.lock_owned().await;
        Ok(StoreLock::new(guard))
    }
}
