//! OAuth tokens that the gateways of a pool share.
//!
//! One key for each server and account holds its grants, sealed with the [`PoolKey`]; one more is
//! its lock. Both are written by compare-and-swap, and read from the leader of the bucket, so that
//! who has the lock sees what its last holder stored.

use std::{fmt::Write as _, time::Duration};

use async_trait::async_trait;
use mcpool_auth::{Grant, GrantKey, StoreLock, TokenStore, put_grant};
use mcpool_core::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{carrier::Carrier, identity::random_token};

use super::{
    bucket::{Bucket, Storage, Written},
    sealed::PoolKey,
};

/// A lock whose holder has not renewed it for so long is free, on the clock of who waits.
const LOCK_EXPIRY: Duration = Duration::from_secs(15);

/// How often a holder renews its lock.
const RENEWAL: Duration = Duration::from_secs(4);

/// How long a lock is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// The pauses between two looks at a lock.
const POLL_MIN: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_millis(250);

/// How long locks that were dropped may take to be free for others.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a change is tried while JetStream does not answer: longer than an election. A refresh
/// token that is not saved is a login that is lost.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Tokens in the bucket `mcpool-<pool>-tokens`, for any number of gateways: one refresh for all.
///
/// The lock expires 15 s after the last renewal of its holder that was seen: a gateway that was
/// stopped for longer, in the midst of a refresh, may refresh with a token that was used meanwhile.
#[derive(Debug, Clone)]
pub struct KvTokenStore {
    bucket: Bucket,
    key: PoolKey,
    holder: String,
    locks: TaskTracker,
}

fn place(kind: &str, key: &GrantKey) -> String {
    let account = key.account.as_deref();
    let text = format!(
        "{}\n{}\n{}",
        key.server,
        account.is_some(),
        account.unwrap_or_default()
    );
    let mut place = format!("{kind}.");
    for byte in Sha256::digest(text) {
        // Writing to a string does not fail.
        let _ = write!(place, "{byte:02x}");
    }
    place
}

impl KvTokenStore {
    /// Opens the pool's tokens.
    ///
    /// # Errors
    /// `Connect` when JetStream is not there, or does not let this identity use the bucket.
    pub async fn open(carrier: &Carrier, storage: Storage, key: PoolKey) -> Result<Self> {
        Ok(Self {
            bucket: Bucket::open(carrier, "tokens", storage, Duration::ZERO).await?,
            key,
            holder: carrier.identity().to_string(),
            locks: TaskTracker::new(),
        })
    }

    /// Waits until the locks that were dropped are free for others, 2 s at most: a process that ends
    /// before leaves them to expire. Locks that are held are waited for as well.
    ///
    /// Dropping the future stops the waiting alone.
    pub async fn unlocked(&self) {
        self.locks.close();
        if timeout(UNLOCK_TIMEOUT, self.locks.wait()).await.is_err() {
            tracing::debug!("the lock of tokens was not freed: it expires");
        }
        self.locks.reopen();
    }

    /// The grants with their revision.
    async fn read(&self, place: &str) -> Result<(u64, Vec<Grant>)> {
        let held = self.bucket.read_newest(place).await?;
        let Some(value) = held.value else {
            return Ok((held.revision, Vec::new()));
        };
        let opened = self.key.open(place, &value);
        let grants = opened.and_then(|text| serde_json::from_slice(&text).ok());
        let grants = grants.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "the tokens in the pool cannot be read: damaged, or sealed with another key",
            )
        })?;
        Ok((held.revision, grants))
    }

    /// Changes the grants; nothing is written when `change` gives `false`.
    async fn change(
        &self,
        key: &GrantKey,
        change: impl Fn(&mut Vec<Grant>) -> bool,
    ) -> Result<bool> {
        let place = place("grants", key);
        let began = Instant::now();
        loop {
            let problem = match self.try_change(&place, &change).await {
                Ok(Some(changed)) => return Ok(changed),
                Ok(None) => Error::new(
                    ErrorKind::Connect,
                    "the tokens cannot be written to the pool",
                ),
                // JetStream may be in an election.
                Err(error) if error.kind() == ErrorKind::Connect => error,
                Err(error) => return Err(error),
            };
            if began.elapsed() >= CHANGE_TIMEOUT {
                return Err(problem);
            }
            sleep(POLL_MAX.mul_f64(rand::random())).await;
        }
    }

    /// One attempt at a change; `None` when it is not known to have been written.
    async fn try_change(
        &self,
        place: &str,
        change: &impl Fn(&mut Vec<Grant>) -> bool,
    ) -> Result<Option<bool>> {
        let (revision, mut grants) = self.read(place).await?;
        if !change(&mut grants) {
            return Ok(Some(false));
        }
        let text = serde_json::to_vec(&grants)
            .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        let sealed = self.key.seal(place, &text)?;
        let written = self.bucket.write(place, sealed.into(), revision).await;
        Ok(match written {
            Written::At(_) => Some(true),
            // Somebody else's, or our own of unknown outcome: the change is made again, on what
            // is there, which does no harm.
            Written::Conflict | Written::Unknown(_) => None,
        })
    }
}

#[async_trait]
impl TokenStore for KvTokenStore {
    async fn load(&self, key: &GrantKey) -> Result<Vec<Grant>> {
        Ok(self.read(&place("grants", key)).await?.1)
    }

    async fn save(&self, grant: &Grant) -> Result<()> {
        let (store, grant) = (self.clone(), grant.clone());
        let save = async move {
            let put = |grants: &mut Vec<Grant>| {
                put_grant(grants, grant.clone());
                true
            };
            store.change(&grant.key, put).await
        };
        // On a task of its own: a refresh token that replaced another one is not lost with the
        // call that needed it.
        let saved = tokio::spawn(save).await.map_err(|error| {
            Error::new(ErrorKind::Internal, "the tokens were not handled").with_source(error)
        })?;
        saved.map(drop)
    }

    async fn remove(&self, key: &GrantKey, issuer: Option<&str>) -> Result<bool> {
        let Some(issuer) = issuer else {
            // Also the way out of what cannot be opened.
            let place = place("grants", key);
            let there = match self.read(&place).await {
                Ok((_, grants)) => !grants.is_empty(),
                Err(error) if error.kind() == ErrorKind::Internal => true,
                Err(error) => return Err(error),
            };
            if there {
                self.bucket.delete(&place).await?;
            }
            return Ok(there);
        };
        self.change(key, |grants| {
            let before = grants.len();
            grants.retain(|grant| grant.issuer != issuer);
            grants.len() != before
        })
        .await
    }

    async fn lock(&self, key: &GrantKey) -> Result<StoreLock> {
        let place = place("lock", key);
        // Ours and nobody else's, also among the locks of this process.
        let mine = format!("{} {}", self.holder, random_token());
        let (began, mut pause) = (Instant::now(), POLL_MIN);
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            let held = self.bucket.read_newest(&place).await?;
            let first = seen.filter(|(revision, _)| *revision == held.revision);
            let (_, since) = *seen.insert(first.unwrap_or((held.revision, Instant::now())));
            let value = held.value.as_deref().unwrap_or_default();
            let taken = if value == mine.as_bytes() {
                // A write of unknown outcome that was written.
                Some(held.revision)
            } else if value.is_empty() || since.elapsed() >= LOCK_EXPIRY {
                let value = mine.clone().into_bytes().into();
                match self.bucket.write(&place, value, held.revision).await {
                    Written::At(revision) => Some(revision),
                    Written::Conflict | Written::Unknown(_) => None,
                }
            } else {
                None
            };
            if let Some(revision) = taken {
                return Ok(self.kept(place, mine, revision));
            }
            if began.elapsed() >= LOCK_TIMEOUT {
                let holder = String::from_utf8_lossy(value);
                let holder = holder.split(' ').next().unwrap_or_default();
                let holder = mcpool_core::Untrusted::line(holder);
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("{holder} has had the lock of these tokens for over 60 s"),
                ));
            }
            sleep(pause).await;
            pause = (pause * 2).min(POLL_MAX);
        }
    }
}

impl KvTokenStore {
    /// Renews a lock until it is dropped, then frees it.
    fn kept(&self, place: String, mine: String, mut revision: u64) -> StoreLock {
        let bucket = self.bucket.clone();
        let dropped = CancellationToken::new();
        let until = dropped.clone();
        self.locks.spawn(async move {
            while until.run_until_cancelled(sleep(RENEWAL)).await.is_some() {
                let value = mine.clone().into_bytes().into();
                match bucket.write(&place, value, revision).await {
                    Written::At(renewed) => revision = renewed,
                    Written::Unknown(_) => {}
                    Written::Conflict => match bucket.read_newest(&place).await {
                        // Our own renewal, of unknown outcome then.
                        Ok(held) if held.value.as_deref() == Some(mine.as_bytes()) => {
                            revision = held.revision;
                        }
                        _ => return,
                    },
                }
            }
            let freed = bucket.write(&place, Vec::new().into(), revision).await;
            if freed != Written::Conflict && !matches!(freed, Written::At(_)) {
                tracing::debug!("the lock of tokens was not freed: it expires");
            }
        });
        StoreLock::new(dropped.drop_guard())
    }
}
