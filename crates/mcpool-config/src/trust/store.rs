//! The file of what was approved.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use mcpool_core::{Error, ErrorKind, Result};
use mcpool_files::Locks;
use serde::{Deserialize, Serialize};

use super::TrustStore;

/// No list of approvals is larger.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// How long a change waits for another process that changes the list.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What was approved, by file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Approvals {
    #[serde(default)]
    approved: BTreeMap<PathBuf, Known>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Known {
    Approval(Approval),
    /// An earlier version's, which did not cover all that an approval now covers.
    Outdated(String),
}

/// What was approved of one file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Approval {
    /// The hash of the request.
    pub(super) hash: String,
    /// What each server did, to find out later which ones changed.
    #[serde(default)]
    pub(super) servers: BTreeMap<String, String>,
    /// The servers that were said no to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) refused: BTreeSet<String>,
}

impl Approvals {
    pub(super) fn of(&self, file: &Path) -> Option<&Approval> {
        match self.approved.get(file) {
            Some(Known::Approval(approval)) => Some(approval),
            Some(Known::Outdated(_)) | None => None,
        }
    }

    /// Whether anything was ever approved for the file.
    pub(super) fn knows(&self, file: &Path) -> bool {
        self.approved.contains_key(file)
    }

    pub(super) fn insert(&mut self, file: PathBuf, approval: Approval) {
        self.approved.insert(file, Known::Approval(approval));
    }

    pub(super) fn remove(&mut self, file: &Path) -> bool {
        self.approved.remove(file).is_some()
    }
}

impl TrustStore {
    pub(super) fn read(&self) -> Result<Approvals> {
        let fail = |reason: String| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the list of trusted files {} cannot be read: {reason}; remove it to begin with none",
                    self.path.display()
                ),
            )
        };
        match mcpool_files::read_regular(&self.path, MAX_BYTES) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| fail(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Approvals::default()),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Approvals)) -> Result<()> {
        let fail = |error: io::Error| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the list of trusted files {} cannot be written: {error}",
                    self.path.display()
                ),
            )
            .with_source(error)
        };
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let target = mcpool_files::resolved(&self.path);
        let _lock = Locks::of_user()
            .and_then(|locks| locks.lock(&target, LOCK_PATIENCE))
            .map_err(fail)?;
        let mut approvals = self.read()?;
        change(&mut approvals);
        let mut text =
            serde_json::to_string_pretty(&approvals).map_err(|error| fail(error.into()))?;
        text.push('\n');
        mcpool_files::write_private(&target, &text).map_err(fail)
    }
}
