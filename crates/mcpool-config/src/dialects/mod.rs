//! How each host writes down its servers: one file a host, each mostly a table.
//!
//! A dialect says where the entries stand, what its fields are called, what a bare number and a
//! bare `url` mean, and which placeholders it knows. Everything else is read the same way for
//! all, in `reader.rs`, and every dialect also accepts the native names.

mod claude_code;
mod claude_desktop;
mod cline;
mod codex;
mod r#continue;
mod copilot_cli;
mod cursor;
mod dictionaries;
mod gemini;
mod goose;
mod inspector;
mod kiro;
mod lm_studio;
mod mcporter;
mod native;
mod opencode;
mod recognise;
mod roo;
mod vscode;
mod windsurf;
mod zed;

use std::{fmt, path::Path, str::FromStr};

use mcpool_core::{Error, ErrorKind};

pub(crate) use recognise::recognise;

use crate::{
    diagnose::{Problem, nearest},
    document::{Member, Node, Value},
    template::Syntax,
};

/// A host's way of writing down its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dialect {
    /// mcpool's own, which is `mcpServers` with policies.
    Native,
    /// Claude Desktop.
    ClaudeDesktop,
    /// Claude Code: `.mcp.json`, and `~/.claude.json` with its per-project maps.
    ClaudeCode,
    /// Cursor.
    Cursor,
    /// Visual Studio Code.
    VsCode,
    /// Windsurf.
    Windsurf,
    /// Zed.
    Zed,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// Goose.
    Goose,
    /// Cline.
    Cline,
    /// Roo Code.
    Roo,
    /// Continue.
    Continue,
    /// LM Studio.
    LmStudio,
    /// Kiro.
    Kiro,
    /// opencode, both versions.
    Opencode,
    /// GitHub Copilot CLI.
    CopilotCli,
    /// A FastMCP dictionary.
    FastMcp,
    /// A LangChain dictionary.
    LangChain,
    /// mcporter.
    McPorter,
    /// The catalog of the MCP Inspector.
    Inspector,
}

impl Dialect {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Native,
        Self::ClaudeDesktop,
        Self::ClaudeCode,
        Self::Cursor,
        Self::VsCode,
        Self::Windsurf,
        Self::Zed,
        Self::Codex,
        Self::Gemini,
        Self::Goose,
        Self::Cline,
        Self::Roo,
        Self::Continue,
        Self::LmStudio,
        Self::Kiro,
        Self::Opencode,
        Self::CopilotCli,
        Self::FastMcp,
        Self::LangChain,
        Self::McPorter,
        Self::Inspector,
    ];

    /// The word for it on the command line and in `imports`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::ClaudeDesktop => "claude-desktop",
            Self::ClaudeCode => "claude-code",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
            Self::Windsurf => "windsurf",
            Self::Zed => "zed",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Goose => "goose",
            Self::Cline => "cline",
            Self::Roo => "roo",
            Self::Continue => "continue",
            Self::LmStudio => "lm-studio",
            Self::Kiro => "kiro",
            Self::Opencode => "opencode",
            Self::CopilotCli => "copilot-cli",
            Self::FastMcp => "fastmcp",
            Self::LangChain => "langchain",
            Self::McPorter => "mcporter",
            Self::Inspector => "inspector",
        }
    }

    /// The host's name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.rules().title
    }

    pub(crate) fn rules(self) -> &'static Rules {
        match self {
            Self::Native => &native::RULES,
            Self::ClaudeDesktop => &claude_desktop::RULES,
            Self::ClaudeCode => &claude_code::RULES,
            Self::Cursor => &cursor::RULES,
            Self::VsCode => &vscode::RULES,
            Self::Windsurf => &windsurf::RULES,
            Self::Zed => &zed::RULES,
            Self::Codex => &codex::RULES,
            Self::Gemini => &gemini::RULES,
            Self::Goose => &goose::RULES,
            Self::Cline => &cline::RULES,
            Self::Roo => &roo::RULES,
            Self::Continue => &r#continue::RULES,
            Self::LmStudio => &lm_studio::RULES,
            Self::Kiro => &kiro::RULES,
            Self::Opencode => &opencode::RULES,
            Self::CopilotCli => &copilot_cli::RULES,
            Self::FastMcp => &dictionaries::FASTMCP,
            Self::LangChain => &dictionaries::LANGCHAIN,
            Self::McPorter => &mcporter::RULES,
            Self::Inspector => &inspector::RULES,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    /// Case, `-` and `_` do not matter.
    fn from_str(name: &str) -> Result<Self, Error> {
        let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
        let wanted = match plain(name).as_str() {
            "claude" => "claudecode".to_owned(),
            "code" => "vscode".to_owned(),
            "copilot" => "copilotcli".to_owned(),
            "geminicli" => "gemini".to_owned(),
            "roocode" => "roo".to_owned(),
            other => other.to_owned(),
        };
        Self::ALL
            .iter()
            .copied()
            .find(|dialect| plain(dialect.as_str()) == wanted)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|dialect| dialect.as_str()).collect();
                let hint = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("known: {}", names.join(", ")),
                };
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!("{name:?} is not a config dialect; {hint}"),
                )
            })
    }
}

/// What a bare number for a duration means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// It is refused: ours always have a unit.
    Refuse,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Nobody knows: a warning, and the default stays.
    Unknown,
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
    Required,
    Start,
    Lazy,
    IdleTimeout,
    Instances,
    Protocol,
    /// `{allow, deny}`, or a list of allowed names.
    Tools,
    ToolsAllow,
    ToolsDeny,
    Timeout(Option<Unit>),
    MaxTimeout,
    StartupTimeout(Option<Unit>),
    DiscoverTimeout,
    ConnectTimeout,
    ReadIdleTimeout(Option<Unit>),
    CaFile,
    Proxy,
    Reconnect,
    Health,
    Limits,
    Shutdown,
    CatalogTtl,
    TrustAnnotations,
    /// Known, and of no use to us.
    Ignore,
}

/// Everything that makes a dialect.
pub(crate) struct Rules {
    pub(crate) dialect: Dialect,
    pub(crate) title: &'static str,
    /// Fields whose name or meaning differs from [`COMMON`].
    pub(crate) fields: &'static [(&'static str, Key)],
    pub(crate) unit: Unit,
    pub(crate) bare_url: BareUrl,
    pub(crate) syntax: Syntax,
    /// Finds the entries.
    pub(crate) locate: fn(&Node, &Place<'_>) -> Located,
}

/// What a dialect may look at besides the document.
pub(crate) struct Place<'a> {
    /// The folder of the project, where one is known: `~/.claude.json` has a map for each.
    pub(crate) workspace: Option<&'a Path>,
}

/// Where the entries stand.
#[derive(Default)]
pub(crate) struct Located {
    /// The entries in the order of the file.
    pub(crate) entries: Vec<Found>,
    /// Entries that are no servers of ours, with the reason.
    pub(crate) skipped: Vec<(String, std::ops::Range<usize>, &'static str)>,
    /// Whether the place for entries was there at all.
    pub(crate) root_found: bool,
    /// The place was there and is of the wrong type.
    pub(crate) wrong_root: Option<(String, std::ops::Range<usize>, &'static str)>,
}

/// One entry of a document.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) name_range: std::ops::Range<usize>,
    pub(crate) node: Node,
}

impl Located {
    /// All members of the object at a path of keys.
    pub(crate) fn map_at(root: &Node, path: &[&str]) -> Self {
        let mut node = root;
        for key in path {
            match node.get(key) {
                Some(next) => node = next,
                None => return Self::default(),
            }
        }
        Self::map(node, &path.join("."))
    }

    /// The first of several paths that is there.
    pub(crate) fn first_of(root: &Node, paths: &[&[&str]]) -> Self {
        paths
            .iter()
            .map(|path| Self::map_at(root, path))
            .find(|located| located.root_found)
            .unwrap_or_default()
    }

    /// All members of an object.
    pub(crate) fn map(node: &Node, name: &str) -> Self {
        match &node.value {
            Value::Object(members) => Self {
                entries: members.iter().map(Found::of).collect(),
                root_found: true,
                ..Self::default()
            },
            Value::Null => Self {
                root_found: true,
                ..Self::default()
            },
            _ => Self {
                root_found: true,
                wrong_root: Some((name.to_owned(), node.range.clone(), node.type_name())),
                ..Self::default()
            },
        }
    }
}

impl Found {
    pub(crate) fn of(member: &Member) -> Self {
        Self {
            name: member.key.clone(),
            name_range: member.key_range.clone(),
            node: member.value.clone(),
        }
    }
}

/// The usual place, and the places that other hosts use, for files that were named wrongly.
pub(crate) fn mcp_servers(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(root, &[&["mcpServers"], &["servers"], &["mcp_servers"]])
}

/// The names that every dialect knows.
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
    ("required", Key::Required),
    ("start", Key::Start),
    ("lazy", Key::Lazy),
    ("idle_timeout", Key::IdleTimeout),
    ("instances", Key::Instances),
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
    ("max_timeout", Key::MaxTimeout),
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
    ("discover_timeout", Key::DiscoverTimeout),
    ("connect_timeout", Key::ConnectTimeout),
    ("read_idle_timeout", Key::ReadIdleTimeout(None)),
    ("ca_file", Key::CaFile),
    ("proxy", Key::Proxy),
    ("reconnect", Key::Reconnect),
    ("health", Key::Health),
    ("limits", Key::Limits),
    ("shutdown", Key::Shutdown),
    ("catalog_ttl", Key::CatalogTtl),
    ("trust_annotations", Key::TrustAnnotations),
    ("$comment", Key::Ignore),
    ("_comment", Key::Ignore),
    ("//", Key::Ignore),
    ("autoApprove", Key::Ignore),
    ("alwaysAllow", Key::Ignore),
];

impl Rules {
    /// What a field means here; `None` for an unknown one.
    pub(crate) fn key(&self, name: &str) -> Option<Key> {
        self.fields
            .iter()
            .chain(COMMON)
            .find(|(known, _)| *known == name)
            .map(|(_, key)| *key)
    }

    /// All names that it knows.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().chain(COMMON).map(|(name, _)| *name)
    }
}

/// The problem for a document in which no place for entries was found.
pub(crate) fn no_root(dialect: Dialect, root: &Node) -> Problem {
    let keys: Vec<&str> = root.members().iter().map(|m| m.key.as_str()).collect();
    let roots = [
        "mcpServers",
        "servers",
        "mcp_servers",
        "context_servers",
        "extensions",
        "mcp",
    ];
    let near = keys
        .iter()
        .find_map(|key| nearest(key, roots).map(|root| (*key, root)));
    let message = match dialect {
        Dialect::Native => "the file declares no servers: `mcpServers` is missing".to_owned(),
        other => format!(
            "the file declares no servers in the way of {}",
            other.title()
        ),
    };
    let help = match near {
        Some((key, root)) => format!("did you mean `{root}` instead of `{key}`?"),
        None if !root.is_object() => {
            format!("the file must be an object, and is {}", root.type_name())
        }
        None => "write `\"mcpServers\": { \"name\": { \"command\": … } }`, or name the dialect with `--dialect`".to_owned(),
    };
    Problem::error("no-servers", message).help(help)
}
