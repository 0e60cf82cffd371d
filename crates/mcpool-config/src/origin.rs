//! Where an entry and each of its fields come from.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use crate::{dialects::Dialect, source::Span};

/// The places of an entry's fields: `command`, `args[0]`, `env.TOKEN`, `headers.Accept` …
pub(crate) type Fields = BTreeMap<String, Span>;

/// Whose word an entry is. Later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// Another host's file, named in `imports`.
    Import,
    /// The user's own file.
    User,
    /// A file of the project, which comes with the project's source and may be anybody's.
    Project,
    /// A file that the user named, as with `--config`.
    Named,
    /// An environment variable.
    Environment,
    /// The program itself.
    Program,
}

impl Scope {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::User => "user",
            Self::Project => "project",
            Self::Named => "named",
            Self::Environment => "environment",
            Self::Program => "program",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an entry comes from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Origin {
    /// Whose word it is.
    pub scope: Scope,
    /// How its file is written; `None` for the program's own entries.
    pub dialect: Option<Dialect>,
    /// The place of its name; `None` for the program's own entries.
    pub span: Option<Span>,
    /// The file of the project whose `imports` brought it; `None` when it came by itself, or the
    /// user's own file brought it.
    pub imported_by: Option<Arc<Path>>,
    fields: Fields,
}

impl Origin {
    pub(crate) fn in_file(dialect: Dialect, span: Span, fields: Fields) -> Self {
        Self {
            scope: Scope::Named,
            dialect: Some(dialect),
            span: Some(span),
            imported_by: None,
            fields,
        }
    }

    pub(crate) fn of_program() -> Self {
        Self {
            scope: Scope::Program,
            dialect: None,
            span: None,
            imported_by: None,
            fields: Fields::new(),
        }
    }

    /// The file, when it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.span.as_ref()?.source().path()
    }

    /// The file of the project that wants it used: its own, or the one whose `imports` brought it.
    /// `None` for what is the user's own word.
    #[must_use]
    pub fn project_file(&self) -> Option<&Path> {
        match self.scope {
            Scope::Project => self.path(),
            _ => self.imported_by.as_deref(),
        }
    }

    /// The place of a field: `command`, `args[0]`, `env.TOKEN`, `headers.Accept`, `reconnect` …
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Span> {
        self.fields.get(name)
    }

    /// All fields and their places.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Span)> {
        self.fields.iter().map(|(name, span)| (name.as_str(), span))
    }
}

/// The place, or the scope when there is none.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.span {
            Some(span) => write!(f, "{span}"),
            None => write!(f, "{}", self.scope),
        }
    }
}
