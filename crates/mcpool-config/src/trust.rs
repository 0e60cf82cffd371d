//! Whose commands may run. A project's file comes with the project, and a project may be
//! anybody's: before it runs a command for the first time, a person sees the command.
//!
//! The MCP security guidance (local server compromise) asks for the exact command, untruncated,
//! and for a consent that a change of the file undoes.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;
use mcpool_core::{Error, ErrorKind, Result, TransportSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    atomic,
    loader::Loaded,
    merge::Entry,
    origin::Scope,
    settings::{GrantName, OAuthSettings},
    show,
};

/// A project's file that is new or changed, and what it would run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustRequest {
    /// The file, with symbolic links resolved.
    pub file: PathBuf,
    /// What has to be approved: a SHA-256 over everything that its entries run, send and hand
    /// on, in hexadecimal.
    pub hash: String,
    /// Whether another content of this file was approved before.
    pub changed: bool,
    /// What it would do, by server.
    pub actions: Vec<TrustAction>,
}

/// What one entry would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TrustAction {
    /// The server.
    pub server: String,
    /// The exact program and arguments, placeholders unfilled, literal secrets overwritten; for
    /// an HTTP server its URL.
    pub command: Vec<String>,
    /// The working directory, when one is named.
    pub cwd: Option<String>,
    /// The names of the variables or headers that it gets.
    pub names: Vec<String>,
    /// Files and helpers that it reads or runs besides.
    pub extras: Vec<String>,
}

impl fmt::Display for TrustAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.server)?;
        for word in &self.command {
            // Quoted so that nobody takes two words for one, or a control character for nothing.
            let plain = word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./:=@,+%${}".contains(c));
            if plain && !word.is_empty() {
                write!(f, " {word}")?;
            } else {
                write!(f, " {word:?}")?;
            }
        }
        if let Some(cwd) = &self.cwd {
            write!(f, "\n    in {cwd:?}")?;
        }
        if !self.names.is_empty() {
            write!(f, "\n    with {}", self.names.join(", "))?;
        }
        for extra in &self.extras {
            write!(f, "\n    {extra}")?;
        }
        Ok(())
    }
}

/// What was approved: a file in the user's data directory, readable by the owner only.
#[derive(Debug, Clone)]
pub struct TrustStore {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Approvals {
    /// The approved hash of each file.
    #[serde(default)]
    approved: BTreeMap<PathBuf, String>,
}

impl TrustStore {
    /// The store in this file. It is made when something is approved.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The user's own store, in the data directory.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when the user has no home.
    pub fn of_user() -> Result<Self> {
        let strategy = etcetera::base_strategy::choose_base_strategy().map_err(|error| {
            Error::new(
                ErrorKind::InvalidArgument,
                "the home directory is not known; set HOME",
            )
            .with_source(error)
        })?;
        Ok(Self::at(
            strategy.data_dir().join("mcpool").join("trust.json"),
        ))
    }

    /// The files of project scope that are not approved as they now stand. Empty means: go on.
    ///
    /// Files of the user's own, files that the user named, the environment and the program
    /// itself are trusted. So is a project file that runs nothing and fills in nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn check(&self, loaded: &Loaded) -> Result<Vec<TrustRequest>> {
        let approvals = self.read()?;
        Ok(requests(loaded)
            .into_iter()
            .filter_map(|mut request| {
                let known = approvals.approved.get(&request.file);
                if known == Some(&request.hash) {
                    return None;
                }
                request.changed = known.is_some();
                Some(request)
            })
            .collect())
    }

    /// Remembers that a file may do what it now says.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn approve(&self, request: &TrustRequest) -> Result<()> {
        self.change(|approvals| {
            approvals
                .approved
                .insert(request.file.clone(), request.hash.clone());
        })
    }

    /// Forgets what was approved for a file; whether there was anything.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn revoke(&self, file: &Path) -> Result<bool> {
        let file = atomic::target(file);
        let mut found = false;
        self.change(|approvals| found = approvals.approved.remove(&file).is_some())?;
        Ok(found)
    }

    /// The error for a program that cannot ask: it names the files and the hashes to approve.
    #[must_use]
    pub fn refusal(requests: &[TrustRequest]) -> Error {
        let list: Vec<String> = requests
            .iter()
            .map(|request| {
                format!(
                    "{} ({}, {} {}, hash {})",
                    request.file.display(),
                    if request.changed { "changed" } else { "new" },
                    request.actions.len(),
                    if request.actions.len() == 1 {
                        "server"
                    } else {
                        "servers"
                    },
                    request.hash,
                )
            })
            .collect();
        let first = requests.first();
        let hint = first.map_or(String::new(), |request| {
            format!(
                "; look at it with `mcpool trust {0}`, and approve it with `mcpool trust {0} --hash {1}`",
                request.file.display(),
                request.hash,
            )
        });
        Error::new(
            ErrorKind::InvalidSpec,
            format!(
                "a project's file wants to run commands and is not trusted: {}{hint}",
                list.join(", ")
            ),
        )
    }

    fn read(&self) -> Result<Approvals> {
        let fail = |reason: String| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the list of trusted files {} cannot be read: {reason}; remove it to start anew",
                    self.path.display()
                ),
            )
        };
        match std::fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| fail(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Approvals::default()),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Approvals)) -> Result<()> {
        let fail = |error: std::io::Error| {
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
        atomic::locked(&self.path, || {
            let mut approvals = self.read()?;
            change(&mut approvals);
            let mut text =
                serde_json::to_string_pretty(&approvals).map_err(|error| fail(error.into()))?;
            text.push('\n');
            atomic::write(&self.path, &text).map_err(fail)
        })
        .map_err(fail)?
    }
}

/// One request for each project file that does anything, whatever was approved.
fn requests(loaded: &Loaded) -> Vec<TrustRequest> {
    let mut files: BTreeMap<PathBuf, Vec<&Entry>> = BTreeMap::new();
    for entry in loaded.entries() {
        if entry.origin.scope == Scope::Project
            && let Some(path) = entry.origin.path()
            && acts(entry)
        {
            files.entry(atomic::target(path)).or_default().push(entry);
        }
    }
    files
        .into_iter()
        .map(|(file, entries)| TrustRequest {
            file,
            hash: hash(&entries),
            changed: false,
            actions: entries.iter().map(|entry| action(entry)).collect(),
        })
        .collect()
}

/// Whether connecting an entry runs a program, or may send what is the user's to an address of
/// the file's choosing: a variable, a file, the tokens of a login.
fn acts(entry: &Entry) -> bool {
    let settings = &entry.settings;
    let runs = settings.headers_helper.is_some() || entry.spec.transport.is_stdio();
    // Whoever chooses the way can read what goes along it.
    let leads_astray = settings.proxy.is_some() || settings.ca_file.is_some();
    let gets_tokens = settings.oauth.as_ref().is_some_and(|oauth| {
        oauth.effective_grant() != GrantName::AuthorizationCode || oauth.metadata_url.is_some()
    });
    // Settings that cannot be written out are settings that nobody knows.
    let is_plain = serde_json::to_string(settings).is_ok_and(|text| !text.contains("${"));
    runs || leads_astray || gets_tokens || !is_plain
}

fn action(entry: &Entry) -> TrustAction {
    let settings = &entry.settings;
    let mut command: Vec<String> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    match &entry.spec.transport {
        TransportSpec::Stdio(stdio) => {
            command.push(stdio.command.clone());
            command.extend(show::redacted_args(&stdio.args));
            names.extend(stdio.env.keys().cloned());
        }
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            command.push(show::url_text(&http.url));
            names.extend(http.headers.iter().map(|(name, _)| name.clone()));
        }
        _ => {}
    }
    let mut extras = Vec::new();
    if let Some(file) = &settings.env_file {
        extras.push(format!("reads variables from {file:?}"));
    }
    if let Some(helper) = &settings.headers_helper {
        extras.push(format!("runs {helper:?} for headers"));
    }
    if let Some(proxy) = &settings.proxy {
        extras.push(format!("goes through the proxy {}", show::url_text(proxy)));
    }
    if let Some(file) = &settings.ca_file {
        extras.push(format!("trusts the certificates in {file:?}"));
    }
    extras.extend(settings.oauth.iter().flat_map(oauth_extras));
    if let Some(inherit) = &settings.inherit_env {
        extras.push(format!("inherits variables: {inherit:?}"));
    }
    TrustAction {
        server: entry.name.to_string(),
        command,
        cwd: settings.cwd.clone(),
        names,
        extras,
    }
}

/// How an entry gets tokens, and who is asked for them.
fn oauth_extras(oauth: &OAuthSettings) -> Vec<String> {
    let mut extras = Vec::new();
    let grant = oauth.effective_grant();
    if grant != GrantName::AuthorizationCode {
        extras.push(format!("gets tokens by {}", grant.as_str()));
    }
    let files = [
        &oauth.private_key_file,
        &oauth.id_token_file,
        &oauth.assertion_file,
    ];
    for file in files.into_iter().flatten() {
        extras.push(format!("uses {file:?} for them"));
    }
    let endpoint = oauth.idp.as_ref().map(|idp| &idp.token_endpoint);
    let addresses = [endpoint, oauth.issuer.as_ref(), oauth.metadata_url.as_ref()];
    for address in addresses.into_iter().flatten() {
        extras.push(format!("asks {} for them", show::url_text(address)));
    }
    extras
}

/// A digest of everything in the entries. Order of the entries does not matter; everything else
/// does, time-outs included: a person approved what they saw.
fn hash(entries: &[&Entry]) -> String {
    let mut entries: Vec<&&Entry> = entries.iter().collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut digest = Sha256::new();
    for entry in entries {
        // Serialising plain settings cannot fail; if it did, nothing would ever be approved.
        let text = serde_json::to_string(&entry.settings).unwrap_or_default();
        for part in [entry.name.as_str(), &text] {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            digest.update(part.as_bytes());
        }
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
