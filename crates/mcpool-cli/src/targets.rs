//! Servers that stand in no config: a URL in the place of a server's name, or `--stdio`.

use std::mem;

use clap::Args;
use mcpool::config::{
    Loader,
    settings::{FileSettings, HeaderMap, ServerSettings},
};

use crate::{
    args::{BenchArgs, CallArgs, Command},
    commands::{config::ConfigCommand, login::LoginArgs, tools::ToolsArgs},
    exit::Failure,
    render::out,
    text,
};

/// The name that the program gives to what the command line says, where a file would have one.
const SOURCE: &str = "the command line";

/// How a server is reached that stands in no config.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TargetFlags {
    /// Use this command as the server; an HTTP server is named by its URL, in the place of SERVER
    #[arg(long, value_name = "COMMAND", global = true)]
    #[arg(help_heading = HEADING)]
    stdio: Option<String>,

    /// A header for a URL, as 'NAME: VALUE'; ${VARIABLE} is filled in; may be given several times
    #[arg(long = "header", value_name = "HEADER", global = true)]
    #[arg(help_heading = HEADING)]
    pub(crate) headers: Vec<String>,

    /// A variable for a command, or the NAME of one to pass on; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", global = true)]
    #[arg(help_heading = HEADING)]
    pub(crate) env: Vec<String>,

    /// The variable that holds the bearer token for a URL
    #[arg(long, value_name = "VARIABLE", global = true)]
    #[arg(help_heading = HEADING)]
    pub(crate) bearer_env: Option<String>,
}

const HEADING: &str = "Servers without a config";

impl TargetFlags {
    /// The settings of an HTTP server, as a config file would have them.
    pub(crate) fn of_url(&self, url: &str) -> Result<ServerSettings, Failure> {
        if !self.env.is_empty() {
            return Err(Failure::usage(text!(
                "--env is for a command, and {} is a URL",
                url
            )));
        }
        let mut settings = ServerSettings::default();
        settings.url = Some(url.to_owned());
        settings.headers = HeaderMap(
            self.headers
                .iter()
                .map(|header| pair(header, &[':', '=']))
                .collect::<Result<_, _>>()?,
        );
        let variable = self.bearer_env.as_ref();
        settings.bearer_token = variable.map(|variable| format!("${{{variable}}}"));
        Ok(settings)
    }

    /// The settings of a stdio server.
    pub(crate) fn of_command(&self, words: Vec<String>) -> Result<ServerSettings, Failure> {
        if !self.headers.is_empty() || self.bearer_env.is_some() {
            return Err(Failure::usage(text!(
                "--header and --bearer-env are for a URL; a command takes --env"
            )));
        }
        let mut settings = ServerSettings::default();
        let mut words = words.into_iter();
        settings.command = words.next();
        settings.args = words.collect();
        settings.env = self
            .env
            .iter()
            .map(|variable| match variable.contains('=') {
                true => pair(variable, &['=']),
                false => Ok((variable.clone(), format!("${{{variable}}}"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(settings)
    }

    fn are_unused(&self) -> bool {
        self.headers.is_empty() && self.env.is_empty() && self.bearer_env.is_none()
    }
}

/// A server of the command line's own.
#[derive(Debug)]
pub(crate) struct Target {
    name: String,
    settings: ServerSettings,
}

impl Target {
    /// What the command line says, when it names a server that stands in no config. The server's
    /// name takes the place of the URL among the command's words, or comes before them.
    pub(crate) fn of(flags: &TargetFlags, command: &mut Command) -> Result<Option<Self>, Failure> {
        // Its own `--stdio` is the client's side.
        #[cfg(feature = "gateway")]
        if matches!(command, Command::Serve(_)) {
            return Ok(None);
        }
        let Some(stdio) = &flags.stdio else {
            return Self::of_url(flags, command);
        };
        let words = shlex::split(stdio).filter(|words| !words.is_empty());
        let words =
            words.ok_or_else(|| Failure::usage(text!("--stdio: {} is no command", stdio)))?;
        let name = name_of_command(&words);
        if !command.insert_server(&name) {
            return Err(Failure::usage(text!(
                "--stdio names the server, and so does a word of this command"
            )));
        }
        let settings = flags.of_command(words)?;
        Ok(Some(Self { name, settings }))
    }

    fn of_url(flags: &TargetFlags, command: &mut Command) -> Result<Option<Self>, Failure> {
        let uses_flags = command.takes_target_flags();
        match command.server_mut().filter(|server| is_url(server)) {
            Some(server) => {
                let settings = flags.of_url(server)?;
                let name = name_of_url(server);
                server.clone_from(&name);
                Ok(Some(Self { name, settings }))
            }
            None if flags.are_unused() || uses_flags => Ok(None),
            None => Err(Failure::usage(text!(
                "--header, --env and --bearer-env describe a server that stands in no config: \
                 name its URL, or its command with --stdio"
            ))),
        }
    }

    /// Its address, where it has one.
    pub(crate) fn url(&self) -> Option<&str> {
        self.settings.url.as_deref()
    }

    /// The words that name it on the command line.
    pub(crate) fn words(&self) -> Vec<String> {
        let program = self.settings.command.iter().chain(&self.settings.args);
        match &self.settings.url {
            Some(url) => vec![url.clone()],
            None => vec![
                "--stdio".to_owned(),
                // It was split by the same rules.
                shlex::try_join(program.map(String::as_str)).unwrap_or_default(),
            ],
        }
    }

    /// A loader that knows this server alone.
    pub(crate) fn loader(&self) -> Result<Loader, Failure> {
        loader_of(&self.name, self.settings.clone())
    }
}

impl Command {
    /// The word that names its server.
    fn server_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Call(CallArgs { server, .. }) => Some(server),
            Self::Bench(BenchArgs { server, .. }) => Some(server),
            Self::Login(LoginArgs { server, .. }) | Self::Logout { server } => Some(server),
            Self::Status { server }
            | Self::Health { server }
            | Self::Doctor { server }
            | Self::Resources { server, .. }
            | Self::Prompts { server, .. } => server.as_mut(),
            Self::Tools(ToolsArgs { server, .. }) => server.as_mut(),
            Self::Watch(args) => args.server.as_mut(),
            Self::Shell(args) => args.server.as_mut(),
            Self::Auth { command } => command.server_mut(),
            #[cfg(feature = "gateway")]
            Self::Serve(_) => None,
            Self::Demo
            | Self::List
            | Self::Config { .. }
            | Self::Trust(_)
            | Self::Completions(_)
            | Self::Man
            | Self::DemoServer => None,
        }
    }

    /// Puts the name of a server before its words, where it can have one more.
    fn insert_server(&mut self, name: &str) -> bool {
        let name = name.to_owned();
        match self {
            Self::Call(CallArgs {
                server,
                tool,
                pairs,
                ..
            })
            | Self::Bench(BenchArgs {
                server,
                tool,
                pairs,
                ..
            }) => {
                let first = mem::replace(server, name);
                pairs.splice(0..0, tool.replace(first));
                true
            }
            Self::Prompts {
                server,
                get,
                arguments,
                ..
            } => {
                arguments.splice(0..0, server.replace(name));
                arguments.is_empty() || get.is_some()
            }
            Self::Tools(ToolsArgs { server, tool, .. }) => match server.replace(name) {
                None => true,
                first => tool.replace(first.unwrap_or_default()).is_none(),
            },
            Self::Status { server }
            | Self::Health { server }
            | Self::Doctor { server }
            | Self::Resources { server, .. } => server.replace(name).is_none(),
            Self::Watch(args) => args.server.replace(name).is_none(),
            Self::Shell(args) => args.server.replace(name).is_none(),
            #[cfg(feature = "gateway")]
            Self::Serve(_) => false,
            // A login is for a URL.
            Self::Login(_) | Self::Logout { .. } | Self::Auth { .. } => false,
            Self::Demo
            | Self::List
            | Self::Config { .. }
            | Self::Trust(_)
            | Self::Completions(_)
            | Self::Man
            | Self::DemoServer => false,
        }
    }

    /// Whether it uses the flags by itself.
    fn takes_target_flags(&self) -> bool {
        matches!(
            self,
            Self::Config {
                command: ConfigCommand::Add(_)
            }
        )
    }
}

/// A loader of one server that a person has described: its settings are read as a file's are.
pub(crate) fn loader_of(name: &str, settings: ServerSettings) -> Result<Loader, Failure> {
    let mut file = FileSettings::default();
    file.mcp_servers.insert(name.to_owned(), settings);
    let text = serde_json::to_string_pretty(&file)
        .map_err(|error| Failure::internal(text!("{}", error.to_string())))?;
    Ok(Loader::new()
        .with_masker(out::masker().clone())
        .with_dialect(mcpool::config::Dialect::Native)
        .with_text(SOURCE, text))
}

/// Whether a word is the address of a server.
pub(crate) fn is_url(word: &str) -> bool {
    let starts = |scheme: &str| {
        word.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    starts("https://") || starts("http://")
}

/// What a server is called that has only a URL: its host, with the port where it says one.
fn name_of_url(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // What stands before the `@` may be a password.
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host {
        "" => "url".to_owned(),
        host => host.to_owned(),
    }
}

/// What a server is called that has only a command: the program, or what a launcher launches.
fn name_of_command(words: &[String]) -> String {
    const LAUNCHERS: [&str; 12] = [
        "npx", "bunx", "pnpx", "uvx", "uv", "pipx", "node", "bun", "deno", "python", "python3",
        "docker",
    ];
    let program = words.first().map_or("", |word| file_name(word));
    let is_launcher =
        LAUNCHERS.contains(&program.trim_end_matches(".exe").trim_end_matches(".cmd"));
    let launched = words.iter().skip(1).filter(|_| is_launcher).find(|word| {
        !word.starts_with('-') && !["run", "tool", "exec", "dlx", "x"].contains(&word.as_str())
    });
    let name = launched.map_or(program, |word| file_name(word));
    // `server@1.2.3`; a scope, `@scope/server`, ended before the slash.
    let name = name.split('@').find(|part| !part.is_empty());
    name.unwrap_or("stdio").to_owned()
}

fn file_name(word: &str) -> &str {
    let word = word.trim_end_matches(['/', '\\']);
    word.rsplit(['/', '\\']).next().unwrap_or(word)
}

/// A name and its value.
pub(crate) fn pair(text: &str, separators: &[char]) -> Result<(String, String), Failure> {
    match text.split_once(separators) {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim_start().to_owned()))
        }
        // The text is not repeated: it may be a secret.
        _ => Err(Failure::usage(text!(
            "a header is written 'NAME: VALUE', a variable NAME=VALUE"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn a_server_without_a_config_has_a_name() {
        let of = |line: &str| name_of_command(&shlex::split(line).unwrap());
        for (line, name) in [
            (
                "npx -y @modelcontextprotocol/server-everything stdio",
                "server-everything",
            ),
            ("npx -y some-server@1.2", "some-server"),
            ("uvx mcp-server-time", "mcp-server-time"),
            ("uv run server.py", "server.py"),
            ("/usr/bin/my-server --root /", "my-server"),
            ("npx -y", "npx"),
            ("'@'", "stdio"),
        ] {
            assert_eq!(of(line), name, "{line}");
        }
        for (url, name) in [
            ("https://example.org/mcp", "example.org"),
            ("HTTP://localhost:3000", "localhost:3000"),
            ("https://me:secret@example.org?token=1", "example.org"),
            ("https://", "url"),
        ] {
            assert!(is_url(url));
            assert_eq!(name_of_url(url), name, "{url}");
        }
        assert!(!is_url("files"));
        assert!(!is_url("ftp://example.org"));
    }

    fn target(words: &[&str]) -> Result<(Option<Target>, Command), String> {
        let line = ["mcpool"].iter().chain(words);
        let Cli {
            global,
            mut command,
        } = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        let target = Target::of(&global.target, &mut command);
        let target = target.map_err(|failure| failure.to_text().as_str().to_owned())?;
        Ok((target, command))
    }

    #[test]
    fn every_command_takes_a_server_without_a_config() {
        for (words, settings) in [
            (
                &["tools", "https://h/mcp"][..],
                r#"{"url":"https://h/mcp"}"#,
            ),
            (
                &[
                    "call",
                    "https://h/mcp",
                    "echo",
                    "--header",
                    "X: a=b",
                    "--bearer-env",
                    "T",
                ],
                r#"{"url":"https://h/mcp","headers":{"X":"a=b"},"bearer_token":"${T}"}"#,
            ),
            (
                &[
                    "call",
                    "echo",
                    "message=hi",
                    "--stdio",
                    "srv 'a b'",
                    "--env",
                    "K=v",
                    "--env",
                    "P",
                ],
                r#"{"command":"srv","args":["a b"],"env":{"K":"v","P":"${P}"}}"#,
            ),
            (&["status", "--stdio", "srv"], r#"{"command":"srv"}"#),
            (&["doctor", "--stdio", "srv"], r#"{"command":"srv"}"#),
            (&["login", "https://h/mcp"], r#"{"url":"https://h/mcp"}"#),
        ] {
            let (target, _) = target(words).unwrap();
            let found = serde_json::to_string(&target.unwrap().settings).unwrap();
            assert_eq!(found, settings, "{words:?}");
        }
        let (_, command) = target(&["call", "echo", "message=hi", "--stdio", "srv"]).unwrap();
        let Command::Call(args) = command else {
            panic!("{command:?}");
        };
        assert_eq!(
            (args.server.as_str(), args.tool.as_deref()),
            ("srv", Some("echo"))
        );
        assert_eq!(args.pairs, ["message=hi"]);
    }

    #[test]
    fn what_describes_no_server_is_refused() {
        for words in [
            &["tools", "--header", "X: y"][..],
            &["tools", "https://h", "--env", "K=v"],
            &["tools", "--stdio", "srv", "--header", "X: y"],
            &["tools", "--stdio", "'"],
            &["tools", "--stdio", ""],
            &["doctor", "files", "--stdio", "srv"],
            &["config", "schema", "--stdio", "srv"],
        ] {
            assert!(target(words).is_err(), "{words:?}");
        }
        assert!(target(&["tools", "files"]).unwrap().0.is_none());
    }
}
