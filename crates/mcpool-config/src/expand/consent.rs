//! What a person has allowed an entry of a project's file to be filled in with.
//!
//! An approval would be worth little if a file that the entry merely names could change what
//! runs afterwards. So the content of such files is a part of what is approved, and is compared
//! when it is used, not only when the question is asked.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    hash::{Hash as _, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use mcpool_core::{Error, ErrorKind, Result, Secret, ServerSpec, Untrusted};
use sha2::{Digest as _, Sha256};

use super::{Resolver, anchor, env_file, fields::Work};
use crate::template::{Known, Reference};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Of some bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of parts in their order, each with its length, so that no two lists of parts are the same.
    pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    /// Enough of it for a person to tell two contents apart; never enough to approve one.
    pub(crate) fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether an entry may be filled in at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Consent {
    /// It is the user's own word.
    #[default]
    NotNeeded,
    /// It is that of this file, and nobody has been asked.
    Wanted(Arc<Path>),
    /// Somebody has been asked, and saw these.
    Given(Arc<Pins>),
}

impl Consent {
    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) while nobody has been asked.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::NotNeeded | Self::Given(_) => Ok(()),
            Self::Wanted(file) => Err(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "the project's file {} is not approved; look at it with `mcpool trust`",
                    Untrusted::os(file.as_os_str())
                ),
            )),
        }
    }

    pub(super) fn pins(&self) -> Option<&Pins> {
        match self {
            Self::Given(pins) => Some(pins),
            _ => None,
        }
    }

    pub(super) fn hash(&self, hasher: &mut impl Hasher) {
        if let Self::Given(pins) = self {
            pins.env_file.hash(hasher);
            pins.values.hash(hasher);
        }
    }
}

/// The contents that were approved, of what decides what an entry does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// The file of variables and its content; `None` for one that is not there or has no name
    /// that is known beforehand.
    env_file: Option<(PathBuf, Digest)>,
    /// The text of each `${file:…}`; `None` for one that is not there.
    values: BTreeMap<Reference, Option<Digest>>,
}

impl Pins {
    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) when another file, or another content, was
    /// approved.
    pub(super) fn check_env_file(&self, written: &str, path: &Path, bytes: &[u8]) -> Result<()> {
        match &self.env_file {
            Some((approved, digest)) if approved == path && *digest == Digest::of(bytes) => Ok(()),
            _ => Err(changed(&format!("the file of variables {written}"))),
        }
    }

    /// # Errors
    /// As [`check_env_file`](Self::check_env_file).
    pub(super) fn check_value(&self, reference: &Reference, value: Option<&Secret>) -> Result<()> {
        let now = value.map(|value| Digest::of(value.expose().as_bytes()));
        match self.values.get(reference) {
            Some(approved) if *approved == now => Ok(()),
            _ => Err(changed(&format!("what ${{{reference}}} stands for"))),
        }
    }
}

fn changed(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidSpec,
        format!(
            "{} has changed since it was approved; look at it with `mcpool trust`",
            Untrusted::line(what)
        ),
    )
}

/// A file whose content is a part of what is approved.
#[derive(Debug, Clone)]
pub(crate) struct BoundFile {
    pub(crate) path: PathBuf,
    /// `None` while there is no such file, or it cannot be read.
    pub(crate) digest: Option<Digest>,
}

/// What an entry names that decides what it does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    pub(crate) pins: Pins,
    /// Sorted by path, each once.
    pub(crate) files: Vec<BoundFile>,
    /// What the file of variables sets, when it can be read.
    pub(crate) variables: Vec<(String, Secret)>,
}

impl Resolver {
    /// Reads what the entry names that decides what it does. Blocks on the file system; asks no
    /// person, no source of the application's and no helper.
    pub(crate) fn bound(&self, spec: &ServerSpec) -> Bound {
        let work = Work::collect(spec, self.env_file.as_deref());
        let mut bound = Bound::default();
        let mut files = BTreeMap::new();
        for (field, template) in &work.fields {
            let is_file = |reference: &Reference| reference.scheme.as_deref() == Some("file");
            for reference in template.references().into_iter().filter(is_file) {
                if !decides(field) {
                    continue;
                }
                let value = self.now(&reference);
                let digest = value.map(|value| Digest::of(value.expose().as_bytes()));
                files.insert(self.anchor(PathBuf::from(&reference.name)), digest);
                bound.pins.values.insert(reference, digest);
            }
            if field == "env_file"
                && let Some(path) = self.expand_now(template)
            {
                let path = anchor(PathBuf::from(path), &self.base, self.home.as_deref());
                let bytes = env_file::read(&path).ok();
                let digest = bytes.as_deref().map(Digest::of);
                bound.pins.env_file = digest.map(|digest| (path.clone(), digest));
                bound.variables = bytes
                    .and_then(|bytes| env_file::parse(&bytes).ok())
                    .unwrap_or_default();
                files.insert(path, digest);
            }
        }
        bound.files = files
            .into_iter()
            .map(|(path, digest)| BoundFile { path, digest })
            .collect();
        bound
    }

    /// What an input becomes when nobody answers, in the project's own words.
    pub(crate) fn fallback(&self, reference: &Reference) -> Option<&str> {
        self.sources
            .iter()
            .find_map(|source| source.fallback(reference))
    }

    /// A text filled in by the built-in sources alone; `None` when that is not enough.
    fn expand_now(&self, template: &crate::template::Template) -> Option<String> {
        let mut known = Known::new();
        loop {
            let expansion = template.expand(&known);
            if expansion.needed.is_empty() {
                return expansion.missing.is_empty().then_some(expansion.text);
            }
            for reference in expansion.needed {
                if !matches!(reference.scheme.as_deref(), None | Some("env" | "file")) {
                    return None;
                }
                let value = self.now(&reference);
                known.insert(reference, value);
            }
        }
    }

    fn now(&self, reference: &Reference) -> Option<Secret> {
        self.sources.iter().find_map(|source| source.now(reference))
    }
}

/// Whether a field says what runs, where something is sent, or by whom it can be read. What is
/// merely passed on (a token in a header, the value of most variables) changes as it likes.
pub(super) fn decides(field: &str) -> bool {
    match field {
        "command" | "cwd" | "env_file" | "url" | "proxy" | "ca_file" => true,
        "oauth.issuer"
        | "oauth.metadata_url"
        | "oauth.client_metadata_url"
        | "oauth.idp.issuer"
        | "oauth.idp.token_endpoint" => true,
        _ => match field.split_once('.') {
            Some(("env", name)) => decides_code(name),
            Some(("oauth", name)) => name.ends_with("_file"),
            _ => field.starts_with("args["),
        },
    }
}

/// Whether a variable of this name makes programs load or run something else.
pub(crate) fn decides_code(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "BASH_ENV",
        "CLASSPATH",
        "COMSPEC",
        "DOTNET_STARTUP_HOOKS",
        "EDITOR",
        "ENV",
        "HOME",
        "IFS",
        "NODE_OPTIONS",
        "NODE_PATH",
        "PAGER",
        "PATH",
        "PATHEXT",
        "PHPRC",
        "PHP_INI_SCAN_DIR",
        "SHELL",
        "SHELLOPTS",
        "VISUAL",
        "ZDOTDIR",
    ];
    const PREFIXES: &[&str] = &[
        "BUN_",
        "BUNDLE_",
        "CARGO_",
        "DENO_",
        "DYLD_",
        "GEM_",
        "GIT_",
        "JAVA_",
        "JDK_JAVA_",
        "LD_",
        "LUA_",
        "NPM_CONFIG_",
        "PERL5",
        "PIP_",
        "PYTHON",
        "RUBY",
        "RUSTC",
        "UV_",
        "_JAVA_",
    ];
    // As Windows compares them, and npm reads its own.
    let name = name.to_ascii_uppercase();
    NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_what_runs() {
        for name in [
            "LD_PRELOAD",
            "DYLD_INSERT_LIBRARIES",
            "NODE_OPTIONS",
            "PYTHONPATH",
            "PERL5OPT",
            "RUBYOPT",
            "GIT_SSH_COMMAND",
            "PATH",
            "Path",
            "npm_config_registry",
        ] {
            assert!(decides_code(name), "{name}");
        }
        for name in ["API_TOKEN", "LOG_LEVEL", "PATHS", "OLD_VALUE"] {
            assert!(!decides_code(name), "{name}");
        }
        assert!(decides("args[3]") && decides("env.LD_PRELOAD") && decides("oauth.id_token_file"));
        assert!(!decides("headers.Authorization") && !decides("env.TOKEN"));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| Digest::of_parts(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a", ""]), of(&["a"]));
    }
}
