//! Loading: files in, specs and problems out.

mod directories;
mod loaded;
mod read_file;
mod run;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mcpool_core::{Masker, Result, ServerSpec};

pub(crate) use loaded::Document;
pub use loaded::Loaded;
#[cfg(feature = "edit")]
pub(crate) use read_file::MAX_BYTES;

use crate::{
    dialects::Dialect,
    expand::{EnvironmentSource, InputProvider, VariableSource},
    hosts::Folders,
    origin::Scope,
    problem::Severity,
    problems::Problems,
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
    refuses_pipes: bool,
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

    /// Refuses pipes, sockets and devices in place of named files: a file that is read again and
    /// again must not be waited for.
    #[cfg(feature = "watch")]
    pub(crate) fn refusing_pipes(mut self) -> Self {
        self.refuses_pipes = true;
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
    /// whole and becomes a problem that [spoils the file](crate::Problem::spoils_file).
    ///
    /// # Errors
    /// [`InvalidSpec`](mcpool_core::ErrorKind::InvalidSpec) when a named file cannot be read, or with
    /// [`strict`](Loader::strict) when there is any warning or error. [`Problems`] is then the
    /// error's source.
    pub fn load(&self) -> Result<Loaded> {
        let loaded = run::run(self)?;
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
