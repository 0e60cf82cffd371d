//! Whose commands may run. A project's file comes with the project, and a project may be
//! anybody's: before anything that it says is done, a person sees what that is.
//!
//! The MCP security best practices ("Local MCP server compromise") ask for the exact command,
//! untruncated, and for a consent that a change of the file undoes. So what is approved is bound
//! to the file's path, where a link there leads, the directories that relative paths begin at,
//! the file's content, and the content of what decides what runs: files of variables, `${file:…}`
//! in commands and addresses, and the files that `imports` brings. A server of a project's file
//! cannot be connected before: its resolver refuses.

mod action;
mod request;
mod store;
mod words;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;
use mcpool_core::{Error, ErrorKind, Result};

pub use action::{FactKind, Standing, Taken, TrustAction, TrustFact};
pub use request::{CoveredFile, TrustRequest};

use crate::{loader::Loaded, trust::store::Approval};

/// What was approved: a file in the user's data directory, readable by the owner only.
#[derive(Debug, Clone)]
pub struct TrustStore {
    path: PathBuf,
}

/// Whether what was loaded may be used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Admission {
    /// It may. A server that a person said no to is disabled in it, and a note says so.
    Granted(Box<Loaded>),
    /// Not before a person has seen these, each of which is new or changed.
    Asked(Vec<TrustRequest>),
}

impl TrustStore {
    /// The store in this file. It is made when something is approved.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The user's own store: `mcpool/trust.json` in the data directory.
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

    /// Lets the servers of the project's files be used, or says what has to be asked first.
    ///
    /// Files of the user's own, files that the user named, the environment and the program itself
    /// are trusted. Every server of a project's file is asked about, an address as well as a
    /// command: who connects to it may send it a login of the user's, or reach into the user's
    /// network. Blocks on the file system.
    ///
    /// # Errors
    /// When the store cannot be read; [`InvalidSpec`](ErrorKind::InvalidSpec) when a file of the
    /// project has over 256 servers.
    pub fn admit(&self, loaded: &Loaded) -> Result<Admission> {
        let approvals = self.read()?;
        let mut admitted = loaded.clone();
        let mut asked = Vec::new();
        for drafted in request::of(loaded)? {
            let mut request = drafted.request;
            match approvals.of(&request.file) {
                Some(approval) if approval.hash == request.hash => {
                    for (index, pins) in drafted.pins {
                        let name = loaded.entries()[index].name.as_str();
                        admitted.allow(index, pins, !approval.refused.contains(name));
                    }
                }
                earlier => {
                    request.compare(earlier, approvals.knows(&request.file));
                    asked.push(request);
                }
            }
        }
        Ok(if asked.is_empty() {
            Admission::Granted(Box::new(admitted))
        } else {
            Admission::Asked(asked)
        })
    }

    /// Remembers that a file may do everything that it now says.
    ///
    /// # Errors
    /// When the store cannot be written, or another process, which is named, does not release it
    /// for 10 s.
    pub fn approve(&self, request: &TrustRequest) -> Result<()> {
        self.approve_except(request, std::iter::empty::<&str>())
    }

    /// As [`approve`](Self::approve), but for the servers of these names, which are not used until
    /// somebody is asked again.
    ///
    /// # Errors
    /// As [`approve`](Self::approve); [`UnknownServer`](ErrorKind::UnknownServer) for a name that
    /// is not in the request.
    pub fn approve_except<S: AsRef<str>>(
        &self,
        request: &TrustRequest,
        refused: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        let refused: BTreeSet<String> = refused
            .into_iter()
            .map(|name| name.as_ref().to_owned())
            .collect();
        let known = |name: &&String| request.actions.iter().any(|a| a.server == **name);
        if let Some(unknown) = refused.iter().find(|name| !known(name)) {
            return Err(Error::new(
                ErrorKind::UnknownServer,
                format!("the file has no server {unknown:?}"),
            ));
        }
        let approval = Approval {
            hash: request.hash.clone(),
            servers: request
                .actions
                .iter()
                .map(|action| (action.server.clone(), action.digest().to_string()))
                .collect(),
            refused,
        };
        self.change(|approvals| approvals.insert(request.file.clone(), approval))
    }

    /// Forgets what was approved for a file; whether there was anything.
    ///
    /// # Errors
    /// As [`approve`](Self::approve).
    pub fn revoke(&self, file: &Path) -> Result<bool> {
        let file = mcpool_files::located(file);
        let mut found = false;
        self.change(|approvals| found = approvals.remove(&file))?;
        Ok(found)
    }

    /// The error for a program that cannot ask: it names the files, and for the first one how to
    /// look at it and how to approve it.
    #[must_use]
    pub fn refusal(requests: &[TrustRequest]) -> Error {
        let list: Vec<String> = requests.iter().map(TrustRequest::summary).collect();
        let hint = requests.first().map_or_else(String::new, |request| {
            format!(
                "; look at it with `{}`, and approve what you saw with `{}`",
                request.look_command(),
                request.approve_command(),
            )
        });
        Error::new(
            ErrorKind::InvalidSpec,
            format!("a project's file is not trusted: {}{hint}", list.join(", ")),
        )
    }
}
