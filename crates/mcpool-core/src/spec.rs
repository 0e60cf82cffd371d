use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use rmcp::model::ProtocolVersion;
use serde::{Deserialize, Serialize};

use crate::{OAuthSpec, Result, Secret, ServerName, ServerPolicy};

/// Everything that mcpool needs to know of one server.
///
/// Strings may still hold `${…}` when a [`SpecResolver`] is attached: the factory resolves them
/// each time it connects, so that no expanded value is kept. A spec that was built in code has
/// no resolver and is taken as it is.
///
/// Two specs are equal when all their fields are, where of the resolver only its
/// [fingerprint](SpecResolver::fingerprint) counts.
///
/// ```
/// use mcpool_core::{ServerSpec, StdioSpec};
///
/// let spec = ServerSpec::stdio("files", StdioSpec::new("mcp-server-filesystem").with_args(["/srv"]))?;
/// assert!(spec.enabled);
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSpec {
    /// The name under which the application knows it.
    pub name: ServerName,
    /// How to reach it.
    pub transport: TransportSpec,
    /// Whether it may be connected. Default `true`.
    pub enabled: bool,
    /// Whether a failure to connect it fails the whole start. Default `false`.
    pub required: bool,
    /// When it is connected. Default [`StartMode::Eager`].
    pub start: StartMode,
    /// How many processes or sessions serve it; at least 1. Default 1.
    pub instances: u32,
    /// Which protocol it speaks. Default [`ProtocolChoice::Auto`].
    pub protocol: ProtocolChoice,
    /// Which of its tools are shown.
    pub tools: ToolFilter,
    /// Time-outs, reconnect, health, limits.
    pub policy: ServerPolicy,
    /// What fills in `${…}` at connect time.
    pub resolver: Option<Arc<dyn SpecResolver>>,
}

impl ServerSpec {
    /// A spec with every default.
    ///
    /// # Errors
    /// [`InvalidSpec`](crate::ErrorKind::InvalidSpec) when the name is not a valid [`ServerName`].
    pub fn new(name: impl AsRef<str>, transport: TransportSpec) -> Result<Self> {
        Ok(Self {
            name: ServerName::new(name)?,
            transport,
            enabled: true,
            required: false,
            start: StartMode::Eager,
            instances: 1,
            protocol: ProtocolChoice::Auto,
            tools: ToolFilter::default(),
            policy: ServerPolicy::default(),
            resolver: None,
        })
    }

    /// A stdio server.
    ///
    /// # Errors
    /// As [`ServerSpec::new`].
    pub fn stdio(name: impl AsRef<str>, spec: StdioSpec) -> Result<Self> {
        Self::new(name, TransportSpec::Stdio(spec))
    }

    /// A server behind a URL whose transport is found out: Streamable HTTP, then legacy SSE.
    ///
    /// # Errors
    /// As [`ServerSpec::new`].
    pub fn url(name: impl AsRef<str>, url: impl Into<String>) -> Result<Self> {
        Self::new(name, TransportSpec::Auto(HttpSpec::new(url)))
    }

    /// A Streamable HTTP server.
    ///
    /// # Errors
    /// As [`ServerSpec::new`].
    pub fn http(name: impl AsRef<str>, spec: HttpSpec) -> Result<Self> {
        Self::new(name, TransportSpec::Http(spec))
    }

    /// A legacy HTTP+SSE server.
    ///
    /// # Errors
    /// As [`ServerSpec::new`].
    pub fn sse(name: impl AsRef<str>, spec: HttpSpec) -> Result<Self> {
        Self::new(name, TransportSpec::Sse(spec))
    }

    /// Sets whether it may be connected.
    #[must_use]
    pub fn with_enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Sets when it is connected.
    #[must_use]
    pub fn with_start(mut self, start: StartMode) -> Self {
        self.start = start;
        self
    }

    /// Sets how many processes or sessions serve it; 0 counts as 1.
    #[must_use]
    pub fn with_instances(mut self, instances: u32) -> Self {
        self.instances = instances.max(1);
        self
    }

    /// Sets the protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: ProtocolChoice) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the policy.
    #[must_use]
    pub fn with_policy(mut self, policy: ServerPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the tool filter.
    #[must_use]
    pub fn with_tools(mut self, tools: ToolFilter) -> Self {
        self.tools = tools;
        self
    }

    /// Attaches what fills in `${…}` at connect time.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn SpecResolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// The spec with every `${…}` filled in; the spec itself when it has no resolver.
    ///
    /// # Errors
    /// What the resolver says, mostly [`Unresolved`](crate::ErrorKind::Unresolved).
    pub async fn resolved(&self) -> Result<ServerSpec> {
        match &self.resolver {
            None => Ok(self.clone()),
            Some(resolver) => {
                let mut spec = resolver
                    .resolve(self)
                    .await
                    .map_err(|error| error.with_server(&self.name).with_operation("connect"))?;
                spec.resolver = None;
                Ok(spec)
            }
        }
    }
}

impl PartialEq for ServerSpec {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            transport,
            enabled,
            required,
            start,
            instances,
            protocol,
            tools,
            policy,
            resolver,
        } = self;
        let fingerprint = |resolver: &Option<Arc<dyn SpecResolver>>| {
            resolver
                .as_ref()
                .map_or(0, |resolver| resolver.fingerprint())
        };
        *name == other.name
            && *transport == other.transport
            && *enabled == other.enabled
            && *required == other.required
            && *start == other.start
            && *instances == other.instances
            && *protocol == other.protocol
            && *tools == other.tools
            && *policy == other.policy
            && fingerprint(resolver) == fingerprint(&other.resolver)
    }
}

/// Fills in the `${…}` of a spec, at connect time. A seam for secret stores.
#[async_trait]
pub trait SpecResolver: Send + Sync + fmt::Debug {
    /// Gives the spec with every placeholder replaced.
    ///
    /// # Errors
    /// [`Unresolved`](crate::ErrorKind::Unresolved) that names all missing variables at once.
    async fn resolve(&self, spec: &ServerSpec) -> Result<ServerSpec>;

    /// A number that changes when the resolver would give another result for the same spec, such
    /// as when it adds variables from a file and the file's path changes. Default 0: what it
    /// gives depends on the spec and the environment alone.
    fn fingerprint(&self) -> u64 {
        0
    }
}

/// How to reach a server.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TransportSpec {
    /// A child process that speaks over its standard input and output.
    Stdio(StdioSpec),
    /// Streamable HTTP.
    Http(HttpSpec),
    /// Legacy HTTP+SSE (2024-11-05).
    Sse(HttpSpec),
    /// A URL whose transport is found out: Streamable HTTP, then legacy SSE.
    Auto(HttpSpec),
}

impl TransportSpec {
    /// Whether the server is a child process.
    #[must_use]
    pub fn is_stdio(&self) -> bool {
        matches!(self, Self::Stdio(_))
    }

    /// The word for it in JSON: `stdio`, `http`, `sse` or `auto`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stdio(_) => "stdio",
            Self::Http(_) => "http",
            Self::Sse(_) => "sse",
            Self::Auto(_) => "auto",
        }
    }
}

/// The transport that a connection really uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TransportKind {
    /// Standard input and output of a child process.
    Stdio,
    /// Legacy HTTP+SSE.
    Sse,
    /// Streamable HTTP.
    Http,
    /// A transport of a downstream crate.
    Custom,
}

impl TransportKind {
    /// The word for it in JSON and in log fields.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Sse => "sse",
            Self::Http => "http",
            Self::Custom => "custom",
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
    /// secret of the application's.
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

    /// Whether a variable of this name is inherited.
    ///
    /// ```
    /// use mcpool_core::EnvInheritance;
    /// assert!(EnvInheritance::SafeList.allows("LC_ALL"));
    /// assert!(!EnvInheritance::SafeList.allows("AWS_SECRET_ACCESS_KEY"));
    /// ```
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
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
            Self::SafeList => safe(),
            Self::Names(names) => safe() || names.iter().any(|wanted| wanted == name),
        }
    }
}

/// The address of an HTTP server.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpSpec {
    /// The URL of the MCP endpoint; for legacy SSE, of the event stream.
    pub url: String,
    /// Headers sent with every request, in order.
    pub headers: Vec<(String, Secret)>,
    /// How long name resolution, TCP and TLS may take. Default 10 s.
    pub connect_timeout: Duration,
    /// How long an open event stream may be silent before it counts as dead; `None` is for ever.
    /// Server comments count as life. Default `None`.
    pub read_idle_timeout: Option<Duration>,
    /// A PEM file with certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy for this server. Default: what the environment says.
    pub proxy: Option<String>,
    /// How its credentials are obtained; `None` is as [`OAuthSpec::default`].
    pub oauth: Option<Box<OAuthSpec>>,
}

impl HttpSpec {
    /// The server behind this URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            read_idle_timeout: None,
            ca_file: None,
            proxy: None,
            oauth: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how its credentials are obtained.
    #[must_use]
    pub fn with_oauth(mut self, oauth: OAuthSpec) -> Self {
        self.oauth = Some(Box::new(oauth));
        self
    }

    /// Sets how long an open event stream may be silent.
    #[must_use]
    pub fn with_read_idle_timeout(mut self, timeout: Duration) -> Self {
        self.read_idle_timeout = Some(timeout);
        self
    }

    /// The URL without its user name, password, query and fragment: safe to log.
    #[must_use]
    pub fn redacted_url(&self) -> String {
        let without_tail = self.url.split(['?', '#']).next().unwrap_or_default();
        match without_tail.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = match rest.split_once('/') {
                    Some((authority, path)) => (authority, format!("/{path}")),
                    None => (rest, String::new()),
                };
                let host = authority
                    .rsplit_once('@')
                    .map_or(authority, |(_, host)| host);
                format!("{scheme}://{host}{path}")
            }
            None => without_tail.to_owned(),
        }
    }
}

impl fmt::Debug for HttpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSpec")
            .field("url", &self.redacted_url())
            .field("headers", &self.headers)
            .field("connect_timeout", &self.connect_timeout)
            .field("read_idle_timeout", &self.read_idle_timeout)
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy.as_ref().map(|_| "[set]"))
            .field("oauth", &self.oauth)
            .finish()
    }
}

/// Which protocol era and version a server is spoken to in.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum ProtocolChoice {
    /// Found out, and remembered for as long as the process or origin stays.
    #[default]
    Auto,
    /// `initialize`, at the newest version that has it; no probe.
    Legacy,
    /// 2026-07-28 and later, without `initialize`; no fallback.
    Modern,
    /// Exactly this version.
    Pinned(ProtocolVersion),
}

/// When a server is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMode {
    /// At the start, which waits for it.
    #[default]
    Eager,
    /// At the start, which does not wait.
    Background,
    /// On first use. With `Some`, closed again after so long without use.
    Lazy(Option<Duration>),
}

/// Which tools of a server are shown and may be called. Denied wins over allowed.
///
/// A pattern is a tool's name, in which `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolFilter {
    /// Only these; `None` is all.
    pub allow: Option<Vec<String>>,
    /// Not these.
    pub deny: Vec<String>,
}

impl ToolFilter {
    /// Allows only these.
    #[must_use]
    pub fn allow<S: Into<String>>(patterns: impl IntoIterator<Item = S>) -> Self {
        Self {
            allow: Some(patterns.into_iter().map(Into::into).collect()),
            deny: Vec::new(),
        }
    }

    /// Denies these as well.
    #[must_use]
    pub fn with_deny<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.deny.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Whether a tool of this name passes.
    ///
    /// ```
    /// use mcpool_core::ToolFilter;
    /// let filter = ToolFilter::allow(["read_*"]).with_deny(["read_secret"]);
    /// assert!(filter.permits("read_file"));
    /// assert!(!filter.permits("read_secret"));
    /// assert!(!filter.permits("write_file"));
    /// ```
    #[must_use]
    pub fn permits(&self, tool: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|p| glob(p, tool));
        !any(&self.deny) && self.allow.as_deref().is_none_or(any)
    }
}

/// Matches `*` against any text, in linear time.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // `split` always gives at least one part.
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("ab*bc", "abc", false),
            ("a*b*c", "axxbyyc", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_spec_shows_no_secret() {
        let http = HttpSpec::new("https://u:canary@example.org/mcp?key=canary#canary")
            .with_header("Authorization", "Bearer canary");
        let stdio = StdioSpec::new("x")
            .with_args(["--token", "canary"])
            .with_env("TOKEN", "canary");
        let shown = format!("{http:?} {stdio:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(http.redacted_url(), "https://example.org/mcp");
    }
}
