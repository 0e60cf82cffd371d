//! What a server is: how to reach it, what it speaks, when it is connected.

mod connector;
mod http;
mod secrets;
mod stdio;
mod tools;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

pub use connector::{ConnectRequest, Connector};
pub use http::{HttpSpec, is_localhost};
pub use stdio::{EnvInheritance, StdioSpec};
pub use tools::ToolFilter;

use crate::{Masker, ProtocolVersion, Result, ServerName, ServerPolicy};

/// Everything that mcpool needs to know of one server.
///
/// Strings may still hold `${…}` when a [`SpecResolver`] is attached: the factory resolves them
/// each time it connects, so that no expanded value is kept. A spec that was built in code has
/// no resolver and is taken as it is.
///
/// Two specs are equal when all their fields are, where of the resolver only its
/// [fingerprint](SpecResolver::fingerprint) counts, and the masker does not.
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
    /// Whether the clients of a gateway share it. Default [`Sharing::Pool`].
    pub sharing: Sharing,
    /// Which protocol it speaks. Default [`ProtocolChoice::Auto`].
    pub protocol: ProtocolChoice,
    /// Which of its tools are shown.
    pub tools: ToolFilter,
    /// Timeouts, reconnect, health, limits.
    pub policy: ServerPolicy,
    /// What fills in `${…}` at connect time.
    pub resolver: Option<Arc<dyn SpecResolver>>,
    /// What takes this server's secrets out of errors, logs and its stderr. It learns the values
    /// of variables and headers, the credentials in URLs and the secrets of OAuth when the spec
    /// is resolved or connected, and from a resolver what that filled in.
    ///
    /// Share one handle between all specs of an application (as a config loader does) to mask in
    /// the application's own output too.
    pub masker: Masker,
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
            sharing: Sharing::Pool,
            protocol: ProtocolChoice::Auto,
            tools: ToolFilter::default(),
            policy: ServerPolicy::default(),
            resolver: None,
            masker: Masker::new(),
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

    /// A server behind a transport of the application's own.
    ///
    /// # Errors
    /// As [`ServerSpec::new`].
    pub fn custom(name: impl AsRef<str>, connector: Arc<dyn Connector>) -> Result<Self> {
        Self::new(name, TransportSpec::Custom(connector))
    }

    /// Sets whether it may be connected.
    #[must_use]
    pub fn with_enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Sets whether its failure fails the start.
    #[must_use]
    pub fn with_required(mut self, required: bool) -> Self {
        self.required = required;
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

    /// Sets whether the clients of a gateway share it.
    #[must_use]
    pub fn with_sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
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

    /// Sets what masks this server's secrets. Default: a masker of its own.
    #[must_use]
    pub fn with_masker(mut self, masker: Masker) -> Self {
        self.masker = masker;
        self
    }

    /// Adds what this spec holds to the masker.
    pub(crate) fn note_secrets(&self) {
        self.transport.note_secrets(&self.masker);
    }

    /// The spec with every `${…}` filled in; the spec itself when it has no resolver.
    ///
    /// # Errors
    /// What the resolver says, mostly [`Unresolved`](crate::ErrorKind::Unresolved).
    pub async fn resolved(&self) -> Result<ServerSpec> {
        let mut spec = match &self.resolver {
            None => self.clone(),
            Some(resolver) => resolver.resolve(self).await.map_err(|error| {
                let error = error.with_server(&self.name).with_operation("connect");
                error.masked(&self.masker)
            })?,
        };
        spec.resolver = None;
        spec.note_secrets();
        Ok(spec)
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
            sharing,
            protocol,
            tools,
            policy,
            resolver,
            masker: _,
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
            && *sharing == other.sharing
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
#[derive(Clone, Debug)]
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
    /// A transport of the application's own, beside servers of other kinds. Two are equal when
    /// they are the same connector.
    Custom(Arc<dyn Connector>),
}

impl PartialEq for TransportSpec {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stdio(one), Self::Stdio(other)) => one == other,
            (Self::Http(one), Self::Http(other))
            | (Self::Sse(one), Self::Sse(other))
            | (Self::Auto(one), Self::Auto(other)) => one == other,
            (Self::Custom(one), Self::Custom(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl TransportSpec {
    /// Adds what it holds to a masker.
    pub(crate) fn note_secrets(&self, masker: &Masker) {
        secrets::note(self, masker);
    }

    /// Whether the server is a child process.
    #[must_use]
    pub fn is_stdio(&self) -> bool {
        matches!(self, Self::Stdio(_))
    }

    /// The word for it in JSON: `stdio`, `http`, `sse`, `auto` or `custom`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stdio(_) => "stdio",
            Self::Http(_) => "http",
            Self::Sse(_) => "sse",
            Self::Auto(_) => "auto",
            Self::Custom(_) => "custom",
        }
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

/// Whether the clients of a gateway share a server. A manager by itself makes no difference: all
/// its callers are one application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// All clients share its processes or sessions.
    #[default]
    Pool,
    /// Each client has one of its own, which is given that client's capabilities and no others.
    Client,
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
    /// On first use. With `Some`, closed again after that long without use.
    Lazy(Option<Duration>),
}

/// When a server that clients do not share is closed again after its lists were read.
const LISTING_IDLE: Duration = Duration::from_secs(60);

impl StartMode {
    /// For its lists alone, and closed again after 60 s without use: in a pool whose clients each
    /// have an instance of their own ([`Sharing::Client`]).
    pub const FOR_LISTS: Self = Self::Lazy(Some(LISTING_IDLE));
}

#[cfg(test)]
mod tests {
    use super::*;

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
