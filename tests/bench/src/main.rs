//! Measures mcpool beside two others in one run: a client that only writes, reads and parses (the
//! limit), and rmcp. The contenders take turns, round by round, so that whatever else the machine
//! does meets all of them; the figures are medians over the rounds.
//!
//! `cargo xtask bench [stdio|http|memory|cli|gateway|fleet] [--rounds N] [--only TEXT]` builds and
//! runs it, and `cargo xtask bench scale` simulates a fleet.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod cli;
mod contender;
#[cfg(feature = "fleet")]
mod fleet;
mod gateway;
mod http;
mod http_server;
mod memory;
mod posting;
mod process;
mod programs;
mod relay;
mod rounds;
#[cfg(feature = "fleet")]
mod scale;
mod stdio;
mod stdio_server;
mod tokio_limit;

use std::process::ExitCode;

use mcpool_memory::Outcome;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Outcome {
    let (what, rest) = match args.split_first() {
        Some((what, rest)) if !what.starts_with('-') => (what.as_str(), rest),
        _ => ("all", args),
    };
    match what {
        // What the others start.
        "serve-stdio" => return stdio_server::serve(),
        "serve-http" => return http_server::serve(),
        "serve-relay" => return relay::serve(),
        _ => {}
    }
    // One for the application: as a program that uses the library would.
    let runtime = tokio::runtime::Runtime::new()?;
    #[cfg(feature = "fleet")]
    if let Some(outcome) = runtime.block_on(scale::part(args)) {
        return outcome;
    } else if what == "scale" {
        return runtime.block_on(scale::run(rest));
    }
    let options = rounds::Options::parse(rest)?;
    match what {
        "gateway" => return runtime.block_on(gateway::run(&options)),
        #[cfg(feature = "fleet")]
        "fleet" => return runtime.block_on(fleet::run(&options)),
        _ => {}
    }
    rounds::head();
    match what {
        "stdio" => runtime.block_on(stdio::run(&options)),
        "http" => runtime.block_on(http::run(&options)),
        "memory" => memory::run(),
        "cli" => cli::run(&options),
        "all" => {
            runtime.block_on(stdio::run(&options))?;
            runtime.block_on(http::run(&options))?;
            memory::run()?;
            cli::run(&options)
        }
        other => Err(format!(
            "no such benchmark: {other}; there are stdio, http, memory, cli, gateway, and with the feature `fleet` fleet and scale"
        )
        .into()),
    }
}
