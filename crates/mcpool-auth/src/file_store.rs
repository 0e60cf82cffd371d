//! Tokens in files: one for each server, mode 0600, replaced whole, locked across processes.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind as IoErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use etcetera::BaseStrategy;
use mcpool_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::{Grant, GrantKey, StoreLock, TokenStore, store::put};

/// A holder has at most one token request under way, which ends after 30 s.
const LOCK_TIMEOUT: Duration = Duration::from_secs(90);
const LOCK_POLL_MIN: Duration = Duration::from_millis(5);
const LOCK_POLL_MAX: Duration = Duration::from_millis(100);
const VERSION: u32 = 1;

/// The default store: a directory with one JSON file for each server and account.
///
/// Files have mode 0600 and the directory 0700 on Unix. A file is replaced by a rename, so that a
/// reader, or a crash, never meets half of one. The lock is an advisory lock of the operating
/// system on a file beside it: it ends with the process that holds it, however that dies.
/// Directories on a network file system need one that supports such locks.
#[derive(Debug, Clone)]
pub struct FileStore {
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    key: GrantKey,
    /// The newest first.
    grants: Vec<Grant>,
}

impl FileStore {
    /// A store in this directory, which is made when the first token is saved.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// A store in the user's data directory: `mcpool/credentials` below `$XDG_DATA_HOME` or
    /// `~/.local/share`, below `%APPDATA%` on Windows.
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
        Ok(Self::new(
            base.data_dir().join("mcpool").join("credentials"),
        ))
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, key: &GrantKey, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", stem(key)))
    }

    fn read(&self, key: &GrantKey) -> Result<Vec<Grant>> {
        let path = self.path(key, "json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unusable("cannot be read", &path).with_source(error)),
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
        let path = self.path(key, "json");
        let failed =
            |error: std::io::Error| unusable("cannot be written", &path).with_source(error);
        make_private_directory(&self.directory).map_err(failed)?;
        let text = serde_json::to_vec_pretty(&Document {
            version: VERSION,
            key: key.clone(),
            grants,
        })
        .map_err(|error| failed(error.into()))?;
        // Made with mode 0600, in the same directory so that the rename is atomic.
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&self.directory)
            .map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
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
            put(&mut grants, grant);
            store.write(&key, grants)
        })
        .await
    }

    async fn remove(&self, key: &GrantKey, issuer: Option<&str>) -> Result<bool> {
        let key = key.clone();
        let issuer = issuer.map(str::to_owned);
        self.blocking(move |store| {
            let path = store.path(&key, "json");
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
        let path = self.path(key, "lock");
        let failed = |error: std::io::Error| unusable("cannot be locked", &path).with_source(error);
        make_private_directory(&self.directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed)?;
        // Polled, because a blocking lock cannot be given up when the future is dropped.
        let start = Instant::now();
        let mut pause = LOCK_POLL_MIN;
        loop {
            match fs4::FileExt::try_lock(&file) {
                Ok(()) => return Ok(StoreLock::new(HeldLock(file))),
                Err(fs4::TryLockError::WouldBlock) => {}
                Err(fs4::TryLockError::Error(error)) => return Err(failed(error)),
            }
            if start.elapsed() > LOCK_TIMEOUT {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("another process holds {} for too long", path.display()),
                ));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOCK_POLL_MAX);
        }
    }
}

/// Unlocks explicitly: a child process that was forked meanwhile has the descriptor as well, and
/// closing ours alone would not release the lock.
struct HeldLock(File);

impl Drop for HeldLock {
    fn drop(&mut self) {
        let _ = fs4::FileExt::unlock(&self.0);
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

fn make_private_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn unusable(what: &str, path: &Path) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the credentials file {} {what}", path.display()),
    )
}
