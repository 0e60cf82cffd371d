//! What loading gave.

use std::{collections::HashMap, sync::Arc};

use mcpool_core::{ConnectBudget, Result, ServerName, ServerSpec};

use crate::{
    diagnose::{Problem, Problems},
    merge::{Entry, Layer},
    settings::{BudgetSettings, CredentialStore},
    source::Source,
};

/// The good servers, and everything there is to say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The servers in the order of the files, each with its resolver attached. Disabled ones are
    /// among them.
    pub servers: Vec<ServerSpec>,
    /// Errors, warnings and notes, in the order of the files.
    pub problems: Vec<Problem>,
    entries: Vec<Entry>,
    places: HashMap<ServerName, usize>,
    budget: BudgetSettings,
    credentials: Option<CredentialStore>,
    sources: Vec<Arc<Source>>,
}

impl Loaded {
    pub(crate) fn new(layer: Layer, problems: Vec<Problem>, sources: Vec<Arc<Source>>) -> Self {
        Self {
            servers: layer
                .entries
                .iter()
                .map(|entry| entry.spec.clone())
                .collect(),
            places: layer
                .entries
                .iter()
                .enumerate()
                .map(|(index, entry)| (entry.name.clone(), index))
                .collect(),
            entries: layer.entries,
            problems,
            budget: layer.budget,
            credentials: layer.credentials,
            sources,
        }
    }

    /// Itself, unless a file could not be understood at all: then `servers` lacks what that file
    /// says, and a manager that is given it would take servers away.
    ///
    /// # Errors
    /// [`InvalidSpec`](mcpool_core::ErrorKind::InvalidSpec) with [`Problems`] as its source when
    /// a problem [spoils a file](Problem::spoils_file).
    pub fn checked(self) -> Result<Self> {
        if self.problems.iter().any(Problem::spoils_file) {
            let problems = self
                .problems
                .into_iter()
                .filter(Problem::is_error)
                .collect();
            return Err(Problems(problems).into_error());
        }
        Ok(self)
    }

    /// All entries with their settings and origins, in the order of `servers`.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// One entry by name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.places.get(name).map(|index| &self.entries[*index])
    }

    /// Where the files want the tokens of logins to be kept; `None` when they say nothing. A
    /// project's file has no say.
    #[must_use]
    pub fn credentials(&self) -> Option<CredentialStore> {
        self.credentials
    }

    /// The connect budget of the files; `None` when they say nothing.
    #[must_use]
    pub fn budget(&self) -> Option<ConnectBudget> {
        let BudgetSettings { stdio, http } = self.budget;
        if stdio.is_none() && http.is_none() {
            return None;
        }
        let default = ConnectBudget::default();
        let whole = |number: Option<u32>, default: usize| {
            number.map_or(default, |number| {
                usize::try_from(number).unwrap_or(usize::MAX)
            })
        };
        Some(ConnectBudget::new(
            whole(stdio, default.stdio),
            whole(http, default.http),
        ))
    }

    /// Whether any problem is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }

    /// The texts that were read.
    #[must_use]
    pub fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }
}
