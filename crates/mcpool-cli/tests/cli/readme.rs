//! The command lines of the README are run as they stand there.

use std::{fs, os::unix::fs::symlink, process::Command};

use crate::support::{PROGRAM, Place, Run};

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));

/// How a line begins that is not run here, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo", "it builds; the checks run the same"),
    (
        "mcpool --config mcp.json watch",
        "it has no end; `endings` runs it",
    ),
    ("mcpool serve  ", "it has no end; `serve` runs it"),
    ("mcpool up", "it stays behind; `up` runs it"),
];

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
    for file in ["mcp.json", ".cursor/mcp.json"] {
        fs::write(place.path().join(file), config()).unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();

    let mut run = 0;
    for line in lines(README) {
        if NOT_RUN
            .iter()
            .any(|(begins, _)| line.command.starts_with(begins))
        {
            continue;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", line.command]).current_dir(place.path());
        for (name, value) in place.command(&[]).get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.env("PATH", format!("{}:{path}", bin.display()));
        let done = Run::of(&mut shell);
        let (out, err) = (done.stdout(), done.stderr());
        assert_eq!(done.code(), 0, "{}\n{out}\n{err}", line.command);
        for wanted in line.prints {
            assert!(out.contains(wanted), "{}: {wanted}\n{out}", line.command);
        }
        run += 1;
    }
    assert!(run >= 8, "only {run} lines were found");
}
