//! Changing a file by hand's rules: comments, order, unknown keys and line ends stay.

pub(crate) mod json;
#[cfg(feature = "toml")]
pub(crate) mod toml;

use std::{path::Path, time::Duration};

use mcpool_core::{Error, ErrorKind, Result, ServerName};
use mcpool_files::Locks;

use crate::{
    dialects::{self, Dialect},
    document::{self, Format, Node},
    inputs::InputDeclaration,
    loader::MAX_BYTES,
    settings::ServerSettings,
    source::Source,
};

/// How long an edit waits for another process that changes the same file.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// One change of a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Edit {
    /// Adds a server at the end.
    Add {
        /// Its name.
        name: String,
        /// What to write.
        settings: Box<ServerSettings>,
        /// Whether one of that name is replaced. Otherwise it is an error.
        replace: bool,
    },
    /// Removes a server.
    Remove {
        /// Its name.
        name: String,
    },
    /// Enables or disables a server.
    SetEnabled {
        /// Its name.
        name: String,
        /// Which.
        enabled: bool,
    },
    /// Adds an input at the end. One that is there already stays.
    AddInput {
        /// Its identifier.
        id: String,
        /// How it is asked for. It is an error when another is there.
        declaration: Box<InputDeclaration>,
    },
}

impl Edit {
    /// The name of the server, or the identifier of the input.
    fn name(&self) -> &str {
        match self {
            Self::Add { name, .. } | Self::Remove { name } | Self::SetEnabled { name, .. } => name,
            Self::AddInput { id, .. } => id,
        }
    }
}

/// Applies changes to a text. Pure: the file system is not touched.
///
/// # Errors
/// [`InvalidSpec`](ErrorKind::InvalidSpec) when the text cannot be parsed or is no file of ours,
/// [`InvalidArgument`](ErrorKind::InvalidArgument) when a server is missing or there already.
pub fn edit_text(text: &str, format: Format, edits: &[Edit]) -> Result<String> {
    edit_source(text, format, None, edits)
}

fn edit_source(text: &str, format: Format, path: Option<&Path>, edits: &[Edit]) -> Result<String> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let mut body = if body.trim().is_empty() {
        match format {
            Format::Json => "{\n  \"mcpServers\": {}\n}\n".to_owned(),
            Format::Toml | Format::Yaml => String::new(),
        }
    } else {
        body.to_owned()
    };
    if format == Format::Yaml {
        return Err(not_written(format));
    }
    for edit in edits {
        if let Edit::Add { name, .. } = edit {
            ServerName::new(name)?;
        }
        let root = parse(&body, format, path)?;
        check_ours(&root, format, path)?;
        if let Edit::AddInput { id, declaration } = edit
            && has_input(&root, id, declaration)?
        {
            continue;
        }
        check_present(&root, edit)?;
        body = match format {
            Format::Json => json::apply(&body, edit)?,
            #[cfg(feature = "toml")]
            Format::Toml => toml::apply(&body, edit)?,
            _ => return Err(not_written(format)),
        };
        verify(&body, format, edit)?;
    }
    Ok(format!("{mark}{body}"))
}

/// Changes a file, or makes it when it is not there: locked against other processes, written
/// beside it, synced, renamed, readable by the owner only. A symbolic link stays one.
///
/// Nothing is written when the text stays the same; then the answer is `false`. Blocks, for at
/// most 10 s while another process changes the same file.
///
/// # Errors
/// As [`edit_text`], and when the file cannot be read or written: it is no regular file, is
/// larger than 16 MiB, or another process, which is named, does not release it.
pub fn edit_file(path: &Path, edits: &[Edit]) -> Result<bool> {
    let fail = |what: &str, error: std::io::Error| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("cannot {what} {}: {error}", path.display()),
        )
        .with_source(error)
    };
    let format = Format::of_path(path).unwrap_or(Format::Json);
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|error| fail("create the directory of", error))?;
    }
    let target = mcpool_files::resolved(path);
    let _lock = Locks::of_user()
        .and_then(|locks| locks.lock(&target, LOCK_PATIENCE))
        .map_err(|error| fail("lock", error))?;
    let old = match mcpool_files::read_regular(&target, MAX_BYTES) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|error| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error());
            fail("read", error)
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(fail("read", error)),
    };
    let new = edit_source(&old, format, Some(path), edits)?;
    if new == old {
        return Ok(false);
    }
    mcpool_files::write_private(&target, &new).map_err(|error| fail("write", error))?;
    Ok(true)
}

fn parse(text: &str, format: Format, path: Option<&Path>) -> Result<Node> {
    if format == Format::Toml && text.trim().is_empty() {
        return Ok(Node::new(0..0, document::Value::Object(Vec::new())));
    }
    let name = path.map_or_else(|| "the text".into(), Path::to_string_lossy);
    let source = Source::new(name, path, text);
    document::parse(&source, format)
        .map_err(|problem| crate::problems::Problems(vec![*problem]).into_error())
}

fn not_written(format: Format) -> Error {
    let message = match format {
        Format::Yaml => {
            "mcpool does not rewrite YAML, which would lose its comments; edit the file by hand, or keep the servers in JSON or TOML"
        }
        _ => "this build writes no TOML: build with the feature `toml`",
    };
    Error::new(ErrorKind::InvalidArgument, message)
}

/// Only files with a plain map of servers in it are written.
fn check_ours(root: &Node, format: Format, path: Option<&Path>) -> Result<()> {
    let fail = |message: String| Err(Error::new(ErrorKind::InvalidSpec, message));
    if !root.is_object() {
        return fail(format!(
            "the file must be an object, and is {}",
            root.type_name()
        ));
    }
    let key = servers_key(root);
    if let Some(servers) = root.get(key) {
        return if servers.is_object() {
            Ok(())
        } else {
            fail(format!(
                "`{key}` must be an object of servers, and is {}",
                servers.type_name()
            ))
        };
    }
    match dialects::recognise(path, format, root) {
        Dialect::Native | Dialect::ClaudeCode | Dialect::ClaudeDesktop => Ok(()),
        // A new file in another host's place.
        _ if root.members().iter().all(|member| member.key == "$schema") => Ok(()),
        other => fail(format!(
            "the file is written for {}, and mcpool only reads those; `mcpool config import {other}` copies its servers into a file of its own",
            other.title(),
        )),
    }
}

/// The key of the map of servers: ours, or Codex's in TOML.
fn servers_key(root: &Node) -> &'static str {
    if root.member("mcpServers").is_none() && root.member("mcp_servers").is_some() {
        "mcp_servers"
    } else {
        "mcpServers"
    }
}

/// Whether an input is there already.
fn has_input(root: &Node, id: &str, declaration: &InputDeclaration) -> Result<bool> {
    let inputs = root.get("inputs").map(InputDeclaration::read_all);
    match inputs.unwrap_or_default().get(id) {
        Some(known) if known == declaration => Ok(true),
        Some(_) => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("the file declares the input {id:?} already, in another way"),
        )),
        None => Ok(false),
    }
}

fn check_present(root: &Node, edit: &Edit) -> Result<()> {
    let servers = root.get(servers_key(root));
    let present = servers.is_some_and(|servers| servers.get(edit.name()).is_some());
    let name = edit.name();
    match edit {
        Edit::Add { replace: false, .. } if present => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "there is a server {name:?} already; remove it first, or say that it is to be replaced"
            ),
        )),
        Edit::Remove { .. } | Edit::SetEnabled { .. } if !present => {
            let names = servers
                .map(|servers| {
                    servers
                        .members()
                        .iter()
                        .map(|m| m.key.as_str())
                        .collect::<Vec<_>>()
                })
                .unwrap_or_default();
            let hint = match crate::problem::nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None if names.is_empty() => "the file has none".to_owned(),
                None => format!("there are: {}", names.join(", ")),
            };
            Err(Error::new(
                ErrorKind::UnknownServer,
                format!("there is no server {name:?} in the file; {hint}"),
            ))
        }
        Edit::SetEnabled { .. }
            if servers
                .and_then(|servers| servers.get(name))
                .is_some_and(|server| !server.is_object()) =>
        {
            Err(Error::new(
                ErrorKind::InvalidSpec,
                format!("the server {name:?} is not an object; mend it by hand"),
            ))
        }
        _ => Ok(()),
    }
}

/// Reads the new text back: what was asked for must be in it.
fn verify(text: &str, format: Format, edit: &Edit) -> Result<()> {
    let root = parse(text, format, None)?;
    let server = root
        .get(servers_key(&root))
        .and_then(|servers| servers.get(edit.name()));
    let holds = match edit {
        Edit::AddInput { id, declaration } => has_input(&root, id, declaration)?,
        Edit::Add { .. } => server.is_some(),
        Edit::Remove { .. } => server.is_none(),
        Edit::SetEnabled { enabled, .. } => server.is_some_and(|server| {
            let flag = |key| match server.get(key).map(|node| &node.value) {
                Some(document::Value::Bool(value)) => Some(*value),
                _ => None,
            };
            match (flag("enabled"), flag("disabled")) {
                (Some(on), Some(off)) => on == *enabled && off != *enabled,
                (Some(on), None) => on == *enabled,
                (None, Some(off)) => off != *enabled,
                (None, None) => *enabled,
            }
        }),
    };
    if holds {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::Internal,
            format!(
                "the change of {:?} did not take; the file was left alone",
                edit.name()
            ),
        ))
    }
}

/// The settings as JSON in the order of the native format.
fn to_value(settings: &ServerSettings) -> Result<serde_json::Value> {
    serde_json::to_value(settings).map_err(|error| {
        Error::new(ErrorKind::Internal, "the settings cannot be written").with_source(error)
    })
}
