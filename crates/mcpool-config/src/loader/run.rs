//! One run of a loader: every document is read, and the layers are laid over each other.

use std::{collections::HashMap, path::Path, sync::Arc};

use mcpool_core::{Error, ErrorKind, Result};

use super::{Document, Input, Loaded, Loader, What, directories, read_file};
use crate::{
    compile,
    dialects::{self, Dialect},
    document::{self, Format},
    expand::{Consent, FileSource, InputSource, PlaceSource, Resolver, VariableSource},
    home::Home,
    hosts::{self, Folders},
    inputs::InputDeclaration,
    merge::{Entry, Layer, merge},
    origin::{Fields, Origin, Scope},
    problem::{Problem, Severity},
    reader,
    settings::{ImportOrder, PoolSettings},
    source::{Source, Span},
};

/// Reads everything that a loader names.
///
/// # Errors
/// When a named file cannot be read.
pub(super) fn run(loader: &Loader) -> Result<Loaded> {
    let folders = loader.folders.clone().unwrap_or_else(Folders::of_process);
    let mut load = Load {
        loader,
        folders,
        problems: Vec::new(),
        sources: Vec::new(),
        documents: Vec::new(),
        by_scope: HashMap::new(),
        profiles: Vec::new(),
    };
    for input in &loader.inputs {
        load.input(input)?;
    }
    if let Some(variable) = &loader.environment_layer
        && let Some(text) = loader.environment.get(variable)
    {
        let source = Source::new(format!("${variable}"), None, text.expose());
        load.document(&source, Scope::Environment);
    }
    for spec in &loader.overrides {
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
                pool: PoolSettings::default(),
            },
        );
    }
    Ok(load.finish())
}

/// One run of the loader.
struct Load<'a> {
    loader: &'a Loader,
    folders: Folders,
    problems: Vec<Problem>,
    sources: Vec<Arc<Source>>,
    documents: Vec<Document>,
    by_scope: HashMap<Scope, Layer>,
    /// What the profiles name that are the user's own.
    profiles: Vec<reader::Named>,
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
                    Some(read_file::read_named(path, self.loader.refuses_pipes)?)
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
        let inputs = Arc::new(std::mem::take(&mut reading.inputs));
        let workspace = workspace.unwrap_or_else(|| base.clone());
        let places = directories::places(source, dialect, &self.folders, &workspace);
        let home = Home::of(source, dialect, &base, &self.folders);
        let home = Arc::new(home.with_inputs(Arc::clone(&inputs)));
        let sources = self.variable_sources(&base, places, Arc::clone(&inputs));
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
            inputs,
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
        if !matches!(scope, Scope::Project | Scope::Import) {
            self.profiles.append(&mut reading.profiles);
        }
        if scope == Scope::Project {
            for (field, reason) in reading.pool.take_what_is_the_users() {
                let message = format!("`{field}` of a project's file is ignored: {reason}");
                let start = root.range.start;
                self.problems.push(
                    Problem::warning("wrong-place", message)
                        .help("set it in your own file")
                        .at(Span::new(source, start..start)),
                );
            }
        }
        Some(Layer {
            entries,
            pool: reading.pool,
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
        inputs: Arc<HashMap<String, InputDeclaration>>,
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
        merged.pool = PoolSettings::default();
        self.add(Scope::Import, merged);
    }

    fn finish(mut self) -> Loaded {
        let mut scopes: Vec<Scope> = self.by_scope.keys().copied().collect();
        scopes.sort();
        let merged = scopes.iter().fold(Layer::default(), |below, scope| {
            merge(below, self.by_scope.remove(scope).unwrap_or_default())
        });
        // One that has an error is spoken of already.
        let spoilt: Vec<String> = self
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .filter_map(|problem| problem.server.clone())
            .collect();
        let names = merged.entries.iter().map(|entry| entry.name.as_str());
        let known: Vec<&str> = names.chain(spoilt.iter().map(String::as_str)).collect();
        for named in &self.profiles {
            self.problems.extend(named.problems(&known));
        }
        Loaded::new(merged, self.problems, self.sources, self.documents)
    }
}
