//! What has to be asked about a file of the project.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use mcpool_core::{Error, ErrorKind, Result, Untrusted};
use serde::Serialize;

use super::{
    action::{self, Standing, TrustAction},
    store::Approval,
    words,
};
use crate::{
    expand::{BoundPath, Digest, Pins},
    loader::{Document, Loaded},
};

/// How much of a hash a person is shown.
const SHORT: usize = 12;

/// How many servers of one file a person can be asked about.
const MAX_SERVERS: usize = 256;

/// What the hash is made of, so that a hash of another make is never taken for one.
const HASH_VERSION: &str = "mcpool trust 2";

/// A project's file that is new or changed, and what it would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TrustRequest {
    /// The file: its directory with symbolic links followed, and its name there.
    pub file: PathBuf,
    /// Where it leads, when it is a symbolic link itself.
    pub target: Option<PathBuf>,
    /// The directory that its relative paths begin at.
    pub base: PathBuf,
    /// What has to be approved: a SHA-256 in hexadecimal over the file's path, target and
    /// directories, its content, and the content of every [covered](Self::covered) file.
    pub hash: String,
    /// Whether another content of this file was approved before.
    pub changed: bool,
    /// What it would do, by server.
    pub actions: Vec<TrustAction>,
    /// The other files and directories that are approved with it.
    pub covered: Vec<CoveredFile>,
}

/// A file or a directory that the project's file names, of which something is approved with it:
/// where it leads, and the content where that decides what runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct CoveredFile {
    /// The file, as it is named.
    pub path: PathBuf,
    /// Where it leads, when a symbolic link is on its way.
    pub target: Option<PathBuf>,
    /// Whether the content is a part of what is approved.
    pub is_content: bool,
    /// The beginning of the SHA-256 of its content, for a person to distinguish two contents;
    /// `None` when it is not there or cannot be read.
    pub short_hash: Option<String>,
}

impl TrustRequest {
    /// The beginning of the hash, for a person to distinguish two requests. Never enough to
    /// approve one: two files whose hashes begin alike are quickly made.
    #[must_use]
    pub fn short_hash(&self) -> &str {
        // Hexadecimal digits are one byte each.
        self.hash.get(..SHORT).unwrap_or(&self.hash)
    }

    /// The command line that shows what it would do, and asks where it can.
    #[must_use]
    pub fn look_command(&self) -> String {
        format!("mcpool trust {}", words::word(&self.file.to_string_lossy()))
    }

    /// The command line that approves it as it is, without a question.
    #[must_use]
    pub fn approve_command(&self) -> String {
        format!("{} --hash {}", self.look_command(), self.hash)
    }

    /// Says of each server how it stands to what was approved before.
    pub(super) fn compare(&mut self, earlier: Option<&Approval>, known: bool) {
        self.changed = known;
        for action in &mut self.actions {
            let digest = action.digest().to_string();
            let before = earlier.map(|earlier| (earlier, earlier.servers.get(&action.server)));
            action.standing = match before {
                Some((earlier, Some(before))) if *before == digest => {
                    if earlier.refused.contains(&action.server) {
                        Standing::Refused
                    } else {
                        Standing::Approved
                    }
                }
                Some((_, Some(_))) => Standing::Changed,
                _ => Standing::New,
            };
        }
    }

    /// The file in one line, for an error.
    pub(super) fn summary(&self) -> String {
        format!(
            "{} ({}, {} {})",
            words::word(&self.file.to_string_lossy()),
            if self.changed { "changed" } else { "new" },
            self.actions.len(),
            if self.actions.len() == 1 {
                "server"
            } else {
                "servers"
            },
        )
    }
}

/// A request, and for each of its entries what it may be filled in with once it is approved.
pub(super) struct Drafted {
    pub(super) request: TrustRequest,
    pub(super) pins: Vec<(usize, Pins)>,
}

/// One request for each project file that has servers, whatever was approved.
///
/// # Errors
/// [`InvalidSpec`](ErrorKind::InvalidSpec) when a file has more servers than anybody can look at.
pub(super) fn of(loaded: &Loaded) -> Result<Vec<Drafted>> {
    let mut files: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (index, entry) in loaded.entries().iter().enumerate() {
        if let Some(file) = entry.origin.project_file() {
            files.entry(file).or_default().push(index);
        }
    }
    if let Some((file, entries)) = files.iter().find(|(_, e)| e.len() > MAX_SERVERS) {
        return Err(Error::new(
            ErrorKind::InvalidSpec,
            format!(
                "the project's file {} wants {} servers, and nobody can look at more than {MAX_SERVERS}; name it with --config if you know it",
                Untrusted::os(file),
                entries.len(),
            ),
        ));
    }
    let drafts = files
        .into_iter()
        .filter_map(|(file, entries)| draft(loaded, file, &entries));
    Ok(drafts.collect())
}

/// `None` only when the file was never read, and then it has no entries either.
fn draft(loaded: &Loaded, path: &Path, indices: &[usize]) -> Option<Drafted> {
    let own = |document: &&Document| document.source.path() == Some(path);
    let document = loaded.documents().iter().find(own)?;
    let mut actions = Vec::with_capacity(indices.len());
    let mut pins = Vec::with_capacity(indices.len());
    let mut bound: BTreeMap<PathBuf, BoundPath> = BTreeMap::new();
    for index in indices {
        let entry = &loaded.entries()[*index];
        let of_entry = entry
            .resolver()
            .map(|resolver| resolver.bound(&entry.spec))
            .unwrap_or_default();
        actions.push(action::of(entry, &of_entry));
        for (path, one) in of_entry.paths {
            let all = bound.entry(path).or_default();
            all.target = one.target;
            all.content = all.content.or(one.content);
        }
        pins.push((*index, of_entry.pins));
    }
    // Another host's files that this one brings.
    for imported in loaded.documents() {
        if imported.imported_by.as_deref() == Some(path)
            && let Some(path) = imported.source.path()
        {
            let digest = Digest::of(imported.source.text().as_bytes());
            let content = Some(Some(digest));
            bound
                .entry(mcpool_files::resolved(path))
                .or_default()
                .content = content;
        }
    }
    // Where it lies, not where a link in its place leads, since that is where its relative paths
    // begin.
    let file = mcpool_files::located(path);
    let target = mcpool_files::resolved(path);
    let covered = bound
        .iter()
        .filter(|(_, one)| one.content.is_some() || one.target.is_some())
        .map(|(path, one)| CoveredFile {
            path: path.clone(),
            target: one.target.clone(),
            is_content: one.content.is_some(),
            short_hash: one.content.flatten().map(|digest| digest.short()),
        })
        .collect();
    let request = TrustRequest {
        hash: hash(document, &file, &target, &bound).to_string(),
        target: (target != file).then_some(target),
        file,
        base: document.base.clone(),
        changed: false,
        actions,
        covered,
    };
    Some(Drafted { request, pins })
}

/// A digest of everything that decides what the file does.
fn hash(
    document: &Document,
    file: &Path,
    target: &Path,
    bound: &BTreeMap<PathBuf, BoundPath>,
) -> Digest {
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    let mut parts: Vec<Vec<u8>> = vec![
        HASH_VERSION.into(),
        bytes(file),
        bytes(target),
        bytes(&mcpool_files::resolved(&document.base)),
        bytes(&mcpool_files::resolved(&document.workspace)),
        document.dialect.as_str().into(),
        document.source.text().into(),
    ];
    for (path, one) in bound {
        parts.push(bytes(path));
        parts.push(one.target.as_deref().map(bytes).unwrap_or_default());
        parts.push(match one.content {
            None => "any".into(),
            Some(None) => "none".into(),
            Some(Some(digest)) => digest.to_string().into(),
        });
    }
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}
