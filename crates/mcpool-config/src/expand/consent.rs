//! What a person has allowed an entry of a project's file to be filled in with.
//!
//! An approval would be worth little if a file that the entry merely names could change what
//! runs afterwards. So the content of such files is a part of what is approved, and is compared
//! when it is used, not only when the question is asked.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    hash::{Hash as _, Hasher},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use mcpool_core::{Error, ErrorKind, Result, Secret, ServerSpec, Untrusted};
use sha2::{Digest as _, Sha256};

use super::{PlaceSource, Resolver, env_file, fields::Work};
use crate::template::{Known, Reference, Template};

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

    /// Enough of it for a person to distinguish two contents; never enough to approve one.
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
            pins.targets.hash(hasher);
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
    /// Where each file that is named, and the directory, led, with symbolic links followed.
    targets: BTreeMap<PathBuf, PathBuf>,
}

impl Pins {
    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) when a path leads elsewhere than it did when it
    /// was approved.
    pub(super) async fn check_target(&self, path: &Path) -> Result<()> {
        let Some(approved) = self.targets.get(path) else {
            return Ok(());
        };
        let asked = path.to_path_buf();
        // It asks the file system, which may keep one waiting.
        match tokio::task::spawn_blocking(move || mcpool_files::resolved(&asked)).await {
            Ok(target) if target == *approved => Ok(()),
            _ => Err(changed(&format!("where {} leads", path.to_string_lossy()))),
        }
    }

    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) when another file, or another content, was
    /// approved.
    pub(super) fn check_env_file(&self, written: &str, path: &Path, bytes: &[u8]) -> Result<()> {
        match &self.env_file {
            Some((approved, digest)) if approved == path && *digest == Digest::of(bytes) => Ok(()),
            _ => Err(changed(&format!("the file of variables {written}"))),
        }
    }

    /// Whether the content of what this names was approved.
    pub(super) fn holds(&self, reference: &Reference) -> bool {
        self.values.contains_key(reference)
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

/// A file, or a directory, of which a part of what is approved depends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BoundPath {
    /// Where it leads, when a symbolic link is on its way.
    pub(crate) target: Option<PathBuf>,
    /// The content, where it decides what runs: `None` in it while there is no such file, or it
    /// cannot be read.
    pub(crate) content: Option<Option<Digest>>,
}

/// What an entry names that decides what it does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    pub(crate) pins: Pins,
    pub(crate) paths: BTreeMap<PathBuf, BoundPath>,
    /// What the file of variables sets, when it can be read.
    pub(crate) variables: Vec<(String, Secret)>,
}

impl Resolver {
    /// Reads what the entry names that decides what it does. Blocks on the file system; asks no
    /// person, no source of the application's and no helper.
    pub(crate) fn bound(&self, spec: &ServerSpec) -> Bound {
        let work = Work::collect(spec, self.env_file.as_deref());
        let mut bound = Bound::default();
        for (field, template) in &work.fields {
            let is_file = |reference: &Reference| reference.scheme.as_deref() == Some("file");
            for reference in template.references().into_iter().filter(is_file) {
                let path = self.anchor(PathBuf::from(&reference.name));
                // A list of the variables that decide what runs is never whole, so each counts
                // whose value the project's author can change.
                let is_projects = field.starts_with("env.") && self.is_in_project(&path);
                if !decides(field) && !is_projects {
                    self.cover(&mut bound, path, None);
                    continue;
                }
                let value = self.now(&reference);
                let digest = value.map(|value| Digest::of(value.expose().as_bytes()));
                self.cover(&mut bound, path, Some(digest));
                bound.pins.values.insert(reference, digest);
            }
            if matches!(field.as_str(), "cwd" | "ca_file")
                && let Some(path) = self.path_now(template)
            {
                self.cover(&mut bound, path, None);
            }
            if field == "env_file"
                && let Some(path) = self.path_now(template)
            {
                let bytes = env_file::read(&path).ok();
                let digest = bytes.as_deref().map(Digest::of);
                bound.pins.env_file = digest.map(|digest| (path.clone(), digest));
                bound.variables = bytes
                    .and_then(|bytes| env_file::parse(&bytes).ok())
                    .unwrap_or_default();
                self.cover(&mut bound, path, Some(digest));
            }
        }
        bound
    }

    /// What an input becomes when nobody answers, in the project's own words.
    pub(crate) fn fallback(&self, reference: &Reference) -> Option<&str> {
        self.sources
            .iter()
            .find_map(|source| source.fallback(reference))
    }

    /// A path filled in with places and variables; `None` when that is not enough, and when a
    /// variable of the user's would be a part of a path outside of the project: looking at it
    /// could already leak it (a directory that is mounted on demand).
    fn path_now(&self, template: &Template) -> Option<PathBuf> {
        let is_place = |reference: &Reference| {
            let home = &self.home_of_file.places;
            reference.scheme.is_none()
                && (PlaceSource::NAMES.contains(&reference.name.as_str())
                    || home.iter().any(|(name, _)| *name == reference.name))
        };
        let path = self.anchor(PathBuf::from(self.expand_now(template)?));
        let is_inside = path.starts_with(&self.base)
            && !path.components().any(|part| part == Component::ParentDir);
        (is_inside || template.references().iter().all(is_place)).then_some(path)
    }

    /// Makes where a path leads, and the content if it is given, a part of what is approved.
    fn cover(&self, bound: &mut Bound, path: PathBuf, content: Option<Option<Digest>>) {
        let target = mcpool_files::resolved(&path);
        // A link on the way to the project itself is the user's own.
        let without_links = match path.strip_prefix(&self.base) {
            Ok(rest) => mcpool_files::resolved(&self.base).join(rest),
            Err(_) => mcpool_files::located(&path),
        };
        let one = bound.paths.entry(path.clone()).or_default();
        one.target = (target != without_links).then(|| target.clone());
        one.content = one.content.or(content);
        bound.pins.targets.insert(path, target);
    }

    fn is_in_project(&self, path: &Path) -> bool {
        mcpool_files::resolved(path).starts_with(mcpool_files::resolved(&self.base))
    }

    /// A text filled in with places and variables alone; `None` when that is not enough.
    fn expand_now(&self, template: &Template) -> Option<String> {
        let mut known = Known::new();
        loop {
            let expansion = template.expand(&known);
            if expansion.needed.is_empty() {
                return expansion.missing.is_empty().then_some(expansion.text);
            }
            for reference in expansion.needed {
                if !matches!(reference.scheme.as_deref(), None | Some("env")) {
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
        "AWS_CONFIG_FILE",
        "BASH_ENV",
        "BROWSER",
        "CLASSPATH",
        "COMSPEC",
        "EDITOR",
        "ELECTRON_RUN_AS_NODE",
        "ENV",
        "HOME",
        "IFS",
        "KUBECONFIG",
        "MAVEN_OPTS",
        "NIX_PATH",
        "NODE_OPTIONS",
        "NODE_PATH",
        "PAGER",
        "PATH",
        "PATHEXT",
        "PHPRC",
        "PHP_INI_SCAN_DIR",
        "PS4",
        "QT_PLUGIN_PATH",
        "R_PROFILE",
        "SHELL",
        "SHELLOPTS",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TSX_TSCONFIG_PATH",
        "VISUAL",
        "VOLTA_HOME",
        "ZDOTDIR",
    ];
    const PREFIXES: &[&str] = &[
        "BASH_FUNC_",
        "BUN_",
        "BUNDLE_",
        "CARGO_",
        "CORECLR_",
        "COREPACK_",
        "DENO_",
        "DOCKER_",
        "DOTNET_",
        "DYLD_",
        "GCONV_",
        "GEM_",
        "GIT_",
        "GLIBC_",
        "GO",
        "GTK_",
        "JAVA_",
        "JDK_JAVA_",
        "LD_",
        "LUA_",
        "NPM_CONFIG_",
        "OPENSSL_",
        "PERL5",
        "PIP_",
        "PYTHON",
        "RUBY",
        "RUSTC",
        "UV_",
        "XDG_",
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
            "BASH_FUNC_date%%",
            "PS4",
            "GCONV_PATH",
            "OPENSSL_CONF",
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
