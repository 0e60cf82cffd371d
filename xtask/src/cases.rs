//! `cargo xtask cases [DIR] [PATTERN…]`: what went wrong once with servers, configs, attacks and
//! faults as they are, run against the program.
//!
//! | folder of DIR | a case is |
//! |---|---|
//! | `bugs` | a server that behaves as one of a public report did, with a check of its own |
//! | `config` | a file as people have it, and what the program must say of it (`config.rs`) |
//! | `security` | a script that tries an attack, and what its output must be (`security.rs`) |
//! | `reliability` | a row of its table, shown by a test of this repository (`shown.rs`) |
//!
//! The cases are not part of the repository: DIR is theirs, by default `../shared/cases`, then
//! `tests/cases`. A case that cannot run here did not pass.

mod config;
mod security;
mod shown;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use crate::{
    Outcome,
    tools::{self, cargo, find, root, target},
};

/// Where the cases are looked for, from the root of the workspace.
const PLACES: [&str; 2] = ["../shared/cases", "tests/cases"];

/// How long one case may take: the longest waits for nine lost sessions, eleven seconds each.
const CASE_TIMEOUT_SECONDS: u32 = 240;

/// How much of the output of a case that failed is shown.
const SHOWN_LINES: usize = 12;

/// One case.
struct Case {
    group: &'static str,
    name: String,
    run: Run,
}

/// How a case is run.
enum Run {
    /// A server that checks the program by itself: 0 is right.
    Server(PathBuf),
    /// A script that prints what happened.
    Script(PathBuf, Judge),
    /// A config file that the program looks at.
    Config(&'static config::Expected),
    /// A test of this repository.
    Test(&'static shown::Test),
}

/// What is wrong with what a script printed.
type Judge = fn(&Seen) -> Outcome;

/// What a case printed, standard output and error as they came.
struct Seen {
    code: Option<i32>,
    text: String,
}

impl Seen {
    /// The text holds each of these.
    fn says(&self, parts: &[&str]) -> Outcome {
        match parts.iter().find(|part| !self.text.contains(*part)) {
            Some(part) => Err(format!("does not say {part:?}")),
            None => Ok(()),
        }
    }

    /// The text holds none of these.
    fn is_silent_of(&self, parts: &[&str]) -> Outcome {
        match parts.iter().find(|part| self.text.contains(*part)) {
            Some(part) => Err(format!("says {part:?}")),
            None => Ok(()),
        }
    }

    fn ended_with(&self, code: i32) -> Outcome {
        match self.code == Some(code) {
            true => Ok(()),
            false => Err(format!("ended with {:?} and not with {code}", self.code)),
        }
    }
}

/// How a case went.
struct Verdict {
    case: Case,
    outcome: Outcome,
    seconds: f64,
    text: String,
}

/// What the cases run against.
struct Bench {
    cases: PathBuf,
    program: PathBuf,
    scratch: PathBuf,
}

/// The command line's entry.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (cases, patterns) = place(args)?;
    tools::run(&mut cargo([
        "build",
        "--quiet",
        "--package",
        "mcpool-cli",
        "--all-features",
    ]))?;
    let scratch = target().join("cases");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(scratch.join("home"))
        .map_err(|error| format!("{}: {error}", scratch.display()))?;
    let program = format!("mcpool{}", std::env::consts::EXE_SUFFIX);
    let bench = Bench {
        program: target().join("debug").join(program),
        cases,
        scratch,
    };
    let mut verdicts = Vec::new();
    for case in all(&bench.cases)? {
        let name = format!("{}/{}", case.group, case.name);
        if !patterns.is_empty() && !patterns.iter().any(|pattern| name.contains(*pattern)) {
            continue;
        }
        let start = Instant::now();
        let (outcome, text) = bench.run(&case);
        let verdict = Verdict {
            case,
            outcome,
            seconds: start.elapsed().as_secs_f64(),
            text,
        };
        eprintln!("  {}  {name}", word(&verdict.outcome));
        verdicts.push(verdict);
    }
    println!("\n{}", table(&verdicts));
    for verdict in &verdicts {
        if let Err(problem) = &verdict.outcome {
            println!("{}/{}: {problem}", verdict.case.group, verdict.case.name);
            let lines: Vec<&str> = verdict.text.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                println!("  | {line}");
            }
        }
    }
    let failed = verdicts.iter().filter(|verdict| verdict.outcome.is_err());
    match (failed.count(), verdicts.len()) {
        (_, 0) => Err("no such case".to_owned()),
        (0, _) => Ok(()),
        (failed, all) => Err(format!("{failed} of {all} cases")),
    }
}

/// Where the cases are, and which are wanted.
fn place(args: &[String]) -> Outcome<(PathBuf, Vec<&str>)> {
    if let Some((first, rest)) = args.split_first()
        && Path::new(first).join("bugs").is_dir()
    {
        let cases = fs::canonicalize(first).map_err(|error| format!("{first}: {error}"))?;
        return Ok((cases, rest.iter().map(String::as_str).collect()));
    }
    let found = PLACES
        .iter()
        .map(|place| root().join(place))
        .find_map(|place| fs::canonicalize(place).ok());
    match found {
        Some(cases) => Ok((cases, args.iter().map(String::as_str).collect())),
        None => Err(format!(
            "the cases are not in {}; say where they are: `cargo xtask cases DIR`",
            PLACES.join(" or ")
        )),
    }
}

/// Every case. A script of which nothing is expected here is one that fails.
fn all(cases: &Path) -> Outcome<Vec<Case>> {
    let mut found = Vec::new();
    for path in files(&cases.join("bugs"), "py")? {
        found.push(Case {
            group: "bugs",
            name: stem(&path),
            run: Run::Server(path),
        });
    }
    for expected in config::EXPECTED {
        found.push(Case {
            group: "config",
            name: expected.name().to_owned(),
            run: Run::Config(expected),
        });
    }
    for path in files(&cases.join("security"), "sh")? {
        let name = stem(&path);
        let judge = security::judge(&name);
        found.push(Case {
            group: "security",
            name,
            run: Run::Script(path, judge),
        });
    }
    for test in shown::TESTS {
        found.push(Case {
            group: test.group,
            name: test.row.to_owned(),
            run: Run::Test(test),
        });
    }
    Ok(found)
}

impl Bench {
    fn run(&self, case: &Case) -> (Outcome, String) {
        let seen = match &case.run {
            Run::Server(file) => self.watched(
                Command::new("python3").arg(file).arg(&self.program),
                &case.name,
            ),
            Run::Script(file, _) => self.watched(
                Command::new("sh").arg(file).env("M", &self.program),
                &case.name,
            ),
            Run::Config(expected) => {
                self.watched(&mut expected.command(self), &case.name.replace('/', "_"))
            }
            Run::Test(test) => test.run(),
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(problem) => return (Err(problem), String::new()),
        };
        let outcome = match &case.run {
            Run::Server(_) => seen.ended_with(0),
            Run::Script(_, judge) => judge(&seen),
            Run::Config(expected) => expected.judge(self, &seen),
            Run::Test(test) => test.judge(&seen),
        };
        (outcome, seen.text)
    }

    /// Runs a program and all that it starts, within a time, in a home of its own.
    fn watched(&self, command: &mut Command, name: &str) -> Outcome<Seen> {
        // It kills the whole process group, which the standard library cannot.
        let timeout = find("timeout").ok_or("cannot run here: there is no `timeout`")?;
        let log = self.scratch.join(format!("{name}.txt"));
        let file = |path: &Path| {
            fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let out = file(&log)?;
        let err = out
            .try_clone()
            .map_err(|error| format!("{}: {error}", log.display()))?;
        let mut bounded = Command::new(timeout);
        bounded
            .args(["--kill-after", "10"])
            .arg(CASE_TIMEOUT_SECONDS.to_string())
            .arg(command.get_program())
            .args(command.get_args())
            .env("HOME", self.scratch.join("home"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(std::process::Stdio::null())
            .stdout(out)
            .stderr(err);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                bounded.env(name, value);
            }
        }
        if let Some(directory) = command.get_current_dir() {
            bounded.current_dir(directory);
        }
        let status = bounded
            .status()
            .map_err(|error| format!("{name} did not start: {error}"))?;
        let text = fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        Ok(Seen {
            code: status.code(),
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }
}

fn files(folder: &Path, extension: &str) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        // Beside the scripts lie what they use.
        .filter(|path| stem(path).starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(()) => "pass",
        Err(_) => "FAIL",
    }
}

fn table(verdicts: &[Verdict]) -> String {
    let mut text = String::from("| case | passes | shown by | s |\n|---|---|---|---:|\n");
    for verdict in verdicts {
        let Case { group, name, run } = &verdict.case;
        let by = match run {
            Run::Server(_) => "its own check".to_owned(),
            Run::Script(..) => "its output".to_owned(),
            Run::Config(expected) => format!("`{}`", expected.words.join(" ")),
            Run::Test(test) => format!("test `{}` of {}", test.name, test.package),
        };
        let word = word(&verdict.outcome);
        let seconds = verdict.seconds;
        text += &format!("| {group}/{name} | {word} | {by} | {seconds:.1} |\n");
    }
    let passed = verdicts.iter().filter(|verdict| verdict.outcome.is_ok());
    text + &format!("\n{} of {} pass.\n", passed.count(), verdicts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_not_said_is_judged() {
        let seen = Seen {
            code: Some(2),
            text: "one two".to_owned(),
        };
        assert!(seen.says(&["one", "two"]).is_ok());
        assert!(seen.says(&["one", "three"]).unwrap_err().contains("three"));
        assert!(seen.is_silent_of(&["three"]).is_ok());
        assert!(seen.is_silent_of(&["two"]).is_err());
        assert!(seen.ended_with(2).is_ok());
        assert!(seen.ended_with(0).is_err());
    }

    #[test]
    fn a_failed_case_is_counted_and_named() {
        let verdict = |outcome| Verdict {
            case: Case {
                group: "bugs",
                name: "01".to_owned(),
                run: Run::Server(PathBuf::new()),
            },
            outcome,
            seconds: 1.0,
            text: String::new(),
        };
        let table = table(&[verdict(Ok(())), verdict(Err("no".to_owned()))]);
        assert!(table.contains("| bugs/01 | FAIL | its own check | 1.0 |"));
        assert!(table.contains("1 of 2 pass."));
    }
}
