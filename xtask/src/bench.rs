//! `cargo xtask bench [stdio|http|memory|cli] [--rounds N] [--only TEXT]`: mcpool beside the limit and rmcp, in
//! release mode.

use crate::{
    Outcome,
    tools::{self, cargo},
};

/// Builds what is measured and runs the benchmark; all arguments go to it.
pub(crate) fn run(args: &[String]) -> Outcome {
    let release = ["build", "--locked", "--release"];
    tools::run(cargo(release).args(["-p", "mcpool-bench", "-p", "mcpool-cli"]))?;
    let run = [
        "run",
        "--locked",
        "--quiet",
        "--release",
        "-p",
        "mcpool-bench",
        "--",
    ];
    tools::run(cargo(run).args(args))
}
