//! What the end-to-end tests share: where the third-party servers are, how their processes are
//! started and found again, and how a test says that it cannot run here.

mod cli;
mod servers;

pub use cli::{Cli, Finished, Running};
pub use servers::{HttpServer, Servers, free_port};

use std::{io::Write, path::Path};

/// How much of a test of endurance is run: few rounds by default, many with `MCPOOL_ENDURANCE`, as
/// when the figures of `docs/measurements.md` are taken.
#[must_use]
pub fn rounds(few: usize, many: usize) -> usize {
    match std::env::var_os("MCPOOL_ENDURANCE") {
        Some(_) => many,
        None => few,
    }
}

/// A test that cannot run on this machine says so and ends.
///
/// The line goes to the file that `MCPOOL_SKIPS` names, for the end of `cargo xtask test`, and
/// to standard error.
///
/// # Panics
/// With `CI=true`: nothing may be skipped there.
pub fn skip(what: &str, why: &str) {
    let is_ci = std::env::var("CI").as_deref() == Ok("true");
    let file = std::env::var_os("MCPOOL_SKIPS");
    say_skipped(
        &format!("{what}: {why}"),
        is_ci,
        file.as_deref().map(Path::new),
    );
}

fn say_skipped(line: &str, is_ci: bool, file: Option<&Path>) {
    assert!(!is_ci, "CI=true forbids a skip: {line}");
    eprintln!("skipped: {line}");
    if let Some(file) = file {
        // One write in append mode: tests run in many processes.
        let appended = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = appended {
            eprintln!("MCPOOL_SKIPS: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("skips.txt");
        say_skipped("one: not installed", false, Some(&file));
        say_skipped("two: not installed", false, Some(&file));
        let written = std::fs::read_to_string(file).unwrap();
        assert_eq!(written, "one: not installed\ntwo: not installed\n");
    }

    #[test]
    #[should_panic(expected = "CI=true forbids a skip")]
    fn no_skip_where_nothing_may_be_skipped() {
        say_skipped("one: not installed", true, None);
    }
}
