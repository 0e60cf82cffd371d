//! What makes a dialect: a table for each host, and the names that all share.

use std::path::Path;

use super::{Dialect, Located};
use crate::{
    document::Node,
    settings::ServerSettings,
    template::{Syntax, WhenUnset},
};

/// What a bare number for a duration means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// It is refused: ours always have a unit.
    Refuse,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// The host does not say: milliseconds from 1000 up, seconds below, and a warning.
    Guess,
}

/// What a `url` without a transport means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BareUrl {
    /// Found out when connecting: Streamable HTTP, then legacy SSE.
    Detect,
    /// The host refuses it; we find out, and say so.
    HostRefuses,
    /// Streamable HTTP.
    Http,
    /// Legacy SSE.
    Sse,
    /// SSE when the path has a segment `sse`, else Streamable HTTP.
    ByPath,
}

/// What a field of an entry means, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Description,
    Command,
    /// A command with its arguments in one text, split as a shell splits it.
    CommandLine,
    Args,
    Env,
    /// Names of variables that are passed through.
    EnvNames,
    EnvFile,
    InheritEnv,
    Cwd,
    Url,
    /// A URL that is Streamable HTTP by its very name.
    HttpUrl,
    Headers,
    /// Header → name of the variable that holds its value.
    EnvHeaders,
    HeadersHelper,
    BearerToken,
    /// The name of the variable that holds the token.
    BearerEnv,
    /// A key that goes into a header: the name of the variable that holds it (Vibe).
    ApiKeyEnv,
    /// … the header.
    ApiKeyHeader,
    /// … and its form, with `{token}` in it.
    ApiKeyFormat,
    /// An object that says all of it (LibreChat).
    KeyedHeader,
    /// Request options of Continue: `requestOptions.headers`.
    RequestOptions,
    OAuth,
    /// `auth`: an object, or a word such as `oauth`, or a token.
    Auth,
    /// OAuth scopes beside the `oauth` object.
    Scopes,
    Transport,
    Enabled,
    Disabled,
    Protocol,
    /// `{allow, deny}`, or a list of allowed names.
    Tools,
    ToolsAllow,
    ToolsDeny,
    Timeout(Option<Unit>),
    StartupTimeout(Option<Unit>),
    ReadIdleTimeout(Option<Unit>),
    CaFile,
    Proxy,
    /// A field that is read by its type alone, by our name for it.
    ByType(&'static str),
    /// Known, and of no use to us.
    Ignore,
}

/// How a value is kept out of the file in a host, for advice that can be followed there. `NAME`
/// stands for the variable.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Variable {
    /// By a placeholder.
    Written(&'static str),
    /// By fields that hold names: one for variables of the process, one for headers.
    Named {
        env: Option<&'static str>,
        header: Option<&'static str>,
    },
}

impl Variable {
    /// The host has nothing of the kind.
    pub(crate) const NONE: Self = Self::Named {
        env: None,
        header: None,
    };
}

/// A folder that a placeholder of the host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folder {
    /// Where the plugin or extension lies whose file this is.
    Package,
    /// Where that plugin may keep data.
    Data,
    /// The project.
    Workspace,
}

/// A file of the user's: below which folder, and its path there. A part of the path may hold `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserFile {
    /// Below the home.
    Home(&'static str),
    /// Below `~/.config`.
    Config(&'static str),
    /// Where applications keep their settings.
    Application(&'static str),
    /// Below Codex's own folder.
    Codex(&'static str),
}

impl UserFile {
    /// The path below its folder.
    pub(crate) fn tail(self) -> &'static str {
        match self {
            Self::Home(path) | Self::Config(path) | Self::Application(path) | Self::Codex(path) => {
                path
            }
        }
    }
}

/// Everything that makes a dialect.
pub(crate) struct Rules {
    pub(crate) dialect: Dialect,
    /// The word for it on the command line.
    pub(crate) name: &'static str,
    /// The host's name for people.
    pub(crate) title: &'static str,
    /// Whether only the native names and notations are meant: what else there is, is a mistake.
    pub(crate) strict: bool,
    /// Fields whose name or meaning differs from [`COMMON`].
    pub(crate) fields: &'static [(&'static str, Key)],
    /// Fields that are known, and of no use to us.
    pub(crate) ignored: &'static [&'static str],
    pub(crate) unit: Unit,
    pub(crate) bare_url: BareUrl,
    pub(crate) syntax: Syntax,
    /// Whether nothing is filled in but `places`.
    pub(crate) only_places: bool,
    /// Whether a `url` wins over a `command` beside it.
    pub(crate) url_first: bool,
    /// Whether `$(command)` in a value is run by the host. Ours never runs it.
    pub(crate) runs_commands: bool,
    /// Whether `{{NAME}}` in a value is filled in by the host alone.
    pub(crate) double_braces: bool,
    pub(crate) variable: Variable,
    /// Placeholders that name folders, besides those that all know.
    pub(crate) places: &'static [(&'static str, Folder)],
    /// The user's files, the usual one first.
    pub(crate) user: &'static [UserFile],
    /// The project's files, below the project.
    pub(crate) project: &'static [&'static str],
    /// Other ends of paths by which its files are recognised.
    pub(crate) names: &'static [&'static str],
    /// Finds the entries.
    pub(crate) locate: fn(&Node, &Place<'_>) -> Located,
}

/// What most hosts have in common; each says in what it differs.
pub(crate) const USUAL: Rules = Rules {
    dialect: Dialect::Native,
    name: "",
    title: "",
    strict: false,
    fields: &[],
    ignored: &[],
    unit: Unit::Guess,
    bare_url: BareUrl::Detect,
    syntax: Syntax::editor().unset(WhenUnset::KeepLiteral),
    only_places: false,
    url_first: false,
    runs_commands: false,
    double_braces: false,
    variable: Variable::Written("${NAME}"),
    places: &[],
    user: &[],
    project: &[],
    names: &[],
    locate: super::located::mcp_servers,
};

/// What a dialect may look at besides the document.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The folder of the project, where one is known: `~/.claude.json` has a map for each.
    pub(crate) workspace: Option<&'a Path>,
    /// The file, when it is one.
    pub(crate) path: Option<&'a Path>,
}

/// The names that every dialect knows, besides those of the fields that are read by their types.
pub(crate) const COMMON: &[(&str, Key)] = &[
    ("description", Key::Description),
    ("command", Key::Command),
    ("args", Key::Args),
    ("env", Key::Env),
    ("env_file", Key::EnvFile),
    ("envFile", Key::EnvFile),
    ("inherit_env", Key::InheritEnv),
    ("cwd", Key::Cwd),
    ("url", Key::Url),
    ("serverUrl", Key::Url),
    ("baseUrl", Key::Url),
    ("httpUrl", Key::HttpUrl),
    ("headers", Key::Headers),
    ("http_headers", Key::Headers),
    ("headers_helper", Key::HeadersHelper),
    ("headersHelper", Key::HeadersHelper),
    ("bearer_token", Key::BearerToken),
    ("bearerToken", Key::BearerToken),
    ("bearer_token_env_var", Key::BearerEnv),
    ("bearerTokenEnv", Key::BearerEnv),
    ("env_http_headers", Key::EnvHeaders),
    ("oauth", Key::OAuth),
    ("oauthClient", Key::OAuth),
    ("auth", Key::Auth),
    ("transport", Key::Transport),
    ("type", Key::Transport),
    ("transportType", Key::Transport),
    ("enabled", Key::Enabled),
    ("disabled", Key::Disabled),
    ("protocol", Key::Protocol),
    ("tools", Key::Tools),
    ("enabled_tools", Key::ToolsAllow),
    ("includeTools", Key::ToolsAllow),
    ("allowedTools", Key::ToolsAllow),
    ("disabled_tools", Key::ToolsDeny),
    ("excludeTools", Key::ToolsDeny),
    ("disabledTools", Key::ToolsDeny),
    ("blockedTools", Key::ToolsDeny),
    ("timeout", Key::Timeout(None)),
    ("startup_timeout", Key::StartupTimeout(None)),
    (
        "startup_timeout_sec",
        Key::StartupTimeout(Some(Unit::Seconds)),
    ),
    (
        "startup_timeout_ms",
        Key::StartupTimeout(Some(Unit::Milliseconds)),
    ),
    ("tool_timeout_sec", Key::Timeout(Some(Unit::Seconds))),
    ("read_idle_timeout", Key::ReadIdleTimeout(None)),
    ("ca_file", Key::CaFile),
    ("proxy", Key::Proxy),
    ("$comment", Key::Ignore),
    ("_comment", Key::Ignore),
    ("//", Key::Ignore),
    ("autoApprove", Key::Ignore),
    ("alwaysAllow", Key::Ignore),
];

/// Names that are met in files of many programs, and are mistakes in ours.
const FOREIGN: &[(&str, Key)] = &[
    ("cmd", Key::Command),
    ("executable", Key::Command),
    ("arguments", Key::Args),
    ("environment", Key::Env),
    ("envs", Key::Env),
    ("env_vars", Key::EnvNames),
    ("envVars", Key::EnvNames),
    ("connection", Key::Transport),
    ("params", Key::Transport),
    ("server_params", Key::Transport),
    ("requestInit", Key::RequestOptions),
    ("customHeaders", Key::Headers),
    ("custom_headers", Key::Headers),
    ("extra_headers", Key::Headers),
    ("bearerTokenEnvVar", Key::BearerEnv),
    ("working_directory", Key::Cwd),
    ("workingDirectory", Key::Cwd),
    ("working_dir", Key::Cwd),
    ("workingDir", Key::Cwd),
    ("workdir", Key::Cwd),
    ("serverURL", Key::Url),
    ("server_url", Key::Url),
    ("base_url", Key::Url),
    ("uri", Key::Url),
    ("endpoint", Key::Url),
    ("http_url", Key::HttpUrl),
    ("transport_type", Key::Transport),
    ("isActive", Key::Enabled),
    ("is_active", Key::Enabled),
    ("active", Key::Enabled),
    ("oauthScopes", Key::Scopes),
    ("oauth_scopes", Key::Scopes),
    ("allowed_tools", Key::ToolsAllow),
    ("excludedTools", Key::ToolsDeny),
    ("requestTimeout", Key::Timeout(None)),
    ("timeout_ms", Key::Timeout(Some(Unit::Milliseconds))),
    ("timeoutMs", Key::Timeout(Some(Unit::Milliseconds))),
    ("timeout_seconds", Key::Timeout(Some(Unit::Seconds))),
    ("timeoutSeconds", Key::Timeout(Some(Unit::Seconds))),
    ("startupTimeout", Key::StartupTimeout(None)),
    ("initTimeout", Key::StartupTimeout(None)),
    ("connectionTimeout", Key::StartupTimeout(None)),
    (
        "startupTimeoutMs",
        Key::StartupTimeout(Some(Unit::Milliseconds)),
    ),
    ("sse_read_timeout", Key::ReadIdleTimeout(None)),
];

/// Fields for people and for other parts of a program, met in files of many.
const DECORATION: &[&str] = &[
    "name",
    "title",
    "displayName",
    "display_name",
    "id",
    "icon",
    "iconUrl",
    "iconPath",
    "icons",
    "logo",
    "logoUrl",
    "tags",
    "category",
    "categories",
    "version",
    "author",
    "homepage",
    "repository",
    "license",
    "comment",
    "comments",
    "note",
    "notes",
    "trust",
    "gallery",
    "autoStart",
    "autostart",
    "scope",
    "capabilities",
    "metadata",
    "instructions",
    "priority",
    "source",
    "provider",
];

impl Key {
    /// Whether it is about how a server is treated, rather than how it is reached: what is odd
    /// there costs no more than itself, in a file that was not written for us.
    pub(crate) fn is_policy(self) -> bool {
        matches!(
            self,
            Self::Description
                | Self::Protocol
                | Self::Tools
                | Self::ToolsAllow
                | Self::ToolsDeny
                | Self::Timeout(_)
                | Self::StartupTimeout(_)
                | Self::ReadIdleTimeout(_)
                | Self::CaFile
                | Self::Proxy
                | Self::ByType(_)
        )
    }
}

impl Rules {
    /// What a field means here; `None` for an unknown one.
    pub(crate) fn key(&self, name: &str) -> Option<Key> {
        let foreign = if self.strict { &[][..] } else { FOREIGN };
        let named = self
            .fields
            .iter()
            .chain(COMMON)
            .chain(foreign)
            .find(|(known, _)| *known == name)
            .map(|(_, key)| *key);
        let by_type = || ServerSettings::fields_by_type().find(|field| *field == name);
        named.or_else(|| by_type().map(Key::ByType)).or_else(|| {
            let of_no_use = self.ignored.contains(&name)
                || (!self.strict && (DECORATION.contains(&name) || name.starts_with(['_', '/'])));
            of_no_use.then_some(Key::Ignore)
        })
    }

    /// All names that it knows, for a hint at a mistyped one.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let named = self.fields.iter().chain(COMMON).map(|(name, _)| *name);
        named.chain(ServerSettings::fields_by_type())
    }

    /// All ends of paths by which its files are recognised.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.user
            .iter()
            // Codex's folder may have any name.
            .filter(|file| !matches!(file, UserFile::Codex(_)))
            .map(|file| file.tail())
            .chain(self.project.iter().copied())
            .chain(self.names.iter().copied())
    }
}
