//! The command lines of the README are run as they stand there.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, symlink},
    process::Command,
};

use nix::sys::signal::Signal;

use crate::support::{PROGRAM, Place, Run};

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));

/// What is not run here: it builds, and the checks run the same.
const BUILDS: &str = "cargo ";

/// What has no end by itself: what is added to it, so that others may run beside it, and the word
/// after which it is ended.
const ENDLESS: &[(&str, &str, &str)] = &[
    (
        "mcpool --config mcp.json watch",
        "",
        "calculator has 2 tools",
    ),
    (
        "mcpool --config mcp.json serve",
        "--listen 127.0.0.1:0",
        "http://127.0.0.1:",
    ),
];

/// Ends the gateway in the background, also when a line before that failed.
struct Down<'a>(&'a Place);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let mut down = self.0.command(&["--config", "mcp.json", "down"]);
        let _ = Run::of(down.env(RUNTIME, self.0.path().join("run")));
    }
}

/// Where the gateway in the background has its socket.
const RUNTIME: &str = "XDG_RUNTIME_DIR";

/// A command and what the README says that it prints.
struct Line<'a> {
    command: &'a str,
    prints: Vec<&'a str>,
}

/// The lines of the blocks of this language.
fn lines(text: &'static str) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().lines() {
            match (line.strip_prefix("$ "), lines.last_mut()) {
                (Some(command), _) => lines.push(Line {
                    command,
                    prints: Vec::new(),
                }),
                (None, Some(last)) => last.prints.push(line),
                (None, None) => panic!("output without a command: {line}"),
            }
        }
    }
    lines
}

/// The one config file that it shows.
fn config() -> &'static str {
    let (_, rest) = README.split_once("```json\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn every_line_of_the_readme_does_what_it_says() {
    let place = Place::empty();
    let bin = place.path().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(PROGRAM, bin.join("mcpool")).unwrap();
    fs::create_dir(place.path().join(".cursor")).unwrap();
    let run_directory = place.path().join("run");
    DirBuilder::new().mode(0o700).create(run_directory).unwrap();
    let _down = Down(&place);
    for file in ["mcp.json", ".cursor/mcp.json"] {
        fs::write(place.path().join(file), config()).unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();

    let mut run = 0;
    for line in lines(README) {
        if line.command.starts_with(BUILDS) {
            continue;
        }
        let plain = line.command.split("  #").next().unwrap_or_default().trim();
        let endless = ENDLESS.iter().find(|(command, ..)| *command == plain);
        let script = match endless {
            Some((command, more, _)) => format!("exec {command} {more} 2>&1"),
            None => line.command.to_owned(),
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(place.path());
        for (name, value) in place.command(&[]).get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.env("PATH", format!("{}:{path}", bin.display()));
        shell.env(RUNTIME, place.path().join("run"));
        run += 1;
        if let Some((.., word)) = endless {
            let running = place.start_command(shell);
            running.wait_for(|line| line.contains(word));
            running.signal(Signal::SIGINT);
            assert_eq!(running.wait(), Some(130), "{plain}");
            continue;
        }
        let done = Run::of(&mut shell);
        let (out, err) = (done.stdout(), done.stderr());
        assert_eq!(done.code(), 0, "{}\n{out}\n{err}", line.command);
        for wanted in line.prints {
            assert!(out.contains(wanted), "{}: {wanted}\n{out}", line.command);
        }
    }
    assert!(run >= 14, "only {run} lines were found");
}
