//! `cargo xtask ci examples`: every example of the library is built, and runs to a good end.
//!
//! They need no arguments: each has servers of its own on this machine, and asserts what it shows.

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    tools::{self, cargo, root, target},
};

const DIR: &str = "crates/mcpool/examples";

/// How long one may run. The slowest takes a second.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Builds all and runs each.
pub(crate) fn run() -> Outcome {
    // The whole workspace, so that what was built for the tests serves here too.
    tools::run(&mut cargo([
        "build",
        "--locked",
        "--workspace",
        "--all-features",
        "--bins",
        "--examples",
    ]))?;
    let names = names()?;
    let mut failed = Vec::new();
    for name in &names {
        let start = Instant::now();
        match run_one(name) {
            Ok(()) => println!("  good    {name} {} ms", start.elapsed().as_millis()),
            Err(problem) => {
                println!("  FAILED  {name}: {problem}");
                failed.push(name.as_str());
            }
        }
    }
    match failed.len() {
        0 => Ok(()),
        _ => Err(format!("examples that failed: {}", failed.join(", "))),
    }
}

/// A file is an example, and so is a directory with a `main.rs`.
fn names() -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join(DIR)).map_err(|error| format!("{DIR}: {error}"))? {
        let path = entry.map_err(|error| format!("{DIR}: {error}"))?.path();
        let is_example = match path.is_dir() {
            true => path.join("main.rs").is_file(),
            false => path.extension().is_some_and(|extension| extension == "rs"),
        };
        if let (true, Some(stem)) = (is_example, path.file_stem()) {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn run_one(name: &str) -> Outcome {
    let program = target().join("debug/examples").join(name);
    let mut child = Command::new(&program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("it did not start: {error}"))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it ended with {status}")),
            Ok(None) if start.elapsed() < TIMEOUT => sleep(Duration::from_millis(20)),
            Ok(None) => {
                // It is our child, so the number is still its own.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it ran for more than {} s", TIMEOUT.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
