//! How a server is reached, settled from everything that was read.

use std::ops::Range;

use super::entry::EntryReader;
use crate::{
    dialects::{BareUrl, Found, Key},
    document::Node,
    problem::{Problem, nearest},
    settings::{OAuthSettings, TransportName},
};

impl EntryReader<'_> {
    pub(super) fn transport_name(&mut self, name: &str, node: &Node) {
        self.note_field("transport", node);
        // Cline nests it: `transport: {type, command, …}`.
        if node.is_object() {
            for member in node.members() {
                match self.rules.key(&member.key) {
                    Some(Key::Ignore) => self.hide(&member.value),
                    Some(key) => self.field(key, &member.key, &member.value),
                    None => self.unknown_field(&format!("{name}.{}", member.key), member),
                }
            }
            return;
        }
        let Some(text) = self.text(name, node) else {
            return;
        };
        self.settings.transport = match transport_of(&text) {
            Some(Word::Known(TransportName::Http))
                if text.eq_ignore_ascii_case("remote")
                    && self.rules.bare_url == BareUrl::Detect =>
            {
                // opencode's word for any URL.
                Some(TransportName::Auto)
            }
            Some(Word::Known(transport)) => Some(transport),
            Some(Word::NotMcp) => {
                self.problem(
                    Problem::error(
                        "unsupported-transport",
                        format!("the transport `{text}` is not one of MCP's and mcpool does not speak it"),
                    )
                    .help("use `stdio`, `http` or `sse`"),
                    &node.range,
                );
                None
            }
            None => {
                let known = ["stdio", "http", "streamable-http", "sse", "auto"];
                let help = match nearest(&text, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "use `stdio`, `http`, `sse` or `auto`".to_owned(),
                };
                let message = format!("unknown transport `{text}`");
                // A word of some program's own: the rest of the entry says what is meant.
                let problem = match self.rules.strict {
                    true => Problem::error("wrong-value", message),
                    false => Problem::warning("wrong-value", format!("{message}: it is left out")),
                };
                self.problem(problem.help(help), &node.range);
                None
            }
        };
    }

    pub(super) fn is_transport_word(&self, text: &str) -> bool {
        transport_of(text).is_some() && !text.eq_ignore_ascii_case("auto")
    }

    pub(super) fn name(&mut self, found: &Found) {
        if let Err(error) = mcpool_core::ServerName::new(&found.name) {
            self.problem(
                Problem::error("server-name", error.message().to_owned()).help(
                    "a name has 1 to 128 bytes, no control characters, and no space at either end",
                ),
                &found.name_range,
            );
        }
    }

    /// Settles how the server is reached, from all that was read.
    pub(super) fn transport(&mut self, found: &Found) {
        let command_range = self
            .range_of("command")
            .unwrap_or_else(|| found.name_range.clone());
        let url_range = self
            .range_of("url")
            .unwrap_or_else(|| found.name_range.clone());
        if self.url_is_http && self.settings.transport.is_none() {
            self.settings.transport = Some(TransportName::Http);
        }
        if self
            .problems
            .iter()
            .any(|p| p.code == "unsupported-transport")
        {
            return;
        }
        self.url_in_command(&command_range);
        let settings = &self.settings;
        match (&settings.command, &settings.url, settings.transport) {
            // Say nothing more of an entry whose command or URL was already refused.
            (None, None, _)
                if self.range_of("command").is_some() || self.range_of("url").is_some() => {}
            // opencode switches a server of a wider file off in this way.
            (None, None, _) if settings.enabled == Some(false) => {
                self.switched_off = true;
                let range = found.name_range.clone();
                self.problem(
                    Problem::note("skipped", "left out: it is disabled, and says nothing more"),
                    &range,
                );
            }
            (None, None, _) => {
                let range = found.name_range.clone();
                self.problem(
                    Problem::error("no-transport", "neither `command` nor `url` is set")
                        .label("this server cannot be reached")
                        .help("give a `command` for a process or a `url` for an HTTP server"),
                    &range,
                );
            }
            (Some(_), Some(_), None) if self.rules.strict => self.problem(
                Problem::error("two-transports", "both `command` and `url` are there")
                    .help("remove one, or say which with `transport`"),
                &url_range,
            ),
            (Some(_), Some(_), None) => {
                let (used, other) = match self.rules.url_first {
                    true => ("url", "command"),
                    false => ("command", "url"),
                };
                self.problem(
                    Problem::warning(
                        "two-transports",
                        format!("both `command` and `url` are there: the `{used}` is used"),
                    )
                    .help(format!("remove the `{other}`")),
                    &url_range,
                );
                if self.rules.url_first {
                    self.settings.command = None;
                    self.bare_url(&url_range);
                } else {
                    self.settings.url = None;
                    self.settings.transport = Some(TransportName::Stdio);
                }
            }
            (None, Some(_), Some(TransportName::Stdio)) => self.problem(
                Problem::error(
                    "wrong-transport",
                    "the transport is `stdio`, and there is a `url` instead of a `command`",
                )
                .help("give a `command`, or set `transport` to `http` or `sse`"),
                &url_range,
            ),
            (
                Some(_),
                None,
                Some(TransportName::Http | TransportName::Sse | TransportName::Auto),
            ) => {
                self.problem(
                    Problem::error(
                        "wrong-transport",
                        "the transport is HTTP, and there is a `command` instead of a `url`",
                    )
                    .help("give a `url`, or remove `transport`"),
                    &command_range,
                );
            }
            (Some(_), None, _) => self.settings.transport = Some(TransportName::Stdio),
            (None, Some(_), None) => self.bare_url(&url_range),
            _ => {}
        }
        match self.settings.transport {
            Some(TransportName::Stdio) => self.check_command(&command_range),
            Some(_) => {
                #[cfg(feature = "url")]
                self.check_url(&url_range);
                self.check_no_process();
            }
            // The transport was refused: that is enough.
            None => {}
        }
    }

    /// The notation of an older system: the URL in `command`, the headers in `env`.
    pub(super) fn url_in_command(&mut self, range: &Range<usize>) {
        let http = !matches!(self.settings.transport, Some(TransportName::Stdio));
        let Some(command) = self
            .settings
            .command
            .clone()
            .filter(|text| http && is_url(text))
        else {
            return;
        };
        if self.settings.url.is_some() {
            return;
        }
        self.settings.url = Some(command);
        self.settings.command = None;
        self.fields.push(("url".to_owned(), range.clone()));
        let mut help = "write it as `url`".to_owned();
        let env = std::mem::take(&mut self.settings.env);
        if !env.is_empty() {
            help.push_str(", and the headers as `headers` instead of `env`");
        }
        for (name, value) in env {
            let place = self
                .range_of(&format!("env.{name}"))
                .unwrap_or_else(|| range.clone());
            if self.header_name(&name, &place) {
                self.fields.push((format!("headers.{name}"), place));
                self.set_header(name, value);
            }
        }
        self.problem(
            Problem::note(
                "url-in-command",
                "the URL stands in `command`; it is read as `url`",
            )
            .help(help),
            range,
        );
    }

    pub(super) fn bare_url(&mut self, range: &Range<usize>) {
        let title = self.rules.title;
        self.settings.transport = Some(match self.rules.bare_url {
            BareUrl::Detect => TransportName::Auto,
            BareUrl::Http => TransportName::Http,
            BareUrl::Sse => TransportName::Sse,
            BareUrl::ByPath => {
                let path_says_sse = self.settings.url.as_deref().is_some_and(|url| {
                    url.split(['?', '#'])
                        .next()
                        .unwrap_or_default()
                        .split('/')
                        .skip(3)
                        .any(|segment| segment == "sse")
                });
                if path_says_sse {
                    TransportName::Sse
                } else {
                    TransportName::Http
                }
            }
            BareUrl::HostRefuses => {
                self.problem(
                    Problem::warning(
                        "bare-url",
                        format!("there is a `url` without a `type`: {title} refuses it, mcpool tries Streamable HTTP and then SSE"),
                    )
                    .help("add `\"type\": \"http\"` or `\"type\": \"sse\"`"),
                    range,
                );
                TransportName::Auto
            }
        });
    }

    pub(super) fn check_command(&mut self, range: &Range<usize>) {
        let Some(command) = self.settings.command.clone() else {
            return;
        };
        if command.trim().is_empty() {
            self.problem(Problem::error("wrong-value", "`command` is empty"), range);
        } else if command.contains('\0') {
            self.problem(
                Problem::error("wrong-value", "`command` holds a NUL character"),
                range,
            );
        } else if self.settings.args.is_empty() && is_command_line(&command) {
            self.problem(
                Problem::warning(
                    "command-line",
                    "`command` holds spaces and is not run by a shell",
                )
                .help("put the program in `command` and the rest in `args`"),
                range,
            );
        }
        let header = self.settings.headers.0.first();
        let header = header.map(|(name, _)| format!("headers.{name}"));
        let oauth = self.settings.oauth.as_ref();
        let asks_for_login = oauth.is_some_and(|oauth| *oauth != OAuthSettings::default());
        self.useless("stdio", "headers", header);
        self.useless("stdio", "oauth", asks_for_login.then(|| "oauth".to_owned()));
        let token = self.settings.bearer_token.as_ref();
        self.useless(
            "stdio",
            "bearer_token",
            token.map(|_| "bearer_token".to_owned()),
        );
    }

    /// Warns of a field that the transport has no use for, at the place of its first part.
    fn useless(&mut self, transport: &str, field: &str, part: Option<String>) {
        let Some(range) = part.and_then(|part| self.range_of(&part)) else {
            return;
        };
        let article = if transport == "stdio" { "a" } else { "an" };
        self.problem(
            Problem::warning(
                "useless-field",
                format!("{article} {transport} server has no `{field}`: it is ignored"),
            )
            .label("ignored"),
            &range,
        );
    }

    /// Warns of the fields of a process beside a URL.
    fn check_no_process(&mut self) {
        let variable = self
            .settings
            .env
            .keys()
            .next()
            .map(|name| format!("env.{name}"));
        let argument = (!self.settings.args.is_empty()).then(|| "args[0]".to_owned());
        let there = |text: &Option<String>, field: &str| text.as_ref().map(|_| field.to_owned());
        let cwd = there(&self.settings.cwd, "cwd");
        let env_file = there(&self.settings.env_file, "env_file");
        self.useless("HTTP", "args", argument);
        self.useless("HTTP", "env", variable);
        self.useless("HTTP", "env_file", env_file);
        self.useless("HTTP", "cwd", cwd);
    }
}

/// Programs that start servers, and need arguments for it.
const LAUNCHERS: &[&str] = &[
    "bun", "bunx", "cmd", "deno", "docker", "node", "npm", "npx", "pipx", "pnpm", "podman",
    "python", "python3", "uv", "uvx", "yarn",
];

/// Whether a command holds its arguments as well, rather than a path with spaces.
fn is_command_line(command: &str) -> bool {
    match command.trim().split_once(' ') {
        Some((program, _)) => LAUNCHERS.contains(&program) || !command.contains(['/', '\\', '$']),
        None => false,
    }
}

/// What a word for a transport means.
enum Word {
    Known(TransportName),
    /// A transport that is not one of MCP's.
    NotMcp,
}

/// The words of all hosts, without case, `-` and `_`.
fn transport_of(text: &str) -> Option<Word> {
    let plain = text.to_lowercase().replace(['-', '_', ' '], "");
    Some(Word::Known(match plain.as_str() {
        "stdio" | "local" | "command" | "process" => TransportName::Stdio,
        "http" | "https" | "streamablehttp" | "streamable" | "httpstream" | "streaminghttp"
        | "remote" => TransportName::Http,
        "sse" => TransportName::Sse,
        "auto" => TransportName::Auto,
        "ws" | "wss" | "websocket" | "tcp" => return Some(Word::NotMcp),
        _ => return None,
    }))
}

pub(super) fn is_url(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("http://") || text.starts_with("https://")
}
