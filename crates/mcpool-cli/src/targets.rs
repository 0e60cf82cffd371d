//! Servers that stand in no config: a URL in the place of a server's name, or `--stdio`.

use clap::Args;
use mcpool::config::{
    Loader,
    settings::{FileSettings, HeaderMap, ServerSettings},
};

use crate::{exit::Failure, render::out, text};

/// The name that the program gives to what the command line says, where a file would have one.
const SOURCE: &str = "the command line";

/// How a server is reached that stands in no config.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TargetFlags {
    /// Use this command as the server; it starts in the current directory. An HTTP server is named
    /// by its URL, in place of SERVER
    #[arg(long, value_name = "COMMAND", global = true)]
    #[arg(help_heading = HEADING)]
    pub(crate) stdio: Option<String>,

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

    /// Whether none of those that describe a server is given, but for its command.
    pub(crate) fn are_unused(&self) -> bool {
        self.headers.is_empty() && self.env.is_empty() && self.bearer_env.is_none()
    }
}

/// A server of the command line's own.
#[derive(Debug)]
pub(crate) struct Target {
    name: String,
    pub(crate) settings: ServerSettings,
}

impl Target {
    /// The server at a URL, and how it is reached.
    pub(crate) fn of_url(flags: &TargetFlags, url: &str) -> Result<Self, Failure> {
        Ok(Self {
            name: name_of_url(url),
            settings: flags.of_url(url)?,
        })
    }

    /// The server that a command starts, which is split as a shell splits it.
    pub(crate) fn of_command(flags: &TargetFlags, command: &str) -> Result<Self, Failure> {
        let wrong = |why: &'static str| Failure::usage(text!("--stdio: {}: {}", why, command));
        let words = shlex::split(command).ok_or_else(|| wrong("a quote is not closed"))?;
        if words.is_empty() {
            return Err(wrong("there is no command"));
        }
        let name = name_of_command(&words);
        let mut settings = flags.of_command(words)?;
        // As the shell would start it into which it was typed.
        let here = std::env::current_dir().ok();
        let here = here.and_then(|here| here.into_os_string().into_string().ok());
        // A `$` would be read as a variable.
        settings.cwd = here.filter(|here| !here.contains('$'));
        Ok(Self { name, settings })
    }

    /// Gives it another name than this one.
    pub(crate) fn distinguish_from(&mut self, other: &str) {
        if self.name == other {
            self.name.push_str(" (2)");
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
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
    use super::*;

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
}
