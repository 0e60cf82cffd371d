//! Where values come from.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use mcpool_core::{Error, ErrorKind, Result, Secret};
use tokio::sync::OnceCell;

use crate::{inputs::InputDeclaration, template::Reference};

/// Gives values for placeholders. The seam for secret stores: a source of one's own is asked
/// before the built-in ones, for every reference, and says `None` to what is not its business.
///
/// ```
/// use mcpool_config::{Reference, VariableSource};
/// use mcpool_core::{Result, Secret};
///
/// /// `${vault:name}`
/// #[derive(Debug)]
/// struct Vault;
///
/// #[async_trait::async_trait]
/// impl VariableSource for Vault {
///     fn name(&self) -> &str { "vault" }
///     fn schemes(&self) -> &[&str] { &["vault"] }
///     async fn lookup(&self, reference: &Reference) -> Result<Option<Secret>> {
///         if reference.scheme.as_deref() != Some("vault") {
///             return Ok(None);
///         }
///         Ok(Some(Secret::new("from the vault")))
///     }
/// }
/// ```
#[async_trait]
pub trait VariableSource: Send + Sync + fmt::Debug {
    /// Its name in the provenance of a value.
    fn name(&self) -> &str;

    /// The schemes that it answers to, for error messages. Default: none.
    fn schemes(&self) -> &[&str] {
        &[]
    }

    #[doc(hidden)]
    fn is_built_in(&self) -> bool {
        false
    }

    /// The value without waiting, from a built-in source; `None` from any other. Blocks on the
    /// file system.
    #[doc(hidden)]
    fn now(&self, _reference: &Reference) -> Option<Secret> {
        None
    }

    /// What the configuration itself has for a person who gives no answer.
    #[doc(hidden)]
    fn fallback(&self, _reference: &Reference) -> Option<&str> {
        None
    }

    /// Whether a lookup may give something, as far as that is known without asking a person or
    /// a store.
    #[doc(hidden)]
    fn may_give(&self, reference: &Reference) -> bool {
        let scheme = reference.scheme.as_deref();
        scheme.is_some_and(|scheme| self.schemes().contains(&scheme))
    }

    /// The value; `None` when it is not set, or not this source's business.
    ///
    /// # Errors
    /// When the source itself fails. The message must not hold a secret.
    async fn lookup(&self, reference: &Reference) -> Result<Option<Secret>>;
}

/// Environment variables: `${V}` and `${env:V}`. The process's own, read at each lookup, or a
/// given set.
#[derive(Clone, Default)]
pub struct EnvironmentSource {
    fixed: Option<Arc<HashMap<String, Secret>>>,
}

impl fmt::Debug for EnvironmentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvironmentSource")
    }
}

impl EnvironmentSource {
    /// The process's own environment.
    #[must_use]
    pub fn process() -> Self {
        Self::default()
    }

    /// These variables and no others.
    #[must_use]
    pub fn fixed<N: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self {
            fixed: Some(Arc::new(
                variables
                    .into_iter()
                    .map(|(name, value)| (name.into(), Secret::new(value)))
                    .collect(),
            )),
        }
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<Secret> {
        match &self.fixed {
            Some(variables) => variables.get(name).cloned(),
            // `var_os` panics on no name that a template can hold: the parser lets no `=` and
            // no NUL through for plain names, and both are refused here for the rest.
            None if name.is_empty() || name.contains(['=', '\0']) => None,
            None => std::env::var_os(name)
                .map(OsString::into_string)
                .and_then(std::result::Result::ok)
                .map(Secret::new),
        }
    }
}

#[async_trait]
impl VariableSource for EnvironmentSource {
    fn name(&self) -> &'static str {
        "environment"
    }

    fn is_built_in(&self) -> bool {
        true
    }

    fn schemes(&self) -> &[&str] {
        &["env"]
    }

    fn now(&self, reference: &Reference) -> Option<Secret> {
        match reference.scheme.as_deref() {
            None | Some("env") => self.get(&reference.name),
            Some(_) => None,
        }
    }

    async fn lookup(&self, reference: &Reference) -> Result<Option<Secret>> {
        Ok(self.now(reference))
    }
}

/// Files: `${file:path}`, the text without the line end at its end. Regular files only, at most
/// 1 MiB.
#[derive(Debug, Clone)]
pub struct FileSource {
    base: PathBuf,
    home: Option<PathBuf>,
}

/// How large a `${file:…}` may be.
const FILE_LIMIT: u64 = 1024 * 1024;

impl FileSource {
    /// Relative paths begin at `base`, `~` is `home`.
    #[must_use]
    pub fn new(base: impl Into<PathBuf>, home: Option<PathBuf>) -> Self {
        Self {
            base: base.into(),
            home,
        }
    }

    /// The file that a reference means; `None` when it means none.
    fn path(&self, reference: &Reference) -> Option<PathBuf> {
        let is_file = reference.scheme.as_deref() == Some("file");
        let path = PathBuf::from(&reference.name);
        is_file.then(|| super::anchor(path, &self.base, self.home.as_deref()))
    }

    fn read(path: &Path) -> Result<Option<Secret>> {
        let fail = |reason: String| {
            Error::new(
                ErrorKind::Unresolved,
                format!("the file {} cannot be read: {reason}", path.display()),
            )
        };
        let text = match mcpool_files::read_regular(path, FILE_LIMIT) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error.to_string())),
        };
        let text = String::from_utf8(text).map_err(|_| fail("it is not UTF-8".to_owned()))?;
        let text = text
            .trim_start_matches('\u{feff}')
            .trim_end_matches(['\n', '\r']);
        Ok(Some(Secret::new(text)))
    }
}

#[async_trait]
impl VariableSource for FileSource {
    fn name(&self) -> &'static str {
        "file"
    }

    fn is_built_in(&self) -> bool {
        true
    }

    fn schemes(&self) -> &[&str] {
        &["file"]
    }

    fn now(&self, reference: &Reference) -> Option<Secret> {
        Self::read(&self.path(reference)?).ok().flatten()
    }

    async fn lookup(&self, reference: &Reference) -> Result<Option<Secret>> {
        let Some(path) = self.path(reference) else {
            return Ok(None);
        };
        tokio::task::spawn_blocking(move || Self::read(&path))
            .await
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "reading a file was cancelled").with_source(error)
            })?
    }
}

/// The places that editors name: `${userHome}`, `${workspaceFolder}`,
/// `${workspaceFolderBasename}`, `${pathSeparator}` and `${/}`.
#[derive(Debug, Clone)]
pub struct PlaceSource {
    home: Option<PathBuf>,
    workspace: Option<PathBuf>,
    others: Vec<(String, PathBuf)>,
}

impl PlaceSource {
    /// The words that name places.
    pub const NAMES: &[&str] = &[
        "/",
        "pathSeparator",
        "userHome",
        "workspaceFolder",
        "workspaceFolderBasename",
        "workspaceRoot",
    ];

    /// These places.
    #[must_use]
    pub fn new(home: Option<PathBuf>, workspace: Option<PathBuf>) -> Self {
        Self {
            home,
            workspace,
            others: Vec::new(),
        }
    }

    /// Adds a place of a host's own, such as `CLAUDE_PLUGIN_ROOT`.
    #[must_use]
    pub fn with_place(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.others.push((name.into(), path.into()));
        self
    }
}

#[async_trait]
impl VariableSource for PlaceSource {
    fn name(&self) -> &'static str {
        "place"
    }

    fn is_built_in(&self) -> bool {
        true
    }

    fn now(&self, reference: &Reference) -> Option<Secret> {
        let text = |path: &Path| Secret::new(path.to_string_lossy());
        match reference.scheme.as_deref() {
            None => {}
            // One of several folders in the editor: there is one here.
            Some("workspaceFolder") => return self.workspace.as_deref().map(text),
            Some(_) => return None,
        }
        let other = self.others.iter().find(|(name, _)| *name == reference.name);
        if let Some((_, path)) = other {
            return Some(text(path));
        }
        match reference.name.as_str() {
            "userHome" => self.home.as_deref().map(text),
            "workspaceFolder" | "workspaceRoot" => self.workspace.as_deref().map(text),
            "workspaceFolderBasename" => self
                .workspace
                .as_deref()
                .and_then(Path::file_name)
                .map(|name| Secret::new(name.to_string_lossy())),
            "/" | "pathSeparator" => Some(Secret::new(std::path::MAIN_SEPARATOR_STR)),
            _ => None,
        }
    }

    async fn lookup(&self, reference: &Reference) -> Result<Option<Secret>> {
        Ok(self.now(reference))
    }
}

/// Asks a person for the value of `${input:id}`.
#[async_trait]
pub trait InputProvider: Send + Sync + fmt::Debug {
    /// The answer; `None` when the person gives none.
    ///
    /// # Errors
    /// When nobody can be asked.
    async fn ask(&self, id: &str, declaration: &InputDeclaration) -> Result<Option<Secret>>;
}

/// `${input:id}`: asks once for each identifier and remembers the answer for as long as the
/// configuration is loaded.
pub struct InputSource {
    provider: Option<Arc<dyn InputProvider>>,
    declarations: Arc<HashMap<String, InputDeclaration>>,
    answers: Mutex<HashMap<String, Arc<OnceCell<Secret>>>>,
}

impl fmt::Debug for InputSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputSource")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl InputSource {
    /// Asks this provider; without one, an input has the value of its default, or none.
    #[must_use]
    pub fn new(
        provider: Option<Arc<dyn InputProvider>>,
        declarations: impl Into<Arc<HashMap<String, InputDeclaration>>>,
    ) -> Self {
        Self {
            provider,
            declarations: declarations.into(),
            answers: Mutex::default(),
        }
    }
}

#[async_trait]
impl VariableSource for InputSource {
    fn name(&self) -> &'static str {
        "input"
    }

    fn schemes(&self) -> &[&str] {
        &["input"]
    }

    fn fallback(&self, reference: &Reference) -> Option<&str> {
        let declaration = self.declarations.get(&reference.name);
        let is_input = reference.scheme.as_deref() == Some("input");
        declaration.filter(|_| is_input)?.default.as_deref()
    }

    fn may_give(&self, reference: &Reference) -> bool {
        let is_input = reference.scheme.as_deref() == Some("input");
        is_input && (self.provider.is_some() || self.fallback(reference).is_some())
    }

    async fn lookup(&self, reference: &Reference) -> Result<Option<Secret>> {
        if reference.scheme.as_deref() != Some("input") {
            return Ok(None);
        }
        let default = || self.fallback(reference).map(Secret::new);
        let Some(provider) = &self.provider else {
            return Ok(default());
        };
        let id = &reference.name;
        let declaration = self.declarations.get(id).cloned().unwrap_or_default();
        let cell = {
            // Held for a lookup in a map only, never while a person is asked.
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(answers.entry(id.clone()).or_default())
        };
        // That there was no answer is not remembered.
        let answer = cell.get_or_try_init(|| async {
            match provider.ask(id, &declaration).await {
                Ok(answer) => answer.ok_or(None),
                Err(error) => Err(Some(error)),
            }
        });
        match answer.await {
            Ok(answer) => Ok(Some(answer.clone())),
            Err(None) => Ok(default()),
            Err(Some(error)) => Err(error),
        }
    }
}
