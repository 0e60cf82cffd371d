//! `cargo xtask bench WHAT`: the benchmarks, in release mode.

use crate::{
    Outcome,
    tools::{self, cargo},
};

/// Runs the benchmark that is named first; further arguments go to it.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (what, rest) = args.split_first().ok_or("say which benchmark: http")?;
    match what.as_str() {
        "http" => {
            let bench = [
                "bench",
                "--locked",
                "-p",
                "mcpool-http",
                "--bench",
                "http",
                "--",
            ];
            tools::run(cargo(bench).args(rest))
        }
        other => Err(format!("no such benchmark: {other}; there is: http")),
    }
}
