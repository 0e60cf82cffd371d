//! `cargo xtask test`: every test, on whatever machine this is.
//!
//! It needs Rust and nothing else. Third-party servers are installed under `target/` where npm
//! and Python are there. A test that cannot run here writes one line to the file that
//! `MCPOOL_SKIPS` names and ends; those lines are the last lines of the output. With `CI=true`
//! nothing may be skipped.

use std::fs;

use crate::{
    Outcome, servers,
    tools::{self, cargo, find, is_ci, run as exec, target},
};

/// Where a test that cannot run here says so, one line each.
const SKIPS: &str = "MCPOOL_SKIPS";

/// Installs the servers, runs the tests and the doctests, and reports what was skipped.
pub(crate) fn run() -> Outcome {
    let skips = target().join("skips.txt");
    fs::create_dir_all(target()).map_err(|error| error.to_string())?;
    fs::write(&skips, "").map_err(|error| format!("{}: {error}", skips.display()))?;

    let mut left_out = servers::install()?;
    unit_and_integration(&skips)?;
    exec(cargo(["test", "--locked", "--workspace", "--all-features", "--doc"]).env(SKIPS, &skips))?;

    let written = fs::read_to_string(&skips).map_err(|error| error.to_string())?;
    left_out.extend(written.lines().map(str::to_owned));
    report(&mut left_out)
}

fn unit_and_integration(skips: &std::path::Path) -> Outcome {
    let scope = ["--locked", "--workspace", "--all-features"];
    match find("cargo-nextest") {
        Some(nextest) => exec(
            std::process::Command::new(nextest)
                .current_dir(tools::root())
                .args(["nextest", "run"])
                .args(scope)
                .env(SKIPS, skips),
        ),
        None => exec(
            cargo(["test"])
                .args(scope)
                .args(["--lib", "--bins", "--tests", "--examples", "--no-fail-fast"])
                .env(SKIPS, skips),
        ),
    }
}

fn report(left_out: &mut Vec<String>) -> Outcome {
    left_out.sort();
    left_out.dedup();
    if left_out.is_empty() {
        println!("skipped: nothing");
        return Ok(());
    }
    println!("skipped: {}", left_out.len());
    for line in left_out.iter() {
        println!("  {line}");
    }
    if is_ci() {
        return Err("CI=true and something was skipped".into());
    }
    Ok(())
}
