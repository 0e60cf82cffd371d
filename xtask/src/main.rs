//! The project's checks and chores: `cargo xtask COMMAND`.
//!
//! One list of checks, run the same by a person and by CI. This program compiles before
//! anything is checked, so it has few dependencies: one reads JSON, the others read and write Rust.

mod api;
mod bench;
mod book;
mod cases;
mod ci;
mod circles;
mod clients;
mod conformance;
mod deploy;
mod documented;
mod documents;
mod examples;
mod external_types;
mod layers;
mod limits;
mod links;
mod msrv;
mod outward;
mod package;
mod picture;
mod programs;
mod release;
mod rendered;
mod servers;
mod sources;
mod test;
mod tools;
mod weight;
mod words;

use std::{process::ExitCode, time::Instant};

/// What a chore gives: nothing, or one line that says what went wrong.
type Outcome<T = ()> = Result<T, String>;

const USAGE: &str = "\
cargo xtask COMMAND

  ci [STEP…]   every check, or only these; `ci --list` names them, `--long` adds endurance
  test         the tests; installs what it can under target/, lists what it skips
               (CI=true: a skip is a failure)
  layers       the direction of dependencies between the crates, and circles of files in one
  external-types  whose types stand in public signatures
  servers      installs the third-party servers of the end-to-end tests under target/
  conformance  the official conformance suite, against the table in docs/conformance.md
               (--update writes the table; PATTERN… runs a part)
  cases [DIR]  servers, configs, attacks and faults that went wrong once, run against the program
               (PATTERN… runs a part)
  clients      clients of other makers at the gateway, against the table in docs/clients.md
               (--update writes the table; PATTERN… runs a part)
  bench        mcpool beside the limit and rmcp: `bench [stdio|http|memory|cli|gateway|fleet]`,
               --rounds N, --only TEXT; `bench scale` simulates a fleet
  api          the public items of each library, against docs/api (--update writes them)
  book-links   the preprocessor that mdbook starts: links out of docs/ lead to the repository
  package      the crates as they would be published (--long builds each from its package)
  msrv         no dependency wants a newer Rust than Cargo.toml promises
  release      `release --dry-run` goes through the checklist of docs/releasing.md
  picture      draws docs/watch.svg from a run of `mcpool watch`
  weight       how many packages each crate brings, against the table in docs/weight.md
               (--update writes it; --binary builds and weighs the program)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let start = Instant::now();
    let outcome = match command {
        "ci" => ci::run(rest),
        "test" => test::run(),
        "layers" => layers::run().and(circles::run()),
        "external-types" => external_types::run(),
        "servers" => servers::run(rest),
        "conformance" => conformance::run(rest),
        "cases" => cases::run(rest),
        "clients" => clients::run(rest),
        "bench" => bench::run(rest),
        "msrv" => msrv::run(),
        "weight" => weight::run(rest),
        "api" => api::run(rest),
        "book-links" => outward::run(rest),
        "package" => package::run(rest),
        "release" => release::run(rest),
        "picture" => picture::run(),
        "help" | "-h" | "--help" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(format!("no such command: {other}\n\n{USAGE}")),
    };
    let seconds = start.elapsed().as_secs();
    match outcome {
        Ok(()) => {
            eprintln!("xtask {command}: good, {seconds} s");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("xtask {command}: FAILED after {seconds} s: {problem}");
            ExitCode::FAILURE
        }
    }
}
