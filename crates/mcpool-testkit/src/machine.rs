//! What tests ask of the machine that they run on: installed servers, free ports, and how a test
//! says that it cannot run here.

use std::{
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

/// Where `cargo xtask servers` installs: `target/servers`, above the running test.
#[must_use]
pub fn servers() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let found = test
        .ancestors()
        .map(|dir| dir.join("servers"))
        .find(|dir| dir.is_dir());
    found.unwrap_or_else(|| "target/servers".into())
}

/// A port of loopback that was free a moment ago.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Ports of loopback that were free a moment ago, each another one.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are known: one that is given back at once may be given out again.
    let held: [_; N] = std::array::from_fn(|_| match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(bound) => bound,
        Err(error) => panic!("no free port: {error}"),
    });
    held.each_ref().map(|bound| match bound.local_addr() {
        Ok(address) => address.port(),
        Err(error) => panic!("a port without an address: {error}"),
    })
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
    use crate::leaks::Marker;

    #[test]
    fn a_skip_is_written_down() {
        let marker = Marker::new();
        let file = marker.dir().join("skips.txt");
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
