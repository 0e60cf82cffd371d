//! Which word of a command line names its server, and what takes that word's place where the
//! server stands in no config.

use std::mem;

use super::{BenchArgs, CallArgs, Command, PromptsArgs};
use crate::{
    commands::{
        config::ConfigCommand,
        login::{LoginArgs, LogoutArgs},
        tools::ToolsArgs,
    },
    exit::Failure,
    targets::{Target, TargetFlags, is_url},
    text,
};

impl Command {
    /// The server that the command line describes, when it names one that stands in no config. Its
    /// name takes the place of the URL among the command's words, or comes before them.
    pub(crate) fn take_target(&mut self, flags: &TargetFlags) -> Result<Option<Target>, Failure> {
        // Its own `--stdio` is the client's side.
        #[cfg(feature = "gateway")]
        if matches!(self, Self::Serve(_)) {
            return Ok(None);
        }
        if let Some(command) = &flags.stdio {
            let target = Target::of_command(flags, command)?;
            return match self.insert_server(target.name()) {
                true => Ok(Some(target)),
                false if self.server_mut().is_none() => Err(Failure::usage(text!(
                    "--stdio describes a server, and this command is about none"
                ))),
                false => Err(Failure::usage(text!(
                    "--stdio names the server, and so does a word of this command"
                ))),
            };
        }
        let uses_flags = self.takes_target_flags();
        match self.server_mut().filter(|server| is_url(server)) {
            Some(server) => {
                let target = Target::of_url(flags, server)?;
                target.name().clone_into(server);
                Ok(Some(target))
            }
            None if flags.are_unused() || uses_flags => Ok(None),
            None => Err(Failure::usage(text!(
                "--header, --env and --bearer-env describe a server that stands in no config: \
                 name its URL, or its command with --stdio"
            ))),
        }
    }

    /// The word that names its server.
    fn server_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Call(CallArgs { server, .. }) => Some(server),
            Self::Bench(BenchArgs { server, .. }) => Some(server),
            Self::Login(LoginArgs { server, .. }) | Self::Logout(LogoutArgs { server, .. }) => {
                Some(server)
            }
            Self::Health { server } | Self::Doctor { server } | Self::Resources { server, .. } => {
                server.as_mut()
            }
            Self::Prompts(PromptsArgs { server, .. }) => server.as_mut(),
            Self::Tools(ToolsArgs { server, .. }) => server.as_mut(),
            Self::Status(args) => args.server.as_mut(),
            Self::Watch(args) => args.server.as_mut(),
            Self::Shell(args) => args.server.as_mut(),
            Self::Auth { command } => command.server_mut(),
            #[cfg(feature = "gateway")]
            Self::Serve(_) => None,
            #[cfg(feature = "nats")]
            Self::Worker(_) => None,
            #[cfg(all(unix, feature = "gateway"))]
            Self::Up(_) | Self::Down { .. } => None,
            Self::Demo(_)
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
            Self::Prompts(PromptsArgs {
                server, get, pairs, ..
            }) => {
                pairs.splice(0..0, server.replace(name));
                pairs.is_empty() || get.is_some()
            }
            Self::Tools(ToolsArgs { server, tool, .. }) => match server.replace(name) {
                None => true,
                first => tool.replace(first.unwrap_or_default()).is_none(),
            },
            Self::Health { server } | Self::Doctor { server } | Self::Resources { server, .. } => {
                server.replace(name).is_none()
            }
            Self::Status(args) => args.server.replace(name).is_none(),
            Self::Watch(args) => args.server.replace(name).is_none(),
            Self::Shell(args) => args.server.replace(name).is_none(),
            #[cfg(feature = "gateway")]
            Self::Serve(_) => false,
            #[cfg(feature = "nats")]
            Self::Worker(_) => false,
            #[cfg(all(unix, feature = "gateway"))]
            Self::Up(_) | Self::Down { .. } => false,
            // A login is for a URL.
            Self::Login(_) | Self::Logout(_) | Self::Auth { .. } => false,
            Self::Demo(_)
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn target(words: &[&str]) -> Result<(Option<Target>, Command), String> {
        let line = ["mcpool"].iter().chain(words);
        let Cli {
            global,
            mut command,
        } = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        let target = command.take_target(&global.target);
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
            let mut found = target.unwrap().settings;
            let here = std::env::current_dir().unwrap();
            let begins = found.command.as_ref().map(|_| here.to_str().unwrap());
            assert_eq!(found.cwd.take().as_deref(), begins, "{words:?}");
            let found = serde_json::to_string(&found).unwrap();
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
        let nowhere = target(&["list", "--stdio", "srv"]).unwrap_err();
        assert!(nowhere.contains("this command is about none"), "{nowhere}");
    }
}
