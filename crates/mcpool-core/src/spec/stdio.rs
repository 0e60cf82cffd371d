//! The process of a stdio server, and what it inherits.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use crate::Secret;

/// The process of a stdio server.
///
/// `Debug` shows how many arguments there are, not the arguments: once placeholders are filled
/// in they may hold secrets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StdioSpec {
    /// The program: a path, or a name that is looked up in `PATH`. Never run through a shell.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that are added to the inherited ones, or replace them.
    pub env: BTreeMap<String, Secret>,
    /// What it inherits of the application's environment. Default [`EnvInheritance::SafeList`].
    pub inherit_env: EnvInheritance,
    /// Its working directory. Default: the application's.
    pub cwd: Option<PathBuf>,
}

impl StdioSpec {
    /// A process of this program, without arguments.
    #[must_use]
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            inherit_env: EnvInheritance::SafeList,
            cwd: None,
        }
    }

    /// Sets the arguments.
    #[must_use]
    pub fn with_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn with_cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Sets what it inherits of the application's environment.
    #[must_use]
    pub fn with_inherit_env(mut self, inherit: EnvInheritance) -> Self {
        self.inherit_env = inherit;
        self
    }
}

impl fmt::Debug for StdioSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioSpec")
            .field("command", &self.command)
            .field("args", &format_args!("[{} hidden]", self.args.len()))
            .field("env", &self.env)
            .field("inherit_env", &self.inherit_env)
            .field("cwd", &self.cwd)
            .finish()
    }
}

/// What a stdio server inherits of the application's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvInheritance {
    /// Only [`EnvInheritance::SAFE_LIST`]: enough to find programs, a home and a locale, and no
    /// secret of the application's. A proxy whose address holds a user or password is left out.
    #[default]
    SafeList,
    /// The safe list and these names.
    Names(Vec<String>),
    /// Everything.
    All,
    /// Nothing.
    Nothing,
}

impl EnvInheritance {
    /// The variables that are inherited by default. A name that ends in `*` is a prefix.
    pub const SAFE_LIST: &[&str] = &[
        "HOME",
        "LANG",
        "LC_*",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TERM",
        "TMPDIR",
        "TZ",
        "USER",
        "XDG_*",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "NODE_EXTRA_CA_CERTS",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "APPDATA",
        "COMSPEC",
        "HOMEDRIVE",
        "HOMEPATH",
        "LOCALAPPDATA",
        "PATHEXT",
        "PROGRAMDATA",
        "PROGRAMFILES",
        "PROGRAMFILES(X86)",
        "SYSTEMDRIVE",
        "SYSTEMROOT",
        "TEMP",
        "TMP",
        "USERDOMAIN",
        "USERNAME",
        "USERPROFILE",
        "WINDIR",
    ];

    /// Whether a variable of this name and value is inherited. A proxy with a user or password in
    /// its address is, only when it is asked for by name.
    ///
    /// ```
    /// use mcpool_core::EnvInheritance;
    /// let safe = EnvInheritance::SafeList;
    /// assert!(safe.allows("LC_ALL", "C"));
    /// assert!(!safe.allows("AWS_SECRET_ACCESS_KEY", "x"));
    /// assert!(safe.allows("HTTPS_PROXY", "http://proxy:3128"));
    /// assert!(!safe.allows("HTTPS_PROXY", "http://me:secret@proxy:3128"));
    /// let named = EnvInheritance::Names(vec!["HTTPS_PROXY".into()]);
    /// assert!(named.allows("HTTPS_PROXY", "http://me:secret@proxy:3128"));
    /// ```
    #[must_use]
    pub fn allows(&self, name: &str, value: &str) -> bool {
        let is_proxy = name.to_ascii_uppercase().ends_with("_PROXY");
        let has_credentials = is_proxy && value.contains('@');
        let safe = || {
            Self::SAFE_LIST
                .iter()
                .any(|entry| match entry.strip_suffix('*') {
                    Some(prefix) => name.starts_with(prefix),
                    None if cfg!(windows) => entry.eq_ignore_ascii_case(name),
                    None => *entry == name,
                })
        };
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::SafeList => safe() && !has_credentials,
            Self::Names(names) => {
                names.iter().any(|wanted| wanted == name) || safe() && !has_credentials
            }
        }
    }
}
