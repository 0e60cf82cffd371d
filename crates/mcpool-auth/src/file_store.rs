//! Tokens in files: one for each server, mode 0600, replaced whole, locked across processes.

use std::{
    fs,
    io::ErrorKind as IoErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use etcetera::BaseStrategy;
use mcpool_core::{Error, ErrorKind, Result};
use mcpool_files::Locks;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Grant, GrantKey, StoreLock, TokenStore, lock, private_files, store::put_grant};

/// A holder has at most one token request under way, which ends after 30 s.
const LOCK_TIMEOUT: Duration = Duration::from_secs(90);
/// The tokens of one server are some kilobytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;
const VERSION: u32 = 1;

/// The default store: a directory with one JSON file for each server and account.
///
/// On Unix files have mode 0600 and the directory 0700, and that is checked each time: what
/// others may read, or what belongs to another user, is an error that says what to do. A file is
/// replaced by a rename, so that a reader, or a crash, never meets half of one; one of more than
/// 4 MiB is not read.
///
/// The lock is an advisory lock of the operating system on a file that only the user can open:
/// in the user's state directory for [`in_data_dir`](Self::in_data_dir), beside the tokens for a
/// directory of the application's own ([`new`](Self::new)), so that those who share the one share
/// the other. It ends with the process that holds it, however that ends; a caller that has waited for 90 s
/// gets an error that names that process. Directories on a network file system need one that supports such
/// locks.
#[derive(Debug, Clone)]
pub struct FileStore {
    directory: PathBuf,
    locks: Locks,
    lock_timeout: Duration,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    key: GrantKey,
    /// The newest first.
    grants: Vec<Grant>,
}

impl FileStore {
    /// A store in this directory, which is made when the first token is saved. One that is there
    /// has to be the user's, with mode 0700.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            locks: Locks::new(directory.join("locks")),
            directory,
            lock_timeout: LOCK_TIMEOUT,
        }
    }

    /// A store in the user's data directory: `mcpool/credentials` below `$XDG_DATA_HOME` or
    /// `~/.local/share`, below `%APPDATA%` on Windows. Its locks are in `mcpool/locks` below
    /// `$XDG_STATE_HOME` or `~/.local/state`.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) when the user has no home directory.
    pub fn in_data_dir() -> Result<Self> {
        let base = etcetera::choose_base_strategy().map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                "no home directory: say where credentials are kept",
            )
            .with_source(error)
        })?;
        let mut store = Self::new(base.data_dir().join("mcpool").join("credentials"));
        store.locks = Locks::of_user().map_err(|error| {
            Error::new(ErrorKind::Internal, "there is no place for locks").with_source(error)
        })?;
        Ok(store)
    }

    /// Sets how long to wait for a lock. Default 90 s.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// The directory of the tokens.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, key: &GrantKey) -> PathBuf {
        self.directory.join(format!("{}.json", stem(key)))
    }

    /// Makes the directory, and checks the one that is there.
    fn make_directory(&self) -> Result<()> {
        private_files::make_directory(&self.directory)
            .map_err(|error| unusable("cannot be made", &self.directory).with_source(error))?;
        private_files::check_directory(&self.directory)
    }

    fn read(&self, key: &GrantKey) -> Result<Vec<Grant>> {
        let path = self.path(key);
        match private_files::check_directory(&self.directory) {
            Err(_) if !self.directory.exists() => return Ok(Vec::new()),
            result => result?,
        }
        let Some(text) = private_files::read(&path, MAX_FILE)? else {
            return Ok(Vec::new());
        };
        // The error of serde would quote the text, which holds secrets.
        let document: Document = serde_json::from_slice(&text).map_err(|error| {
            unusable(
                &format!(
                    "is damaged at line {}: log in again after removing it",
                    error.line()
                ),
                &path,
            )
        })?;
        if document.version != VERSION {
            return Err(unusable("was written by a newer version", &path));
        }
        if document.key != *key {
            return Err(unusable("belongs to another server", &path));
        }
        Ok(document.grants)
    }

    fn write(&self, key: &GrantKey, grants: Vec<Grant>) -> Result<()> {
        let path = self.path(key);
        let failed =
            |error: std::io::Error| unusable("cannot be written", &path).with_source(error);
        self.make_directory()?;
        let text = serde_json::to_string_pretty(&Document {
            version: VERSION,
            key: key.clone(),
            grants,
        })
        .map_err(|error| failed(error.into()))?;
        mcpool_files::write_private(&path, &text).map_err(failed)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        // A dropped future does not stop the work: a file is written whole or not at all.
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "the credentials were not handled")
                    .with_source(error)
            })?
    }
}

#[async_trait]
impl TokenStore for FileStore {
    async fn load(&self, key: &GrantKey) -> Result<Vec<Grant>> {
        let key = key.clone();
        self.blocking(move |store| store.read(&key)).await
    }

    async fn save(&self, grant: &Grant) -> Result<()> {
        let grant = grant.clone();
        self.blocking(move |store| {
            let key = grant.key.clone();
            let mut grants = store.read(&key)?;
            put_grant(&mut grants, grant);
            store.write(&key, grants)
        })
        .await
    }

    async fn remove(&self, key: &GrantKey, issuer: Option<&str>) -> Result<bool> {
        let key = key.clone();
        let issuer = issuer.map(str::to_owned);
        self.blocking(move |store| {
            let path = store.path(&key);
            let kept = match &issuer {
                // Also the way out of a damaged file.
                None => Vec::new(),
                Some(issuer) => {
                    let mut grants = store.read(&key)?;
                    let before = grants.len();
                    grants.retain(|grant| grant.issuer != *issuer);
                    if grants.len() == before {
                        return Ok(false);
                    }
                    grants
                }
            };
            if !kept.is_empty() {
                store.write(&key, kept)?;
                return Ok(true);
            }
            match fs::remove_file(&path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == IoErrorKind::NotFound => Ok(false),
                Err(error) => Err(unusable("cannot be removed", &path).with_source(error)),
            }
        })
        .await
    }

    async fn lock(&self, key: &GrantKey) -> Result<StoreLock> {
        let key = key.clone();
        let path = self
            .blocking(move |store| {
                // Before its path is followed, and before a directory that others may enter is
                // one for locks.
                store.make_directory()?;
                Ok(mcpool_files::resolved(&store.path(&key)))
            })
            .await?;
        lock::take(&self.locks, path, self.lock_timeout).await
    }
}

/// A file name that a person recognises and that no other key has.
fn stem(key: &GrantKey) -> String {
    let host: String = key
        .server
        .split("://")
        .last()
        .unwrap_or_default()
        .chars()
        .take_while(|c| *c != '/')
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let mut hash = Sha256::new();
    hash.update(key.server.as_bytes());
    hash.update([0]);
    hash.update(key.account.as_deref().unwrap_or_default().as_bytes());
    let digest = URL_SAFE_NO_PAD.encode(&hash.finalize()[..12]);
    format!("{host}-{digest}")
}

fn unusable(what: &str, path: &Path) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the credentials {} {what}", path.display()),
    )
}
