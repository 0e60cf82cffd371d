//! Loading: files in, specs and problems out.

mod directories;
mod loaded;
mod read_file;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use mcpool_core::{Error, ErrorKind, Masker, Result, ServerSpec};

pub(crate) use loaded::Document;
pub use loaded::Loaded;
pub(crate) use read_file::MAX_BYTES;

use crate::{
    compile,
    diagnose::{Problem, Severity},
    dialects::{self, Dialect},
    document::{self, Format},
    expand::{
        Consent, EnvironmentSource, FileSource, InputProvider, InputSource, PlaceSource, Resolver,
        VariableSource,
    },
    home::Home,
    hosts::{self, Folders},
    merge::{Entry, Layer, merge},
    origin::{Fields, Origin, Scope},
    problems::Problems,
    reader::{self, InputDeclaration},
    settings::{BudgetSettings, ImportOrder},
    source::{Source, Span},
};

/// Loads a configuration from files, texts and the program's own entries.
///
/// Layers are laid over each other by [`Scope`]: imports, the user's files, the project's, those
/// that were named, the environment, the program. Within one scope the later one wins. Always a
/// whole entry wins; fields are never mixed.
///
/// ```
/// use mcpool_config::Loader;
///
/// let loaded = Loader::new()
///     .with_text("example", r#"{ "mcpServers": { "files": { "command": "mcp-files" } } }"#)
///     .load()?;
/// assert_eq!(loaded.servers[0].name.as_str(), "files");
/// assert!(loaded.problems.is_empty());
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Loader {
    inputs: Vec<Input>,
    dialect: Option<Dialect>,
    environment: EnvironmentSource,
    environment_layer: Option<String>,
    sources: Vec<Arc<dyn VariableSource>>,
    provider: Option<Arc<dyn InputProvider>>,
    folders: Option<Folders>,
    overrides: Vec<ServerSpec>,
    strict: bool,
    masker: Masker,
}

#[derive(Debug, Clone)]
struct Input {
    scope: Scope,
    what: What,
}

#[derive(Clone)]
enum What {
    File { path: PathBuf, must_exist: bool },
    Folder(PathBuf),
    Text { name: String, text: String },
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, .. } | Self::Folder(path) => path.fmt(f),
            Self::Text { name, .. } => name.fmt(f),
        }
    }
}

impl Loader {
    /// Nothing to load yet, the process's own environment, tolerant.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file that the user named. It must be there; it may be a pipe, such as `/dev/stdin`.
    /// At most 16 MiB, as every other file.
    #[must_use]
    pub fn with_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(
            Scope::Named,
            What::File {
                path: path.into(),
                must_exist: true,
            },
        )
    }

    /// Adds a file of the user's, as from the user's configuration directory. It may be missing.
    #[must_use]
    pub fn with_user_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(
            Scope::User,
            What::File {
                path: path.into(),
                must_exist: false,
            },
        )
    }

    /// Adds a file of the project. It may be missing. Its commands are not trusted by
    /// themselves: see [`TrustStore`](crate::TrustStore).
    #[must_use]
    pub fn with_project_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(
            Scope::Project,
            What::File {
                path: path.into(),
                must_exist: false,
            },
        )
    }

    /// Adds every `.json`, `.jsonc`, `.toml`, `.yaml` and `.yml` file of a directory, in the
    /// order of their names. The directory must be there.
    #[must_use]
    pub fn with_directory(self, path: impl Into<PathBuf>) -> Self {
        self.with(Scope::Named, What::Folder(path.into()))
    }

    /// Adds a text, under a name for messages. Where the name ends as a file's would, the end
    /// says how the text is written: `example.toml`.
    #[must_use]
    pub fn with_text(self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.with(
            Scope::Named,
            What::Text {
                name: name.into(),
                text: text.into(),
            },
        )
    }

    fn with(mut self, scope: Scope, what: What) -> Self {
        self.inputs.push(Input { scope, what });
        self
    }

    /// Adds the text of an environment variable as a layer above all files, when it is set.
    #[must_use]
    pub fn with_environment_layer(mut self, variable: impl Into<String>) -> Self {
        self.environment_layer = Some(variable.into());
        self
    }

    /// Adds an entry of the program's own, above everything else. It is taken as it is: `$` has
    /// no meaning in it.
    #[must_use]
    pub fn with_server(mut self, spec: ServerSpec) -> Self {
        self.overrides.push(spec);
        self
    }

    /// Reads every file in this dialect instead of recognising it.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// Takes variables from here instead of the process's environment.
    #[must_use]
    pub fn with_env<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.environment = EnvironmentSource::fixed(variables);
        self
    }

    /// Adds a source of values that is asked before the built-in ones, such as a secret store.
    #[must_use]
    pub fn with_variable_source(mut self, source: Arc<dyn VariableSource>) -> Self {
        self.sources.push(source);
        self
    }

    /// Sets who is asked for `${input:id}`. Default: nobody, and an input is an error.
    #[must_use]
    pub fn with_input_provider(mut self, provider: Arc<dyn InputProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Sets the home and the project, for placeholders and imports. Default: the process's.
    #[must_use]
    pub fn with_folders(mut self, folders: Folders) -> Self {
        self.folders = Some(folders);
        self
    }

    /// Makes every warning and error fatal. Default `false`.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets what masks the secrets of all servers that are loaded: one handle for the application,
    /// which can mask its own output with it. It learns of a value when that is filled in, not
    /// when a file is loaded. Default: one of the loader's own.
    #[must_use]
    pub fn with_masker(mut self, masker: Masker) -> Self {
        self.masker = masker;
        self
    }

    /// The files and directories that are read, for a watcher. Imports are not among them.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        self.inputs
            .iter()
            .filter_map(|input| match &input.what {
                What::File { path, .. } | What::Folder(path) => Some(path.as_path()),
                What::Text { .. } => None,
            })
            .collect()
    }

    /// Reads everything. Blocks on the file system; connects to nothing and runs nothing.
    ///
    /// A bad entry is left out and becomes a problem; a file with broken syntax is left out as a
    /// whole and becomes a problem that [spoils the file](Problem::spoils_file).
    ///
    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) when a named file cannot be read, or with
    /// [`strict`](Loader::strict) when there is any warning or error. [`Problems`] is then the
    /// error's source.
    pub fn load(&self) -> Result<Loaded> {
        let folders = self.folders.clone().unwrap_or_else(Folders::of_process);
        let mut load = Load {
            loader: self,
            folders,
            problems: Vec::new(),
            sources: Vec::new(),
            documents: Vec::new(),
            by_scope: HashMap::new(),
        };
        for input in &self.inputs {
            load.input(input)?;
        }
        if let Some(variable) = &self.environment_layer
            && let Some(text) = self.environment.get(variable)
        {
            let source = Source::new(format!("${variable}"), None, text.expose());
            load.document(&source, Scope::Environment);
        }
        for spec in &self.overrides {
            load.add(
                Scope::Program,
                Layer {
                    entries: vec![Entry {
                        name: spec.name.clone(),
                        settings: crate::settings::ServerSettings::default(),
                        spec: spec.clone(),
                        origin: Origin::of_program(),
                        shadowed: Vec::new(),
                        resolver: None,
                    }],
                    budget: BudgetSettings::default(),
                    credentials: None,
                    profiles: BTreeMap::new(),
                },
            );
        }
        let loaded = load.finish();
        let fatal = self.strict
            && loaded
                .problems
                .iter()
                .any(|problem| problem.severity >= Severity::Warning);
        if fatal {
            let problems = loaded
                .problems
                .into_iter()
                .filter(|problem| problem.severity >= Severity::Warning)
                .collect();
            return Err(Problems(problems).into_error());
        }
        Ok(loaded)
    }
}

/// One run of the loader.
struct Load<'a> {
    loader: &'a Loader,
    folders: Folders,
    problems: Vec<Problem>,
    sources: Vec<Arc<Source>>,
    documents: Vec<Document>,
    by_scope: HashMap<Scope, Layer>,
}

impl Load<'_> {
    fn add(&mut self, scope: Scope, layer: Layer) {
        let below = self.by_scope.remove(&scope).unwrap_or_default();
        self.by_scope.insert(scope, merge(below, layer));
    }

    fn input(&mut self, input: &Input) -> Result<()> {
        match &input.what {
            What::Text { name, text } => {
                let source = Source::new(name.as_str(), None, text);
                self.document(&source, input.scope);
                Ok(())
            }
            What::File { path, must_exist } => {
                let source = if *must_exist {
                    Some(read_file::read_named(path)?)
                } else {
                    read_file::read(path)?
                };
                if let Some(source) = source {
                    self.document(&source, input.scope);
                }
                Ok(())
            }
            What::Folder(folder) => {
                let files = hosts::config_files_in(folder).map_err(|error| {
                    Error::new(
                        ErrorKind::InvalidSpec,
                        format!(
                            "cannot read the configuration directory {}: {error}; check the path",
                            folder.display()
                        ),
                    )
                    .with_source(error)
                })?;
                for path in files {
                    if let Some(source) = read_file::read(&path)? {
                        self.document(&source, input.scope);
                    }
                }
                Ok(())
            }
        }
    }

    /// Parses and reads one document and lays its entries over those of its scope.
    fn document(&mut self, source: &Arc<Source>, scope: Scope) {
        self.sources.push(Arc::clone(source));
        if let Some(layer) = self.layer(source, scope, self.loader.dialect, None) {
            self.add(scope, layer);
        }
    }

    fn layer(
        &mut self,
        source: &Arc<Source>,
        scope: Scope,
        forced: Option<Dialect>,
        imported_by: Option<&Arc<Path>>,
    ) -> Option<Layer> {
        let format = source
            .path()
            .or_else(|| Some(Path::new(source.name())))
            .and_then(Format::of_path)
            .unwrap_or_else(|| Format::of_text(source.text()));
        let root = match document::parse(source, format) {
            Ok(root) => root,
            Err(problem) => {
                self.problems.push(*problem);
                return None;
            }
        };
        let dialect = forced.unwrap_or_else(|| dialects::recognise(source.path(), format, &root));
        tracing::debug!(file = source.name(), %dialect, format = format.as_str(), "configuration read");
        let workspace = directories::workspace(source, dialect, &self.folders);
        let mut reading = reader::read(source, &root, dialect, workspace.as_deref());
        self.problems.append(&mut reading.problems);
        let base = directories::base(source, dialect, workspace.as_deref());
        let inputs = std::mem::take(&mut reading.inputs);
        let workspace = workspace.unwrap_or_else(|| base.clone());
        let places = directories::places(source, dialect, &self.folders, &workspace);
        let home = Arc::new(Home::of(source, dialect, &base, &self.folders));
        let sources = self.variable_sources(&base, places, inputs);
        let imports = std::mem::take(&mut reading.imports);
        let start_in = directories::start_in(source, scope, &self.folders, &base);
        // Whose word it is that this is used: nobody's but the project's until somebody is asked.
        let project = match scope {
            Scope::Project => source.path().map(Arc::from),
            _ => imported_by.cloned(),
        };
        let consent = project
            .clone()
            .map_or_else(Consent::default, Consent::Wanted);
        self.documents.push(Document {
            source: Arc::clone(source),
            dialect,
            base: base.clone(),
            workspace,
            imported_by: imported_by.cloned(),
        });
        let mut entries = Vec::with_capacity(reading.entries.len());
        for mut read in reading.entries {
            read.origin.scope = scope;
            read.origin.imported_by = imported_by.cloned();
            if read.settings.enabled != Some(false) {
                self.warn_of_unset(dialect, &read);
            }
            match compile::spec(&read.name, &read.settings, &base) {
                Ok(spec) => {
                    let fields: Fields = read
                        .origin
                        .fields()
                        .map(|(name, span)| (name.to_owned(), span.clone()))
                        .collect();
                    let resolver = Arc::new(
                        Resolver::new(
                            Arc::clone(&sources),
                            Arc::new(fields),
                            base.clone(),
                            self.folders.home.clone(),
                        )
                        .with_defaults_known(dialect.rules().strict)
                        .with_home_of_file(Arc::clone(&home))
                        .with_masker(self.loader.masker.clone())
                        .with_env_file(read.settings.env_file.clone())
                        .with_headers_helper(read.settings.headers_helper.clone())
                        .with_start_in(start_in.clone())
                        .with_consent(consent.clone()),
                    );
                    entries.push(Entry {
                        name: spec.name.clone(),
                        settings: read.settings,
                        spec: spec
                            .with_resolver(Arc::<Resolver>::clone(&resolver))
                            .with_masker(self.loader.masker.clone()),
                        origin: read.origin,
                        shadowed: Vec::new(),
                        resolver: Some(resolver),
                    });
                }
                Err(error) => {
                    let mut problem = Problem::error("wrong-value", error.message().to_owned());
                    problem.server = Some(read.name);
                    problem.span = read.origin.span;
                    self.problems.push(problem);
                }
            }
        }
        if scope != Scope::Import {
            self.imports(imports, reading.import_order, project.as_ref());
        }
        if scope == Scope::Project && reading.credentials.is_some() {
            let problem = Problem::warning(
                "wrong-place",
                "`credentials` of a project's file is ignored: where tokens are kept is for the user to say",
            )
            .help("set it in your own file");
            self.problems
                .push(problem.at(Span::new(source, root.range.start..root.range.start)));
        }
        if scope == Scope::Project && !reading.profiles.is_empty() {
            let problem = Problem::warning(
                "wrong-place",
                "`profiles` of a project's file are ignored: what the key of a client allows is for the user to say",
            )
            .help("set them in your own file");
            self.problems
                .push(problem.at(Span::new(source, root.range.start..root.range.start)));
        }
        Some(Layer {
            entries,
            budget: reading.budget.unwrap_or_default(),
            // Where the user's tokens are kept is not for a project to say.
            credentials: reading.credentials.filter(|_| scope != Scope::Project),
            // What a key of the gateway allows is not for it to say either.
            profiles: match scope {
                Scope::Project => BTreeMap::new(),
                _ => reading.profiles,
            },
        })
    }

    /// Where the host makes no error of an unset variable, neither do we, but we say so.
    fn warn_of_unset(&mut self, dialect: Dialect, read: &reader::ReadEntry) {
        let places = dialect.rules().places;
        for optional in &read.optional {
            let name = optional.reference.name.as_str();
            let is_variable = matches!(optional.reference.scheme.as_deref(), None | Some("env"))
                && !PlaceSource::NAMES.contains(&name)
                && !places.iter().any(|(place, _)| *place == name);
            if is_variable && self.loader.environment.get(name).is_none() {
                let mut problem = Problem::warning(
                    "unset-variable",
                    format!(
                        "the variable {name:?} is not set; as in {}, {}",
                        dialect.title(),
                        optional.becomes,
                    ),
                )
                .at(optional.place.clone())
                .help("set it before connecting");
                problem.server = Some(read.name.clone());
                self.problems.push(problem);
            }
        }
    }

    fn variable_sources(
        &self,
        base: &Path,
        places: PlaceSource,
        inputs: HashMap<String, InputDeclaration>,
    ) -> Arc<[Arc<dyn VariableSource>]> {
        let mut sources = self.loader.sources.clone();
        sources.push(Arc::new(places));
        sources.push(Arc::new(self.loader.environment.clone()));
        sources.push(Arc::new(FileSource::new(base, self.folders.home.clone())));
        sources.push(Arc::new(InputSource::new(
            self.loader.provider.clone(),
            inputs,
        )));
        sources.into()
    }

    /// Reads the user-scope files of other hosts. What is wrong in them is a warning here: they
    /// are not ours to mend.
    fn imports(
        &mut self,
        imports: Vec<(Dialect, Span)>,
        order: ImportOrder,
        project: Option<&Arc<Path>>,
    ) {
        let mut merged = Layer::default();
        for (dialect, place) in imports {
            let mut found = false;
            let mut of_host = Layer::default();
            for path in hosts::user_files(dialect, &self.folders) {
                let source = match read_file::read(&path) {
                    Ok(Some(source)) => source,
                    Ok(None) => continue,
                    Err(error) => {
                        self.problems.push(
                            Problem::warning("import", error.message().to_owned())
                                .at(place.clone()),
                        );
                        continue;
                    }
                };
                found = true;
                self.sources.push(Arc::clone(&source));
                let before = self.problems.len();
                if let Some(layer) = self.layer(&source, Scope::Import, Some(dialect), project) {
                    of_host = merge(of_host, layer);
                }
                for problem in &mut self.problems[before..] {
                    problem.severity = problem.severity.min(Severity::Warning);
                }
            }
            if !found {
                self.problems.push(
                    Problem::note(
                        "import",
                        format!(
                            "nothing to import from {}: it has no file here",
                            dialect.title()
                        ),
                    )
                    .at(place),
                );
            }
            merged = match order {
                ImportOrder::FirstWins => merge(of_host, merged),
                ImportOrder::LastWins => merge(merged, of_host),
            };
        }
        merged.budget = BudgetSettings::default();
        merged.credentials = None;
        merged.profiles = BTreeMap::new();
        self.add(Scope::Import, merged);
    }

    fn finish(mut self) -> Loaded {
        let mut scopes: Vec<Scope> = self.by_scope.keys().copied().collect();
        scopes.sort();
        let merged = scopes.iter().fold(Layer::default(), |below, scope| {
            merge(below, self.by_scope.remove(scope).unwrap_or_default())
        });
        Loaded::new(merged, self.problems, self.sources, self.documents)
    }
}
