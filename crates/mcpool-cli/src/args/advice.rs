//! What to do about a command line that could not be understood, where the parser does not know it.

use clap::{
    Command, Error,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Adds it. The words are those of the command line.
pub(super) fn advised(mut error: Error, command: &Command, words: &[String]) -> Error {
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let mut similar = match error.remove(ContextKind::SuggestedSubcommand) {
                Some(ContextValue::Strings(similar)) => similar,
                _ => Vec::new(),
            };
            similar.retain(|name| is_shown(command, name));
            // One that has just this name is meant sooner than one whose name is like it.
            if let Some(ContextValue::String(wanted)) = error.get(ContextKind::InvalidSubcommand) {
                let same = below(command, wanted);
                if !same.is_empty() {
                    similar = same;
                }
            }
            if !similar.is_empty() {
                let similar = ContextValue::Strings(similar);
                error.insert(ContextKind::SuggestedSubcommand, similar);
            }
        }
        ErrorKind::UnknownArgument
            if adds_a_server(words) && error.get(ContextKind::SuggestedArg).is_none() =>
        {
            let advice = "the program of a server and its arguments stand after `--`: mcpool config \
                          add NAME -- COMMAND [ARGS]...";
            tip(&mut error, advice.to_owned());
        }
        ErrorKind::UnknownArgument if calls_a_tool(words) => {
            if let Some(ContextValue::String(wanted)) = error.get(ContextKind::InvalidArg)
                && let Some(name) = wanted.strip_prefix("--")
            {
                let name = name.split('=').next().unwrap_or(name);
                let advice =
                    format!("an argument of the tool is written without dashes: {name}=VALUE");
                tip(&mut error, advice);
            }
        }
        // The server was given, and the first word is its tool.
        ErrorKind::MissingRequiredArgument
            if calls_a_tool(words) && words.iter().any(|word| word.starts_with("--stdio")) =>
        {
            let tool = ContextValue::Strings(vec!["<TOOL>".to_owned()]);
            error.insert(ContextKind::InvalidArg, tool);
        }
        _ => {}
    }
    error
}

fn tip(error: &mut Error, advice: String) {
    let advice = ContextValue::StyledStrs(vec![StyledStr::from(advice)]);
    error.insert(ContextKind::Suggested, advice);
}

fn is_shown(command: &Command, name: &str) -> bool {
    command
        .find_subcommand(name)
        .is_none_or(|found| !found.is_hide_set())
}

/// The commands of this name that stand below another one.
fn below(command: &Command, name: &str) -> Vec<String> {
    let above = command
        .get_subcommands()
        .filter(|above| above.find_subcommand(name).is_some());
    above
        .map(|above| format!("{} {name}", above.get_name()))
        .collect()
}

/// Whether a server is added whose program does not stand after `--`.
fn adds_a_server(words: &[String]) -> bool {
    words.windows(2).any(|two| two == ["config", "add"]) && !words.iter().any(|word| word == "--")
}

/// Whether the words behind the command are a tool and its arguments.
fn calls_a_tool(words: &[String]) -> bool {
    words.iter().any(|word| word == "call" || word == "bench")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    fn said(words: &[&str]) -> String {
        let error = Cli::command().try_get_matches_from(words).unwrap_err();
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        advised(error, &Cli::command(), &words).to_string()
    }

    #[test]
    fn a_command_below_another_one_is_found() {
        for (words, wanted) in [
            (["mcpool", "check"], Some("'config check'")),
            (["mcpool", "remove"], Some("'config remove'")),
            (["mcpool", "statsu"], Some("'status'")),
            (["mcpool", "nothing-like-it"], None),
        ] {
            let said = said(&words);
            match wanted {
                Some(wanted) => assert!(said.contains(wanted), "{said}"),
                None => assert!(!said.contains("tip:"), "{said}"),
            }
        }
        let hidden = said(&["mcpool", "demo-serve"]);
        assert!(!hidden.contains("'demo-server'"), "{hidden}");
    }

    #[test]
    fn the_program_of_a_server_stands_after_two_dashes() {
        let said_of = said(&["mcpool", "config", "add", "x", "npx", "-y", "some-server"]);
        assert!(
            said_of.contains("mcpool config add NAME -- COMMAND"),
            "{said_of}"
        );
        assert!(!said_of.contains("'-- -y'"), "{said_of}");
        let mistyped = said(&[
            "mcpool",
            "config",
            "add",
            "x",
            "https://h/",
            "--transprot",
            "sse",
        ]);
        assert!(mistyped.contains("'--transport'"), "{mistyped}");
    }

    #[test]
    fn an_argument_of_a_tool_has_no_dashes() {
        for word in ["--message", "--message=hi"] {
            let said = said(&["mcpool", "call", "server", "echo", word, "hi"]);
            assert!(said.contains("without dashes: message=VALUE"), "{said}");
            assert!(!said.contains("-- --"), "{said}");
        }
        let mistyped = said(&["mcpool", "call", "server", "echo", "--timout", "1s"]);
        assert!(mistyped.contains("'--timeout'"), "{mistyped}");
    }

    #[test]
    fn a_server_that_was_described_is_not_missed() {
        let said = said(&["mcpool", "call", "--stdio", "some-server"]);
        assert!(said.contains("  <TOOL>\n"), "{said}");
        assert!(!said.contains("  <SERVER>\n"), "{said}");
    }
}
