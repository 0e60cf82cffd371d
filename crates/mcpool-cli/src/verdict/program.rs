//! What to try where a program is started that is no server yet, or none any more.

use std::path::{Path, PathBuf};

use mcpool::{Error, ErrorKind};

use super::{printed, said};
use crate::{render::text::Text, text};

/// What to try where a program is started.
pub(super) fn of_program(command: &str, error: &Error) -> Vec<Text> {
    let said = said(error);
    let says = |words: &[&str]| words.iter().any(|word| begins_a_word(&said, word));
    let mut tries = Vec::new();
    match error.kind() {
        ErrorKind::CommandNotFound => {
            let home = etcetera::home_dir().ok();
            if let Some(found) = elsewhere(command, home.as_deref()) {
                tries.push(text!(
                    "it is at {}, which is not in PATH here: write that as `command`",
                    found
                ));
            }
            if let Some(how) = brought_by(command) {
                tries.push(how);
            }
        }
        ErrorKind::ProcessExited | ErrorKind::ConnectionLost => {
            if says(&[
                "env: node",
                "env: ‘node’",
                "env: 'node'",
                "node: not found",
                "node: command not found",
            ]) {
                tries.push(text!(
                    "install Node.js, or put the directory of `node` into `env.PATH` of this server"
                ));
            } else if says(&[
                "cannot find module",
                "modulenotfounderror",
                "no module named",
            ]) {
                tries.push(text!(
                    "a package that it needs is not installed where it runs"
                ));
            } else if says(&[
                "404 not found",
                "e404",
                "no matching distribution",
                "not in this registry",
            ]) {
                tries.push(text!("check the package's name in `args`"));
            } else if says(&[
                "enotfound",
                "eai_again",
                "network is unreachable",
                "name resolution",
            ]) {
                tries.push(text!(
                    "it could not reach the network: try again, or set the proxy in `env`"
                ));
            } else if says(&["filenotfounderror", "enoent", "no such file or directory"]) {
                tries.push(text!(
                    "a file that it names is not there: look at its path in `args`, and at `cwd`"
                ));
            } else if says(&["eacces", "permission denied"]) {
                tries.push(text!(
                    "it may not read or write something: look at the path that it names"
                ));
            } else if says(&["eaddrinuse", "address already in use"]) {
                tries.push(text!("it wants a port that is taken: does it run already?"));
            } else if names_variable(error) {
                tries.push(text!("it wants a variable: set it in `env` of this server"));
            } else if says(&[
                "usage",
                "argument",
                "positional",
                "missing required",
                "requires",
            ]) {
                tries.push(text!(
                    "it wants other arguments: set them in `args` of this server"
                ));
            } else if says(&["token", "credential", "not set", "must be set", "secret"]) {
                tries.push(text!("it wants a variable: set it in `env` of this server"));
            } else if says(&["status 0"]) {
                tries.push(text!(
                    "it ended without a failure: it may not be an MCP server, or want a word such as \
                     `stdio` or `serve` in `args`"
                ));
            }
        }
        ErrorKind::Timeout if printed(error).is_some_and(speaks_http) => tries.push(text!(
            "it seems to listen for HTTP: start it by itself and write its address as `url`, or \
             look for its option for stdio"
        )),
        ErrorKind::Timeout => {
            tries.push(text!(
                "it may be slow the first time (a package that is downloaded): try with \
                 `--connect-timeout 2m`, and set `startup_timeout` if that helps"
            ));
            tries.push(text!(
                "or it is not an MCP server, or speaks HTTP only: run it in a terminal and look at \
                 what it prints"
            ));
        }
        ErrorKind::Protocol if !says(&["sends back"]) => tries.push(text!(
            "a stdio server may print nothing but MCP messages on standard output: look for an \
             option such as `stdio`, and send its log to standard error"
        )),
        _ => {}
    }
    tries
}

/// Whether a text has this where a word begins: `ENOTFOUND` is no part of `FileNotFoundError`.
fn begins_a_word(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|before| !before.is_alphanumeric())
    })
}

/// Whether a program that prints this waits for HTTP.
fn speaks_http(line: &str) -> bool {
    let line = line.to_lowercase();
    ["http://", "https://", "listening", "port ", "localhost:"]
        .iter()
        .any(|word| line.contains(word))
}

/// Whether what was said names a variable, as `GITHUB_TOKEN`, or speaks of one.
fn names_variable(error: &Error) -> bool {
    let is_variable = |word: &str| {
        let is_of_it = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        word.len() > 4 && word.contains('_') && word.chars().all(is_of_it)
    };
    let said = said(error);
    let lines = error.stderr_tail().iter().map(|line| line.text.as_str());
    lines
        .chain([error.message()])
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .any(is_variable)
        || ["environment variable", "env var", "api key", "apikey"]
            .iter()
            .any(|word| said.contains(word))
}

/// Who brings a command that many servers are started by.
fn brought_by(command: &str) -> Option<Text> {
    Some(match command {
        "npx" | "node" | "npm" => text!("`{}` comes with Node.js: install that", command),
        "uvx" | "uv" => text!("`{}` comes with uv: install that", command),
        "bunx" | "bun" => text!("`{}` comes with Bun: install that", command),
        "docker" | "podman" => text!("install {}, and start it", command),
        "python" => text!("write `python3`, or install Python"),
        "deno" | "pipx" | "dotnet" | "java" => text!("install {}", command),
        _ => return None,
    })
}

/// Where a program is that is not in `PATH`: programs that are started from a desktop often have
/// a shorter one than a shell.
fn elsewhere(command: &str, home: Option<&Path>) -> Option<PathBuf> {
    if command.contains(['/', '\\']) {
        return None;
    }
    let of_home = [
        ".local/bin",
        ".cargo/bin",
        ".volta/bin",
        ".bun/bin",
        ".deno/bin",
        ".asdf/shims",
        ".local/share/mise/shims",
        ".nodenv/shims",
        ".pyenv/shims",
        "n/bin",
        "go/bin",
    ];
    let of_system = [
        "/usr/local/bin",
        "/opt/homebrew/bin",
        "/usr/bin",
        "/snap/bin",
    ];
    let in_home = home
        .into_iter()
        .flat_map(|home| of_home.map(|dir| home.join(dir)));
    let versions = home
        .into_iter()
        .flat_map(|home| node_versions(&home.join(".nvm/versions/node")));
    in_home
        .chain(versions)
        .chain(of_system.map(PathBuf::from))
        .map(|dir| dir.join(command))
        .find(|path| path.is_file())
}

/// The `bin` directories of nvm.
fn node_versions(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut bins: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
    bins.sort();
    bins.reverse();
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_waits_for_http_says_so() {
        for (line, speaks) in [
            ("Listening on http://localhost:3000", true),
            ("Server started on port 8080", true),
            ("loading plugins", false),
        ] {
            assert_eq!(speaks_http(line), speaks, "{line}");
        }
    }

    #[test]
    fn a_program_outside_of_the_path_is_found() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(elsewhere("no-such-program-x", Some(home.path())), None);
        let bin = home.path().join(".nvm/versions/node/v20/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("no-such-program-x"), "").unwrap();
        let found = elsewhere("no-such-program-x", Some(home.path()));
        assert_eq!(found, Some(bin.join("no-such-program-x")));
        assert_eq!(elsewhere("/bin/no-such-program-x", Some(home.path())), None);
    }
}
