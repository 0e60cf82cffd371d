//! `mcpool completions SHELL` and `mcpool man`: what a shell and `man` know of the program.

use clap::CommandFactory as _;
use clap_complete::{
    ArgValueCandidates, CompleteEnv, CompletionCandidate,
    env::{EnvCompleter, Shells},
};

use crate::{
    args::{Cli, CompletionsArgs, Shell},
    config_files,
    exit::{Failure, Outcome},
    global::Global,
    render::out,
    text,
};

/// The variable by which a shell asks for completions. The script that asks is made by this
/// program, so nobody else sets it.
const VARIABLE: &str = "MCPOOL_COMPLETE";

/// How long a gateway may take to say which tools there are: somebody waits at a prompt.
#[cfg(all(unix, feature = "gateway"))]
const TOOLS_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);

/// Tools that are offered.
#[cfg(all(unix, feature = "gateway"))]
const MAX_TOOLS: usize = 500;

/// Answers a shell that asks what could stand on its command line; the process has ended then.
pub(crate) fn answer_if_asked() {
    CompleteEnv::with_factory(|| with_servers(Cli::command()))
        .var(VARIABLE)
        .bin("mcpool")
        .complete();
}

/// The same command line, where a word that names a server is one of the config's, and one that names
/// a tool one of that server's.
fn with_servers(command: clap::Command) -> clap::Command {
    let edits = ["get", "remove", "enable", "disable"].contains(&command.get_name());
    command
        .mut_args(|arg| match arg.get_id().as_str() {
            "server" => arg.add(ArgValueCandidates::new(servers)),
            "name" if edits => arg.add(ArgValueCandidates::new(servers)),
            #[cfg(all(unix, feature = "gateway"))]
            "tool" => arg.add(ArgValueCandidates::new(tools)),
            _ => arg,
        })
        .mut_subcommands(with_servers)
}

/// Prints the script that makes a shell ask.
pub(crate) fn run(args: &CompletionsArgs) -> Outcome {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Elvish => "elvish",
        Shell::Fish => "fish",
        Shell::Powershell => "powershell",
        Shell::Zsh => "zsh",
    };
    let shells = Shells::builtins();
    let shell: &dyn EnvCompleter = shells
        .completer(name)
        .ok_or_else(|| Failure::internal(text!("{} has no completions", name)))?;
    let program = std::env::args_os().next().unwrap_or_default();
    let program = program.to_str().filter(|path| path.contains('/'));
    let mut script = Vec::new();
    shell
        .write_registration(
            VARIABLE,
            "mcpool",
            "mcpool",
            program.unwrap_or("mcpool"),
            &mut script,
        )
        .map_err(|error| Failure::internal(text!("{}", error)))?;
    out::generated(&script)
}

/// Prints the manual page, of the program and of each command, one after the other.
pub(crate) fn manual() -> Outcome {
    let mut pages = Vec::new();
    let mut command = Cli::command();
    command.build();
    pages_of(&command, &mut pages).map_err(|error| Failure::internal(text!("{}", error)))?;
    out::generated(&pages)
}

fn pages_of(command: &clap::Command, pages: &mut Vec<u8>) -> std::io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(pages)?;
    let visible = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set());
    for below in visible.filter(|below| below.get_name() != "help") {
        pages_of(below, pages)?;
    }
    Ok(())
}

/// The servers of the config, for a shell. Nothing is run and nobody is asked. The shell puts a
/// name into its line as it is, and the file may be one that nobody trusts: what a shell would read
/// as more than a word is not offered.
fn servers() -> Vec<CompletionCandidate> {
    names_of_servers()
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

fn names_of_servers() -> Vec<String> {
    let files = config_files::find(&Global::default());
    let loaded = files.and_then(|files| Ok(config_files::loader(files).load()?));
    let servers = loaded.map(|loaded| loaded.servers).unwrap_or_default();
    let names = servers.iter().map(|spec| spec.name.as_str());
    names
        .filter(|name| is_plain_word(name))
        .map(str::to_owned)
        .collect()
}

/// The tools of the server that the line names, as a gateway that runs (`mcpool up`) has them. No
/// server is started for it.
#[cfg(all(unix, feature = "gateway"))]
fn tools() -> Vec<CompletionCandidate> {
    let servers = names_of_servers();
    // The shell gives the words of its line behind this.
    let mut words = std::env::args().skip_while(|word| word != "--").skip(1);
    let Some(server) = words.find(|word| servers.contains(word)) else {
        return Vec::new();
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let global = Global::default();
    let tools = crate::pool::tools(&global, &server);
    let tools = runtime.block_on(async { tokio::time::timeout(TOOLS_TIMEOUT, tools).await });
    let tools = tools.ok().and_then(Result::ok).unwrap_or_default();
    tools
        .iter()
        .filter(|name| is_plain_word(name))
        .take(MAX_TOOLS)
        .map(CompletionCandidate::new)
        .collect()
}

/// Whether every shell reads it as one word, and as no option.
fn is_plain_word(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:+@".contains(c);
    !name.starts_with(['-', '@']) && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_more_than_a_word_to_a_shell() {
        for name in ["docs", "my-server_2", "example.org:8080", "größe"] {
            assert!(is_plain_word(name), "{name}");
        }
        for name in [
            "a b", "a;rm", "$(x)", "`x`", "a&b", "~", "*", "!!", "-x", "a'b", "a>b", "#a",
        ] {
            assert!(!is_plain_word(name), "{name}");
        }
    }
}
