//! The native format as types: what one entry may say. The JSON Schema is made from these, the
//! reader fills them, the writer writes them.

mod field;
mod oauth;
mod policies;
mod pool;
mod secrets;
mod sharing;

use std::{collections::BTreeMap, fmt};

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::units::HumanDuration;

pub use secrets::WithoutSecrets;
pub use sharing::SharingName;

pub(crate) use field::{Field, ReadValue};
pub use oauth::{DpopName, GrantName, IdentityProviderSettings, OAuthSettings};
pub use policies::{
    Attempts, Health, HealthSettings, HttpSettings, Interval, JitterName, JitterSettings,
    LimitSettings, Never, PolicySettings, Reconnect, ReconnectPreset, ReconnectSettings,
    ShutdownSettings, Unlimited,
};
pub use pool::{BudgetSettings, CredentialStore, PoolSettings, ProfileSettings};

/// A whole file in the native format.
#[derive(Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(title = "mcpool configuration"))]
#[non_exhaustive]
pub struct FileSettings {
    /// The address of this schema, for editors.
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The servers, by name.
    #[serde(default)]
    pub mcp_servers: BTreeMap<String, ServerSettings>,
    /// Settings that hold for every server of this file that does not say otherwise. Only
    /// policies: no `command`, `url`, `env` or `headers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Box<ServerSettings>>,
    /// Hosts whose user-scope files are read as well. Servers of this file win.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imports: Option<Imports>,
    /// What it says of the pool as a whole.
    #[serde(flatten)]
    pub pool: PoolSettings,
}

/// Hosts to import from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum Imports {
    /// The first host that has a name wins.
    Hosts(Vec<String>),
    /// With an order of one's own.
    Ordered {
        /// The hosts, such as `cursor`.
        from: Vec<String>,
        /// Which of two equal names wins. Default `first-wins`.
        #[serde(default)]
        order: ImportOrder,
    },
}

/// Which of two equally named imports wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ImportOrder {
    /// The host named first.
    #[default]
    FirstWins,
    /// The host named last.
    LastWins,
}

/// One server, as it is written. Every field may be left out; strings may hold `${…}`.
///
/// `Debug` shows no value that may be a secret.
#[derive(Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ServerSettings {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The program of a stdio server: a path, or a name that is looked up in `PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Variables added to its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// A file of `NAME=value` lines, at most 1 MiB; `env` wins over it. Relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<String>,
    /// What it inherits of the application's environment. Default `safe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inherit_env: Option<InheritSettings>,
    /// Its working directory. Relative to this file. Default: the project for a file of the
    /// project, the directory of the file for one that was named, the home for the user's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The address of an HTTP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers sent with every request, in order.
    #[serde(default, skip_serializing_if = "HeaderMap::is_empty")]
    pub headers: HeaderMap,
    /// A shell command that prints a JSON object of more headers; it has 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_helper: Option<String>,
    /// Sent as `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<String>,
    /// Settings for a login by OAuth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuthSettings>,
    /// How it is reached. Default: `stdio` with a `command`, `auto` with a `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<TransportName>,
    /// Whether it may be connected. Default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `auto`, `legacy`, `modern`, or a protocol version such as `2025-06-18`. Default `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Which of its tools are shown. A pattern may hold `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolSettings>,
    /// From a request to its answer; progress restarts it. Default `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// From the start of a connect to a ready session. Default `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<HumanDuration>,
    /// How long an open event stream may be silent. Default: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_idle_timeout: Option<HumanDuration>,
    /// A PEM file with certificates that are trusted beside the system's. Relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The proxy of an HTTP server. Default: what the environment says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// How it is treated.
    #[serde(flatten)]
    pub policies: PolicySettings,
    /// How it is reached over HTTP.
    #[serde(flatten)]
    pub http: HttpSettings,
}

impl ServerSettings {
    /// The fields that are read by their types alone, whatever the dialect.
    pub(crate) fn fields_by_type() -> impl Iterator<Item = &'static str> {
        let fields = PolicySettings::FIELDS.iter().chain(HttpSettings::FIELDS);
        fields.copied()
    }
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings")
            .field("command", &self.command)
            .field("args", &self.args.len())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field(
                "url",
                &self.url.as_deref().map(crate::secrets::redacted_url),
            )
            .field("headers", &self.headers)
            .field("transport", &self.transport)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// Header names and values, in their order.
///
/// `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderMap(pub Vec<(String, String)>);

impl HeaderMap {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Serialize for HeaderMap {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(feature = "schema")]
impl JsonSchema for HeaderMap {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Headers".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        <BTreeMap<String, String>>::json_schema(generator)
    }
}

/// The transports by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TransportName {
    /// A child process.
    Stdio,
    /// Streamable HTTP.
    Http,
    /// Legacy HTTP+SSE.
    Sse,
    /// Streamable HTTP, then legacy SSE.
    Auto,
}

/// When a server is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StartName {
    /// At the start, which waits for it.
    Eager,
    /// At the start, which does not wait.
    Background,
    /// On first use.
    Lazy,
}

/// What a stdio server inherits of the application's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum InheritSettings {
    /// A named set.
    Set(InheritName),
    /// The safe list and these names.
    Names(Vec<String>),
}

/// The named sets of inherited variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InheritName {
    /// `PATH`, `HOME`, the locale and the like; no secret.
    Safe,
    /// Everything.
    All,
    /// Nothing.
    None,
}

/// Which tools are shown. Denied wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ToolSettings {
    /// Only these. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// Not these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}
