//! A document as a tree in which every key and value knows its place, whatever its syntax.

mod json;
#[cfg(feature = "toml")]
mod toml;
#[cfg(feature = "yaml")]
mod yaml;

use std::{ops::Range, path::Path, sync::Arc};

#[cfg(feature = "edit")]
pub(crate) use json::options as jsonc_options;

use crate::{
    problem::Problem,
    source::{Source, Span},
};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JSON, with comments and trailing commas allowed.
    Json,
    /// TOML 1.1.
    Toml,
    /// YAML 1.2.
    Yaml,
}

impl Format {
    /// The format that a file's name promises.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "json" | "jsonc" | "json5" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }

    /// The format that a text looks like.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let line = text
            .trim_start_matches('\u{feff}')
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .unwrap_or("");
        let is_key = |text: &str| {
            !text.trim().is_empty()
                && text
                    .trim()
                    .chars()
                    .all(|c| c.is_alphanumeric() || "-_.\"'$ ".contains(c))
        };
        if line.starts_with(['{', '/']) || line.is_empty() {
            Self::Json
        } else if (line.starts_with('[')
            && line.ends_with(']')
            && is_key(line.trim_matches(['[', ']'])))
            || line.split_once('=').is_some_and(|(key, _)| is_key(key))
        {
            Self::Toml
        } else if line.starts_with('[') {
            Self::Json
        } else {
            Self::Yaml
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
        }
    }
}

/// How deep values may be nested: more is not a configuration but an attack.
#[cfg(any(feature = "toml", feature = "yaml"))]
const MAX_DEPTH: usize = 128;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) range: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

/// A key, its place, and its value. Equal keys all stand in the list, in their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) key_range: Range<usize>,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn new(range: Range<usize>, value: Value) -> Self {
        Self { range, value }
    }

    /// The last value of a key, as every reader of duplicate keys takes it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.member(key).map(|member| &member.value)
    }

    pub(crate) fn member(&self, key: &str) -> Option<&Member> {
        self.members().iter().rev().find(|member| member.key == key)
    }

    pub(crate) fn members(&self) -> &[Member] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self.value, Value::Object(_))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    /// The word for its type, with its article.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// Parses a source; what cannot be parsed is one problem with its place.
pub(crate) fn parse(source: &Arc<Source>, format: Format) -> Result<Node, Box<Problem>> {
    let parsed = match format {
        Format::Json => json::parse(source),
        #[cfg(feature = "toml")]
        Format::Toml => toml::parse(source),
        #[cfg(feature = "yaml")]
        Format::Yaml => yaml::parse(source),
        #[cfg(not(all(feature = "toml", feature = "yaml")))]
        format => Err(not_built(source, format)),
    };
    // Whatever the parser stumbled over, this is why.
    parsed.map_err(|problem| merge_conflict(source).map_or(problem, Box::new))
}

/// The problem for a file whose format was left out of this build.
#[cfg(not(all(feature = "toml", feature = "yaml")))]
fn not_built(source: &Arc<Source>, format: Format) -> Box<Problem> {
    let (name, feature) = (format.as_str(), format.as_str().to_ascii_lowercase());
    Box::new(
        Problem::error("syntax", format!("this build reads no {name}"))
            .at(Span::new(source, 0..0))
            .help(format!(
                "write it in JSON, or build with the feature `{feature}`"
            )),
    )
}

/// The problem for a file in which a merge was left unresolved.
fn merge_conflict(source: &Arc<Source>) -> Option<Problem> {
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        if line.starts_with("<<<<<<< ") {
            let range = start..start + line.trim_end().len();
            return Some(
                Problem::error("merge-conflict", "the file holds an unresolved merge conflict")
                    .at(Span::new(source, range))
                    .label("it begins here")
                    .help("keep one of the two sides, and remove the lines that begin with `<<<<<<<`, `=======` and `>>>>>>>`"),
            );
        }
        start += line.len();
    }
    None
}
