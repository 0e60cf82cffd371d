//! What loading gave.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use mcpool_core::{ConnectBudget, Result, ServerName, ServerSpec};

use crate::{
    dialects::Dialect,
    expand::{Consent, Pins, Resolver},
    inputs::InputDeclaration,
    merge::{Entry, Layer},
    problem::Problem,
    problems::Problems,
    settings::{BudgetSettings, PoolSettings},
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
    pool: PoolSettings,
    sources: Vec<Arc<Source>>,
    documents: Vec<Document>,
}

/// A file that was understood, as far as trust is concerned.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) source: Arc<Source>,
    pub(crate) dialect: Dialect,
    /// Where its relative paths begin.
    pub(crate) base: PathBuf,
    /// What it may call the project.
    pub(crate) workspace: PathBuf,
    /// The file of the project whose `imports` brought it.
    pub(crate) imported_by: Option<Arc<Path>>,
    /// The inputs that it declares.
    pub(crate) inputs: Arc<HashMap<String, InputDeclaration>>,
}

impl Loaded {
    pub(crate) fn new(
        layer: Layer,
        problems: Vec<Problem>,
        sources: Vec<Arc<Source>>,
        documents: Vec<Document>,
    ) -> Self {
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
            pool: layer.pool,
            sources,
            documents,
        }
    }

    pub(crate) fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Lets an entry of a project's file be connected, filled in with these contents and no
    /// others; with `used` false it may not be connected at all.
    pub(crate) fn allow(&mut self, index: usize, pins: Pins, used: bool) {
        self.set_consent(index, Consent::Given(Arc::new(pins)));
        let Some(entry) = self.entries.get_mut(index).filter(|_| !used) else {
            return;
        };
        let specs = self
            .servers
            .iter_mut()
            .filter(|spec| spec.name == entry.name);
        for spec in specs.chain([&mut entry.spec]) {
            spec.enabled = false;
            // A server that is not wanted does not fail a start.
            spec.required = false;
        }
        let message = "it is not used: you said no to it when you trusted the project's file";
        let mut problem = Problem::note("not-trusted", message);
        problem.server = Some(entry.name.to_string());
        problem.span = entry.origin.span.clone();
        self.problems.push(problem);
    }

    /// Takes what the project's files say as approved, unseen: for an application that knows its
    /// projects, or asks in its own way. Otherwise see [`TrustStore`](crate::TrustStore).
    #[must_use]
    pub fn trusting_project(mut self) -> Self {
        for index in 0..self.entries.len() {
            self.set_consent(index, Consent::NotNeeded);
        }
        self
    }

    fn set_consent(&mut self, index: usize, consent: Consent) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        let Some(resolver) = &entry.resolver else {
            return;
        };
        let resolver = Arc::new(resolver.as_ref().clone().with_consent(consent));
        let specs = self
            .servers
            .iter_mut()
            .filter(|spec| spec.name == entry.name);
        for spec in specs.chain([&mut entry.spec]) {
            spec.resolver = Some(Arc::<Resolver>::clone(&resolver));
        }
        entry.resolver = Some(resolver);
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

    /// What the files say of the pool as a whole, the later file over the earlier. A project's
    /// file has no say in `credentials` and `profiles`.
    #[must_use]
    pub fn pool(&self) -> &PoolSettings {
        &self.pool
    }

    /// The inputs that the files declare, by their identifiers; of two equal ones that of the later
    /// file. An entry is asked for those of its own file.
    #[must_use]
    pub fn inputs(&self) -> BTreeMap<&str, &InputDeclaration> {
        let documents = self.documents.iter();
        documents
            .flat_map(|document| document.inputs.iter())
            .map(|(id, declaration)| (id.as_str(), declaration))
            .collect()
    }

    /// The connect budget of the files; `None` when they say nothing.
    #[must_use]
    pub fn budget(&self) -> Option<ConnectBudget> {
        self.pool.budget.map(BudgetSettings::to_budget)
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
