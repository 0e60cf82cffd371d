//! Filling in `${…}` when a server is connected: the sources of values, and the resolver that
//! asks them.

mod consent;
mod env_file;
mod fields;
mod headers_helper;
mod mask;
mod sources;

use std::{
    collections::BTreeSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use mcpool_core::{
    Error, ErrorKind, Masker, Result, Secret, ServerSpec, SpecResolver, TransportSpec,
};

pub(crate) use consent::{Bound, BoundPath, Consent, Digest, Pins, decides_code};
pub use sources::{
    EnvironmentSource, FileSource, InputProvider, InputSource, PlaceSource, VariableSource,
};

use crate::{
    expand::fields::Work,
    home::Home,
    origin::Fields,
    template::{Known, Reference},
};

/// Fills in the placeholders of one entry. Attached to each loaded [`ServerSpec`].
///
/// It keeps no expanded value: each call asks the sources again. The masker that is given the
/// values keeps them, so that they can be taken out of errors and logs.
#[derive(Clone)]
pub struct Resolver {
    sources: Arc<[Arc<dyn VariableSource>]>,
    fields: Arc<Fields>,
    base: PathBuf,
    home: Option<PathBuf>,
    env_file: Option<String>,
    headers_helper: Option<String>,
    /// Whether the file's placeholders may have defaults, for advice.
    defaults_known: bool,
    start_in: Option<PathBuf>,
    consent: Consent,
    /// What the file gives by where it lies, for copies of the entry elsewhere.
    home_of_file: Arc<Home>,
    masker: Masker,
}

/// Which source gave a part of a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Provenance {
    /// The field: `command`, `args[0]`, `env.TOKEN`, `url`, `headers.Authorization` …
    pub field: String,
    /// What was asked for; `None` for a default, and for what a file of variables or a helper
    /// gave as a whole.
    pub reference: Option<Reference>,
    /// The name of the source: `environment`, `file`, `input`, `default`, `env_file` …
    pub source: String,
}

/// What to do about an input that has no value.
pub(crate) const INPUT_ADVICE: &str =
    "use a variable (`${env:NAME}`), or give the input a `default`";

/// A variable that is not set.
pub(crate) struct Missing {
    pub(crate) reference: Reference,
    pub(crate) field: String,
    pub(crate) span: Option<crate::source::Span>,
}

/// A spec with every placeholder filled in, and where the values came from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resolution {
    /// The spec.
    pub spec: ServerSpec,
    /// The sources, by field.
    pub provenance: Vec<Provenance>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn new(
        sources: Arc<[Arc<dyn VariableSource>]>,
        fields: Arc<Fields>,
        base: PathBuf,
        home: Option<PathBuf>,
    ) -> Self {
        Self {
            sources,
            fields,
            base,
            home,
            env_file: None,
            headers_helper: None,
            defaults_known: true,
            start_in: None,
            consent: Consent::default(),
            home_of_file: Arc::default(),
            masker: Masker::new(),
        }
    }

    pub(crate) fn with_home_of_file(mut self, home: Arc<Home>) -> Self {
        self.home_of_file = home;
        self
    }

    pub(crate) fn home_of_file(&self) -> &Home {
        &self.home_of_file
    }

    /// What is given each value that is filled in.
    pub(crate) fn with_masker(mut self, masker: Masker) -> Self {
        self.masker = masker;
        self
    }

    pub(crate) fn with_defaults_known(mut self, known: bool) -> Self {
        self.defaults_known = known;
        self
    }

    /// Whether advice may speak of `${NAME:-default}`: not in a host's file that has no such.
    pub(crate) fn defaults_known(&self) -> bool {
        self.defaults_known
    }

    /// Where a process starts whose entry names no directory.
    pub(crate) fn with_start_in(mut self, directory: PathBuf) -> Self {
        self.start_in = Some(directory);
        self
    }

    pub(crate) fn with_consent(mut self, consent: Consent) -> Self {
        self.consent = consent;
        self
    }

    pub(crate) fn start_in(&self) -> Option<&Path> {
        self.start_in.as_deref()
    }

    pub(crate) fn with_env_file(mut self, file: Option<String>) -> Self {
        self.env_file = file;
        self
    }

    pub(crate) fn with_headers_helper(mut self, helper: Option<String>) -> Self {
        self.headers_helper = helper;
        self
    }

    /// As [`SpecResolver::resolve`], and says which source gave each value.
    ///
    /// # Errors
    /// [`Unresolved`](ErrorKind::Unresolved) that names all missing variables, each with the
    /// field and its place. [`InvalidSpec`](ErrorKind::InvalidSpec) for an entry of a project's
    /// file that nobody has approved, or when a file that decides what runs has changed since: see
    /// [`TrustStore`](crate::TrustStore).
    pub async fn resolve_with_provenance(&self, spec: &ServerSpec) -> Result<Resolution> {
        self.consent.check()?;
        let work = Work::collect(spec, self.env_file.as_deref());
        let known = self.gather(&work).await?;
        mask::note_values(&self.masker, &work, &known);
        let mut provenance = Vec::new();
        let mut missing: Vec<(Reference, String)> = Vec::new();
        let mut values = Vec::with_capacity(work.fields.len());
        let mut empty_headers = Vec::new();
        for (field, template) in &work.fields {
            let expansion = template.expand(&known.values);
            if let Some(header) = field.strip_prefix("headers.")
                && !template.is_literal()
                && !expansion.given
            {
                empty_headers.push(header.to_owned());
            }
            for reference in expansion.used {
                let source = known.source_of(&reference).unwrap_or("unknown").to_owned();
                provenance.push(Provenance {
                    field: field.clone(),
                    reference: Some(reference),
                    source,
                });
            }
            if expansion.defaulted {
                provenance.push(Provenance {
                    field: field.clone(),
                    reference: None,
                    source: "default".to_owned(),
                });
            }
            for (reference, _) in expansion.missing {
                missing.push((reference, field.clone()));
            }
            values.push(expansion.text);
        }
        if !missing.is_empty() {
            return Err(self.unresolved(&missing));
        }
        self.make_data_folders(&provenance).await?;
        let mut spec = work.apply(spec, values, |path| self.anchor(path));
        leave_out(&mut spec.0, &empty_headers);
        if let Some(pins) = self.consent.pins() {
            let place = match &spec.0.transport {
                TransportSpec::Stdio(stdio) => stdio.cwd.as_deref(),
                TransportSpec::Http(http)
                | TransportSpec::Sse(http)
                | TransportSpec::Auto(http) => http.ca_file.as_deref(),
                _ => None,
            };
            if let Some(place) = place {
                pins.check_target(place).await?;
            }
        }
        if let TransportSpec::Stdio(stdio) = &mut spec.0.transport
            && stdio.cwd.is_none()
        {
            stdio.cwd.clone_from(&self.start_in);
        }
        self.add_env_file(&mut spec.0, spec.1, &mut provenance)
            .await?;
        self.add_helper_headers(&mut spec.0, &mut provenance)
            .await?;
        let mut spec = spec.0;
        mask::note_spec(&self.masker, &spec);
        spec.resolver = None;
        Ok(Resolution { spec, provenance })
    }

    /// Makes the folders for a plugin's data that the entry was given.
    async fn make_data_folders(&self, provenance: &[Provenance]) -> Result<()> {
        for (name, folder) in &self.home_of_file.data {
            let is_used = provenance.iter().any(|used| {
                let reference = used.reference.as_ref();
                reference.is_some_and(|used| used.scheme.is_none() && used.name == *name)
            });
            if is_used {
                tokio::fs::create_dir_all(folder).await.map_err(|error| {
                    let message = format!("cannot make {}: {error}", folder.display());
                    Error::new(ErrorKind::Unresolved, message).with_source(error)
                })?;
            }
        }
        Ok(())
    }

    /// What could not be filled in now, without asking a person, a downstream source or a helper.
    pub(crate) async fn missing(&self, spec: &ServerSpec) -> Vec<Missing> {
        let work = Work::collect(spec, self.env_file.as_deref());
        let mut known = Known::new();
        loop {
            let mut needed: BTreeSet<Reference> = BTreeSet::new();
            for (_, template) in &work.fields {
                needed.extend(template.expand(&known).needed);
            }
            if needed.is_empty() {
                break;
            }
            for reference in needed {
                let ours = matches!(reference.scheme.as_deref(), None | Some("env" | "file"));
                let is_input = reference.scheme.as_deref() == Some("input");
                let is_given = !ours && (!is_input || self.may_give(&reference));
                let mut value = is_given.then(|| Secret::new(""));
                for source in self
                    .sources
                    .iter()
                    .filter(|source| ours && source.is_built_in())
                {
                    if value.is_none() {
                        value = source.lookup(&reference).await.ok().flatten();
                    }
                }
                known.insert(reference, value);
            }
        }
        work.fields
            .iter()
            .flat_map(|(field, template)| {
                template
                    .expand(&known)
                    .missing
                    .into_iter()
                    .map(|(reference, _)| Missing {
                        reference,
                        field: field.clone(),
                        span: self.fields.get(field).cloned(),
                    })
            })
            .collect()
    }

    /// Whether a source may have a value for this.
    fn may_give(&self, reference: &Reference) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|source| source.may_give(reference))
    }

    /// Asks the sources for what is needed. A default that is not needed is not asked for: each
    /// round finds at least one new reference, so the rounds are bounded by their number.
    async fn gather(&self, work: &Work) -> Result<Gathered> {
        let mut gathered = Gathered::default();
        loop {
            let mut needed: BTreeSet<Reference> = BTreeSet::new();
            for (_, template) in &work.fields {
                needed.extend(template.expand(&gathered.values).needed);
            }
            if needed.is_empty() {
                return Ok(gathered);
            }
            for reference in needed {
                let found = self.lookup(&reference).await.map_err(|error| {
                    let field = work.first_field_with(&reference).unwrap_or("a field");
                    let place = self.place_of(field);
                    let message = format!(
                        "cannot resolve ${{{reference}}} in {field}{place}: {}",
                        error.message()
                    );
                    error.wrap(ErrorKind::Unresolved, message)
                })?;
                let value = found.map(|(value, source)| {
                    let name = source.name().to_owned();
                    gathered.sources.push((reference.clone(), name));
                    (value, source.is_built_in())
                });
                // What a source of the application's own gives is the application's word.
                let is_ours = value.as_ref().is_none_or(|(_, built_in)| *built_in);
                let value = value.map(|(value, _)| value);
                if let Some(pins) = self.consent.pins()
                    && is_ours
                    && reference.scheme.as_deref() == Some("file")
                {
                    let path = self.anchor(PathBuf::from(&reference.name));
                    pins.check_target(&path).await?;
                    if pins.holds(&reference) || work.decides_with(&reference) {
                        pins.check_value(&reference, value.as_ref())?;
                    }
                }
                gathered.values.insert(reference, value);
            }
        }
    }

    async fn lookup(&self, reference: &Reference) -> Result<Option<(Secret, &dyn VariableSource)>> {
        for source in self.sources.iter() {
            if let Some(value) = source.lookup(reference).await? {
                return Ok(Some((value, source.as_ref())));
            }
        }
        if let Some(scheme) = &reference.scheme {
            let known: Vec<&str> = self
                .sources
                .iter()
                .flat_map(|source| source.schemes())
                .copied()
                .collect();
            if !known.contains(&scheme.as_str()) {
                let hint = match crate::problem::nearest(scheme, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}:`?"),
                    None => format!("known: {}", known.join(", ")),
                };
                return Err(Error::new(
                    ErrorKind::Unresolved,
                    format!("nothing knows the scheme `{scheme}:`; {hint}"),
                ));
            }
        }
        Ok(None)
    }

    fn place_of(&self, field: &str) -> String {
        self.fields
            .get(field)
            .map(|span| format!(" ({span})"))
            .unwrap_or_default()
    }

    /// One error for all that has no value.
    fn unresolved(&self, missing: &[(Reference, String)]) -> Error {
        let mut inputs: Vec<&Reference> = Vec::new();
        let mut variables: Vec<&Reference> = Vec::new();
        for (reference, _) in missing {
            let names = match reference.scheme.as_deref() {
                Some("input") => &mut inputs,
                _ => &mut variables,
            };
            if !names.contains(&reference) {
                names.push(reference);
            }
        }
        let list = |names: &[&Reference]| {
            let with_places = names.iter().map(|name| {
                let places: Vec<String> = missing
                    .iter()
                    .filter(|(reference, _)| reference == *name)
                    .map(|(_, field)| format!("{field}{}", self.place_of(field)))
                    .collect();
                format!("${{{name}}} in {}", places.join(" and "))
            });
            with_places.collect::<Vec<_>>().join(", ")
        };
        let mut messages = Vec::new();
        if let Some(first) = variables.first() {
            let (what, them) = match variables.len() {
                1 => ("a variable is not set", "it"),
                _ => ("variables are not set", "them"),
            };
            let advice = match self.defaults_known {
                true => format!(", or give a default as in ${{{first}:-default}}"),
                false => String::new(),
            };
            let variables = list(&variables);
            messages.push(format!("{what}: {variables}; set {them}{advice}"));
        }
        if let Some(first) = inputs.first() {
            let why = match self.may_give(first) {
                true => "no answer was given for",
                false => "nobody can be asked here for",
            };
            let inputs = list(&inputs);
            messages.push(format!("{why} {inputs}; {INPUT_ADVICE}"));
        }
        Error::new(ErrorKind::Unresolved, messages.join("; "))
    }

    /// `~` and relative paths, once their placeholders are filled in.
    fn anchor(&self, path: PathBuf) -> PathBuf {
        anchor(path, &self.base, self.home.as_deref())
    }

    async fn add_env_file(
        &self,
        spec: &mut ServerSpec,
        file: Option<String>,
        provenance: &mut Vec<Provenance>,
    ) -> Result<()> {
        let (Some(file), TransportSpec::Stdio(stdio)) = (file, &mut spec.transport) else {
            return Ok(());
        };
        let path = self.anchor(PathBuf::from(file));
        // As it was written: what fills a placeholder of the path may be a secret.
        let written = self.env_file.clone().unwrap_or_default();
        let place = self.place_of("env_file");
        let fail = |reason: String| {
            Error::new(
                ErrorKind::Unresolved,
                format!("cannot read the file of variables {written}{place}: {reason}"),
            )
        };
        let file = path.clone();
        let bytes = tokio::task::spawn_blocking(move || env_file::read(&file))
            .await
            .map_err(|error| fail("the reading was cancelled".to_owned()).with_source(error))?
            .map_err(|error| fail(error.to_string()))?;
        if let Some(pins) = self.consent.pins() {
            pins.check_target(&path).await?;
            pins.check_env_file(&written, &path, &bytes)?;
        }
        for (name, value) in env_file::parse(&bytes).map_err(fail)? {
            // `env` wins over the file.
            if let std::collections::btree_map::Entry::Vacant(place) = stdio.env.entry(name) {
                provenance.push(Provenance {
                    field: format!("env.{}", place.key()),
                    reference: None,
                    source: "env_file".to_owned(),
                });
                place.insert(value);
            }
        }
        Ok(())
    }

    async fn add_helper_headers(
        &self,
        spec: &mut ServerSpec,
        provenance: &mut Vec<Provenance>,
    ) -> Result<()> {
        let Some(helper) = &self.headers_helper else {
            return Ok(());
        };
        let http = match &mut spec.transport {
            TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
                http
            }
            _ => return Ok(()),
        };
        for (name, value) in headers_helper::run(helper, &self.base).await? {
            provenance.push(Provenance {
                field: format!("headers.{name}"),
                reference: None,
                source: "headers_helper".to_owned(),
            });
            http.headers
                .retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            http.headers.push((name, value));
        }
        Ok(())
    }
}

/// Leaves out the headers whose placeholders gave nothing: an optional token that is not set is
/// no header, rather than an empty one.
fn leave_out(spec: &mut ServerSpec, names: &[String]) {
    if let TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) =
        &mut spec.transport
    {
        http.headers.retain(|(name, _)| !names.contains(name));
    }
}

fn anchor(path: PathBuf, base: &Path, home: Option<&Path>) -> PathBuf {
    if let (Ok(rest), Some(home)) = (path.strip_prefix("~"), home) {
        return home.join(rest);
    }
    if path.is_relative() {
        base.join(path)
    } else {
        path
    }
}

#[async_trait]
impl SpecResolver for Resolver {
    async fn resolve(&self, spec: &ServerSpec) -> Result<ServerSpec> {
        let resolution = self.resolve_with_provenance(spec).await?;
        for Provenance { field, source, .. } in &resolution.provenance {
            tracing::trace!(server = %spec.name, field, source, "value resolved");
        }
        Ok(resolution.spec)
    }

    /// What it adds beyond the spec's own text: the file of variables, the helper, the directory,
    /// and the contents that were approved.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        if self.env_file.is_some() || self.headers_helper.is_some() {
            (&self.env_file, &self.headers_helper, &self.base).hash(&mut hasher);
        }
        self.start_in.hash(&mut hasher);
        self.consent.hash(&mut hasher);
        hasher.finish()
    }
}

/// The answers of the sources.
#[derive(Default)]
struct Gathered {
    values: Known,
    sources: Vec<(Reference, String)>,
}

impl Gathered {
    fn source_of(&self, reference: &Reference) -> Option<&str> {
        self.sources
            .iter()
            .find(|(known, _)| known == reference)
            .map(|(_, source)| source.as_str())
    }
}
