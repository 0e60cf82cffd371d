//! Puts an entry for a gateway into another host's file, and takes it out again. Everything else
//! in the file stays as it is: comments, order, unknown keys, line ends.
//!
//! [`HostWriter`] is pure, and its files are read and written in `file`. [`edit_file`](crate::edit_file)
//! writes mcpool's own files, of which it knows more; here a host's entries are moved as they are,
//! and never understood.

mod file;
mod json;
#[cfg(feature = "toml")]
mod toml;

use mcpool_core::{Error, ErrorKind, Result, ServerName};
use serde_json::{Map, Value, json};

use crate::dialects::Dialect;

pub use file::{read_host_file, remove_host_file, write_host_file};

/// What a host is to start, or to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostServer {
    /// A program and its arguments, spoken to over stdio.
    Command(Vec<String>),
    /// A URL of Streamable HTTP.
    Url(String),
}

/// How a host's file holds its servers.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// The keys that lead to the map of servers.
    key: &'static [&'static str],
    entry: fn(&HostServer) -> Value,
    is_toml: bool,
}

/// A host into whose file an entry can be put, at the place that the host documents.
#[derive(Debug, Clone, Copy)]
pub struct HostWriter {
    dialect: Dialect,
    shape: Shape,
}

/// The usual entry.
fn plain(server: &HostServer) -> Value {
    match server {
        HostServer::Command(words) => command(words),
        HostServer::Url(url) => json!({ "url": url }),
    }
}

/// The usual entry, with a type.
fn typed(server: &HostServer) -> Value {
    let (kind, Value::Object(rest)) = (
        match server {
            HostServer::Command(_) => "stdio",
            HostServer::Url(_) => "http",
        },
        plain(server),
    ) else {
        return Value::Null;
    };
    let mut entry = Map::new();
    entry.insert("type".to_owned(), kind.into());
    entry.extend(rest);
    Value::Object(entry)
}

/// The usual entry, its URL by another name.
fn with_url_as(server: &HostServer, name: &str) -> Value {
    match server {
        HostServer::Url(url) => json!({ name: url }),
        HostServer::Command(_) => plain(server),
    }
}

fn command(words: &[String]) -> Value {
    let program = words.first().map_or("", String::as_str);
    json!({ "command": program, "args": words.get(1..).unwrap_or_default() })
}

impl HostWriter {
    /// The writer for a host; `None` for one whose file is not written: YAML, which loses its
    /// comments, files of several hosts, and TOML without the feature `toml`.
    #[must_use]
    pub fn of(dialect: Dialect) -> Option<Self> {
        let usual: &[&str] = &["mcpServers"];
        let (key, entry): (&[&str], fn(&HostServer) -> Value) = match dialect {
            Dialect::ClaudeDesktop
            | Dialect::Cursor
            | Dialect::LmStudio
            | Dialect::Kiro
            | Dialect::AmazonQ => (usual, plain),
            Dialect::ClaudeCode | Dialect::Factory => (usual, typed),
            Dialect::Roo => (usual, |server| match server {
                HostServer::Url(url) => json!({ "type": "streamable-http", "url": url }),
                HostServer::Command(_) => plain(server),
            }),
            Dialect::Cline => (usual, |server| match server {
                HostServer::Url(url) => json!({ "type": "streamableHttp", "url": url }),
                HostServer::Command(_) => plain(server),
            }),
            Dialect::Windsurf => (usual, |server| with_url_as(server, "serverUrl")),
            Dialect::Gemini | Dialect::Qwen => (usual, |server| with_url_as(server, "httpUrl")),
            Dialect::CopilotCli => (usual, |server| {
                let mut entry = match server {
                    HostServer::Command(words) => command(words),
                    HostServer::Url(url) => json!({ "url": url }),
                };
                if let Some(entry) = entry.as_object_mut() {
                    let kind = match server {
                        HostServer::Command(_) => "local",
                        HostServer::Url(_) => "http",
                    };
                    entry.insert("type".to_owned(), kind.into());
                    entry.insert("tools".to_owned(), json!(["*"]));
                }
                entry
            }),
            Dialect::VsCode => (&["servers"], typed),
            Dialect::Zed => (&["context_servers"], plain),
            Dialect::Opencode => (&["mcp"], |server| match server {
                HostServer::Command(words) => {
                    json!({ "type": "local", "command": words, "enabled": true })
                }
                HostServer::Url(url) => json!({ "type": "remote", "url": url, "enabled": true }),
            }),
            Dialect::Codex if cfg!(feature = "toml") => (&["mcp_servers"], plain),
            _ => return None,
        };
        let shape = Shape {
            key,
            entry,
            is_toml: dialect == Dialect::Codex,
        };
        Some(Self { dialect, shape })
    }

    /// The hosts for which there is one.
    #[must_use]
    pub fn hosts() -> Vec<Dialect> {
        let all = Dialect::ALL.iter().copied();
        all.filter(|dialect| Self::of(*dialect).is_some()).collect()
    }

    /// The entry as its host's file holds it, in a file with nothing else.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn example(&self, name: &str, server: &HostServer) -> Result<String> {
        self.install("", name, server, &[])
    }

    /// The names in the map of servers, in the order of the file.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn names(&self, text: &str) -> Result<Vec<String>> {
        let (_, body) = split_mark(text);
        match self.shape.is_toml {
            #[cfg(feature = "toml")]
            true => toml::names(body, self.shape.key),
            _ => json::names(body, self.shape.key),
        }
    }

    /// The text with the entry in it, in the place of these others. An entry of the same name is
    /// replaced.
    ///
    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) when the text cannot be parsed, or has something
    /// else in the place of the servers; a name that is none.
    pub fn install(
        &self,
        text: &str,
        name: &str,
        server: &HostServer,
        moved: &[String],
    ) -> Result<String> {
        ServerName::new(name)?;
        let (mark, body) = split_mark(text);
        let (key, entry) = (self.shape.key, (self.shape.entry)(server));
        let new = match self.shape.is_toml {
            #[cfg(feature = "toml")]
            true => toml::replace(body, key, moved, name, &entry)?,
            _ => json::replace(body, key, moved, name, &entry)?,
        };
        let text = format!("{mark}{new}");
        // Read back: what was asked for, and nothing else, has changed.
        let mut wanted = self.names(text_before(body))?;
        wanted.retain(|old| old != name && !moved.contains(old));
        let mut found = self.names(&text)?;
        let is_there = found.iter().any(|found| found == name);
        found.retain(|found| found != name);
        if is_there && found == wanted {
            Ok(text)
        } else {
            Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "the change of the file of {} did not take",
                    self.dialect.title()
                ),
            ))
        }
    }

    /// The text without the entry, and with what stood in the file before and is in it no more:
    /// exactly as it was before where nothing has changed since.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn uninstall(&self, text: &str, name: &str, before: Option<&str>) -> Result<String> {
        let now = self.names(text)?;
        let earlier = before.map(|before| self.names(before)).transpose()?;
        let earlier = earlier.unwrap_or_default();
        let gone = earlier
            .into_iter()
            .filter(|old| old == name || !now.contains(old));
        let gone: Vec<String> = gone.collect();
        let (mark, body) = split_mark(text);
        let old = before
            .map(|before| split_mark(before).1)
            .unwrap_or_default();
        let new = match self.shape.is_toml {
            #[cfg(feature = "toml")]
            true => toml::restore(body, self.shape.key, name, old, &gone)?,
            _ => json::restore(body, self.shape.key, name, old, &gone)?,
        };
        Ok(format!("{mark}{new}"))
    }

    /// Whether the file is what an install made of what stood there before, so that nothing but the
    /// entry itself has changed since.
    #[must_use]
    pub fn is_untouched(&self, text: &str, name: &str, before: &str) -> bool {
        let (Ok(now), Ok(earlier)) = (self.names(text), self.names(before)) else {
            return false;
        };
        let moved: Vec<String> = earlier
            .into_iter()
            .filter(|old| old != name && !now.contains(old))
            .collect();
        // What the entry holds does not matter: it is taken out of both.
        let any = HostServer::Url(String::new());
        let made = self.install(before, name, &any, &moved);
        let made = made.and_then(|made| self.uninstall(&made, name, None));
        let bare = self.uninstall(text, name, None);
        matches!((made, bare), (Ok(made), Ok(bare)) if made == bare)
    }
}

/// A byte-order mark, and the rest.
fn split_mark(text: &str) -> (&str, &str) {
    match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    }
}

fn text_before(body: &str) -> &str {
    if body.trim().is_empty() { "" } else { body }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidSpec, what.to_owned())
}
