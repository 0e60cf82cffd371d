//! The command line: every command, flag and default in one place.

mod advice;
mod server;

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::{
    commands::{
        auth::AuthCommand,
        config::{ConfigCommand, TrustArgs},
        demo::DemoArgs,
        login::{LoginArgs, LogoutArgs},
        shell::ShellArgs,
        tools::ToolsArgs,
    },
    global::{Global, parse_duration},
    questions::Asking,
    render::{content::Form, out},
};

/// Help is no wider than this, however wide the terminal is.
const WIDEST_HELP: usize = 100;

/// Keeps connections to many MCP servers alive; this program shows, calls, watches and measures
/// them.
#[derive(Debug, Parser)]
#[command(
    name = "mcpool",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  mcpool tools https://example.com/mcp            without a config
  mcpool config add docs https://example.com/mcp
  mcpool tools docs                               its tools and their parameters
  mcpool call docs.search query=rust              calls one
  mcpool doctor docs                              why does it not connect?

Exit codes: 0 good, 2 usage or config, 3 login needed, 4 unreachable, 5 the tool reported an \
error, 6 outcome unknown, 130/143 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Command {
    /// Which questions of servers a person is there to answer.
    pub(crate) fn asking(&self, json: bool) -> Option<Asking> {
        match self {
            Self::Call(args) => Asking::of(args.interactive, json),
            Self::Shell(args) => Asking::of(args.interactive, json),
            // Nobody looks at the terminal for long, or at many servers at once.
            _ => None,
        }
    }
}

impl Command {
    /// Whether it uses the connections of a gateway that runs.
    #[cfg(all(unix, feature = "gateway"))]
    pub(crate) fn borrows(&self) -> bool {
        matches!(
            self,
            Self::Call(_)
                | Self::Tools(_)
                | Self::Status(_)
                | Self::Resources { .. }
                | Self::Prompts { .. }
        )
    }
}

#[cfg(feature = "gateway")]
impl Command {
    /// Whether it serves others, who must not wait until somebody reads what it says.
    pub(crate) fn serves(&self) -> bool {
        match self {
            Self::Serve(_) => true,
            #[cfg(feature = "nats")]
            Self::Worker(_) => true,
            _ => false,
        }
    }
}

impl Cli {
    /// Reads the command line of the process; help is as wide as the terminal.
    pub(crate) fn from_process() -> Result<Self, clap::Error> {
        let command = Self::command().term_width(out::columns().min(WIDEST_HELP));
        let matches = command.try_get_matches().map_err(|error| {
            let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
            advice::advised(error, &Self::command(), &words.collect::<Vec<_>>())
        })?;
        Self::from_arg_matches(&matches)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Three servers on this machine: connect, call, kill one, see it come back. Needs no config
    /// and no network
    Demo(DemoArgs),
    /// Show which servers are configured, and where; connects to none
    #[command(visible_alias = "ls")]
    List,
    /// Connect to every server and show how it went
    #[command(after_help = "\
Examples:
  mcpool status
  mcpool status --json | jq -r '.servers[] | select(.error) | .name'")]
    Status(crate::commands::status::StatusArgs),
    /// Show the tools of all servers or of one, with their parameters; one tool in full
    #[command(after_help = "\
Examples:
  mcpool tools                       of all servers
  mcpool tools docs                  of one
  mcpool tools docs search           one tool in full; also docs.search
  mcpool tools --search read file    the best fits for these words
  mcpool tools https://example.com/mcp")]
    Tools(ToolsArgs),
    /// Call a tool
    #[command(after_help = "\
Examples:
  mcpool call docs search query=rust limit=5
  mcpool call docs.search tags=a tags=b filter.lang=en   an array and an object
  mcpool call docs publish text=@page.md                 the text of a file
  mcpool call docs publish --args '{\"text\": \"hi\"}'
  mcpool call --stdio 'npx -y some-server' echo message=hi")]
    Call(CallArgs),
    /// List the resources of all servers, or of one; read one
    #[command(after_help = "\
Examples:
  mcpool resources docs
  mcpool resources docs --read file:///README.md")]
    Resources {
        /// Only this server
        server: Option<String>,
        /// Read this resource of SERVER
        #[arg(long, value_name = "URI")]
        read: Option<String>,
        /// How to print what is read: text, json, raw (the content alone, byte for byte) or markdown
        #[arg(
            long,
            value_name = "FORM",
            default_value = "text",
            hide_possible_values = true,
            conflicts_with = "json"
        )]
        output: Form,
        /// Save blobs in this directory
        #[arg(long, value_name = "DIR")]
        save: Option<PathBuf>,
    },
    /// List the prompts of all servers, or of one; get one
    #[command(after_help = "\
Examples:
  mcpool prompts docs
  mcpool prompts docs --get review language=rust")]
    Prompts(PromptsArgs),
    /// Connect to every server and probe it once
    #[command(after_help = "\
Examples:
  mcpool health
  mcpool health docs")]
    Health {
        /// Only this server
        server: Option<String>,
    },
    /// Show step by step how a server is connected: what was tried, what came back
    #[command(after_help = "\
Examples:
  mcpool doctor docs
  mcpool doctor https://example.com/mcp
  mcpool doctor --stdio 'npx -y some-server'")]
    Doctor {
        /// Only this server
        server: Option<String>,
    },
    /// Keep every server alive and show a live table; with --json one event a line
    #[command(after_help = "\
Examples:
  mcpool watch
  mcpool watch docs --every 5s
  mcpool watch --json >> events.ndjson")]
    Watch(WatchArgs),
    /// Serve all servers as one MCP server: over stdio, HTTP, a unix socket
    #[cfg(feature = "gateway")]
    Serve(Box<crate::commands::serve::ServeArgs>),
    /// Serve the servers of the config to a pool of machines, over NATS
    #[cfg(feature = "nats")]
    #[command(after_help = "\
Examples:
  mcpool worker --nats nats://nats:4222 --pool tools
  mcpool worker --nats tls://nats:4222 --pool tools --nats-creds worker.creds --each browser
  mcpool worker --nats nats://nats:4222 --pool tools --nats-replicas 3 --one ledger")]
    Worker(Box<crate::commands::worker::WorkerArgs>),
    /// Start a gateway in the background: `call`, `tools` and `status` then use its connections
    #[cfg(all(unix, feature = "gateway"))]
    #[command(after_help = "\
Examples:
  mcpool up
  mcpool up --listen 127.0.0.1:7332   its page in the browser, and MCP over HTTP, as well")]
    Up(crate::commands::up::UpArgs),
    /// End the gateway in the background
    #[cfg(all(unix, feature = "gateway"))]
    Down {
        /// End every gateway of this user, whatever its config
        #[arg(long)]
        all: bool,
    },
    /// Measure how fast a server answers through mcpool
    #[command(after_help = "\
Examples:
  mcpool bench docs search query=rust -n 500 -c 8
  mcpool bench docs search query=rust -d 10s --against docs-http")]
    Bench(BenchArgs),
    /// Look at config files and edit them
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Log in to a server, in the browser, and connect to it
    #[command(after_help = "\
Examples:
  mcpool login docs
  mcpool login https://example.com/mcp --no-browser")]
    Login(LoginArgs),
    /// Forget the login at a server, and revoke its tokens
    Logout(LogoutArgs),
    /// Show the logins that are stored
    Auth {
        #[command(subcommand)]
        command: AuthCommand,
    },
    /// Approve the commands that a project's config file runs
    #[command(after_help = "\
Examples:
  mcpool trust                 looks at the file of this project, and asks
  mcpool trust --revoke")]
    Trust(TrustArgs),
    /// Try a server at a prompt with history and completion
    #[command(after_help = "\
Examples:
  mcpool shell docs
  mcpool shell --stdio 'npx -y some-server'")]
    Shell(ShellArgs),
    /// Print the script that makes a shell complete commands, flags and servers
    Completions(CompletionsArgs),
    /// Print the manual pages, for `man -l -`
    #[command(after_help = "Example:\n  mcpool man | man -l -")]
    Man,
    /// The stdio server of the demo
    #[command(hide = true)]
    DemoServer,
}

/// `mcpool call`
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The server; or its tool as well, as SERVER.TOOL or by the qualified name
    pub(crate) server: String,
    /// The tool
    pub(crate) tool: Option<String>,
    /// Arguments: key=value by the tool's schema, key:=json as it stands, key=@FILE and key=@-
    /// from a file and from standard input, key=a key=b for an array, a.b=1 for an object
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    /// Send the arguments as they are, without a look at the tool's schema
    #[arg(long)]
    pub(crate) no_check: bool,
    /// Let the server ask you for a model's reply and for directories too. On a terminal, forms
    /// and addresses are shown without this flag
    #[arg(long)]
    pub(crate) interactive: bool,
    /// All arguments as a JSON object; @FILE reads a file, - reads standard input
    #[arg(long, value_name = "JSON", conflicts_with = "pairs")]
    pub(crate) args: Option<String>,
    /// How long to wait for the answer ("30s"); progress restarts it
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// How to print the answer: text, json, raw (the content alone, byte for byte) or markdown
    #[arg(
        long,
        value_name = "FORM",
        default_value = "text",
        hide_possible_values = true,
        conflicts_with = "json"
    )]
    pub(crate) output: Form,
    /// Save images, audio and blobs in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
}

/// `mcpool prompts`
#[derive(Debug, Args)]
pub(crate) struct PromptsArgs {
    /// Only this server
    pub(crate) server: Option<String>,
    /// Get this prompt of SERVER
    #[arg(long, value_name = "NAME")]
    pub(crate) get: Option<String>,
    /// Arguments of the prompt
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    /// Send the arguments as they are, without a look at the server's list
    #[arg(long, requires = "get")]
    pub(crate) no_check: bool,
    /// How to print the prompt: text, json, raw (the content alone, byte for byte) or markdown
    #[arg(
        long,
        value_name = "FORM",
        default_value = "text",
        hide_possible_values = true,
        conflicts_with = "json"
    )]
    pub(crate) output: Form,
}

/// `mcpool watch`
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only this server of the config, and no workers
    pub(crate) server: Option<String>,
    /// Probe each server at this interval ("5s") instead of the one in its config
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) every: Option<Duration>,
    /// Watch the workers of this pool, and their servers, too
    #[cfg(feature = "nats")]
    #[command(flatten)]
    pub(crate) nats: crate::nats::NatsArgs,
}

/// `mcpool bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The server
    pub(crate) server: String,
    /// The tool
    pub(crate) tool: Option<String>,
    /// The arguments of each call, as for `mcpool call`
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    /// The arguments of each call, as a JSON object; @FILE reads a file, - reads standard input
    #[arg(long, value_name = "JSON", conflicts_with = "pairs")]
    pub(crate) args: Option<String>,
    /// Send the arguments as they are, without a look at the tool's schema
    #[arg(long)]
    pub(crate) no_check: bool,
    /// How many calls
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000)]
    pub(crate) calls: usize,
    /// For how long, instead of how many calls ("10s")
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    #[arg(conflicts_with = "calls")]
    pub(crate) duration: Option<Duration>,
    /// How many calls before the measuring begins
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) warmup: usize,
    /// Another server with the same tool, to compare it with: one of the config, or a URL
    #[arg(long, value_name = "SERVER")]
    pub(crate) against: Option<String>,
    /// How many calls at once
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(crate) concurrency: usize,
}

/// A shell.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// `mcpool completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(mcpool completions bash)               in ~/.bashrc
  source <(mcpool completions zsh)                in ~/.zshrc
  mcpool completions fish | source                in ~/.config/fish/config.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Whether a command line that could not be understood asks for JSON.
pub(crate) fn asks_for_json() -> bool {
    std::env::args_os()
        .take_while(|word| word != "--")
        .any(|word| word == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_and_after_the_command() {
        for line in [
            ["mcpool", "--json", "--config", "a.json", "status"],
            ["mcpool", "status", "--json", "--config", "a.json"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.config, [PathBuf::from("a.json")]);
        }
    }

    #[test]
    fn pairs_and_args_exclude_each_other() {
        let both = ["mcpool", "call", "s", "t", "a=1", "--args", "{}"];
        assert!(Cli::try_parse_from(both).is_err());
    }
}
