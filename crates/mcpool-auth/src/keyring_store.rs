//! Tokens in the operating system's keyring.

use std::time::Duration;

use async_trait::async_trait;
use keyring::v1::Entry;
use mcpool_core::{Error, ErrorKind, Result};

use crate::{FileStore, Grant, GrantKey, StoreLock, TokenStore, store::put_grant};

const SERVICE: &str = "mcpool";

/// A store in the keychain of macOS, the credential manager of Windows, or the Secret Service
/// of Linux: one entry for each server and account.
///
/// Keyrings have no locks, so the locks are those of a [`FileStore`]; no token is written there.
#[derive(Debug, Clone)]
pub struct KeyringStore {
    locks: FileStore,
}

impl KeyringStore {
    /// The user's keyring, with locks in the directory of this store.
    #[must_use]
    pub fn new(locks: FileStore) -> Self {
        Self { locks }
    }

    async fn blocking<T: Send + 'static>(
        key: &GrantKey,
        work: impl FnOnce(&Entry) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let user = match &key.account {
            Some(account) => format!("{account}@{}", key.server),
            None => key.server.clone(),
        };
        tokio::task::spawn_blocking(move || {
            let entry = Entry::new(SERVICE, &user).map_err(unusable)?;
            work(&entry)
        })
        .await
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "the keyring was not asked").with_source(error)
        })?
    }
}

#[async_trait]
impl TokenStore for KeyringStore {
    async fn load(&self, key: &GrantKey) -> Result<Vec<Grant>> {
        Self::blocking(key, read).await
    }

    async fn save(&self, grant: &Grant) -> Result<()> {
        let grant = grant.clone();
        Self::blocking(&grant.key.clone(), move |entry| {
            let mut grants = read(entry)?;
            put_grant(&mut grants, grant);
            write(entry, &grants)
        })
        .await
    }

    async fn remove(&self, key: &GrantKey, issuer: Option<&str>) -> Result<bool> {
        let issuer = issuer.map(str::to_owned);
        Self::blocking(key, move |entry| {
            let mut kept = Vec::new();
            if let Some(issuer) = issuer {
                let grants = read(entry)?;
                let before = grants.len();
                kept.extend(grants.into_iter().filter(|grant| grant.issuer != issuer));
                if kept.len() == before {
                    return Ok(false);
                }
            }
            if !kept.is_empty() {
                write(entry, &kept)?;
                return Ok(true);
            }
            match entry.delete_credential() {
                Ok(()) => Ok(true),
                Err(keyring::v1::Error::NoEntry) => Ok(false),
                Err(error) => Err(unusable(error)),
            }
        })
        .await
    }

    async fn lock(&self, key: &GrantKey) -> Result<StoreLock> {
        self.locks.lock(key).await
    }

    /// 10 s: some keyrings ask the user.
    fn poll_interval(&self) -> Duration {
        Duration::from_secs(10)
    }
}

fn read(entry: &Entry) -> Result<Vec<Grant>> {
    match entry.get_password() {
        // serde's error would quote the text.
        Ok(text) => serde_json::from_str(&text).map_err(|_| {
            Error::new(
                ErrorKind::Internal,
                "the keyring's entry is damaged: log out, then log in again",
            )
        }),
        Err(keyring::v1::Error::NoEntry) => Ok(Vec::new()),
        Err(error) => Err(unusable(error)),
    }
}

fn write(entry: &Entry, grants: &[Grant]) -> Result<()> {
    let text = serde_json::to_string(grants).map_err(|error| {
        Error::new(ErrorKind::Internal, "the grant cannot be written").with_source(error)
    })?;
    entry.set_password(&text).map_err(unusable)
}

fn unusable(error: keyring::v1::Error) -> Error {
    Error::new(ErrorKind::Internal, "the keyring cannot be used").with_source(error)
}
