//! What the end-to-end tests share: where the third-party servers are, how their processes are
//! started and found again, and how a test says that it cannot run here.

mod cli;
mod servers;

pub use cli::{Cli, Finished, Running};
pub use servers::{HttpServer, Servers, free_port};

use std::io::Write;

/// A test that cannot run on this machine says so and ends.
///
/// The line goes to the file that `MCPOOL_SKIPS` names, for the end of `cargo xtask test`, and
/// to standard error.
///
/// # Panics
/// With `CI=true`: nothing may be skipped there.
pub fn skip(what: &str, why: &str) {
    let line = format!("{what}: {why}");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI=true forbids a skip: {line}"
    );
    eprintln!("skipped: {line}");
    if let Some(file) = std::env::var_os("MCPOOL_SKIPS") {
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
