//! `cargo xtask bench [stdio|http|memory|cli|gateway|fleet] [--rounds N] [--only TEXT]`: mcpool beside
//! the limit and rmcp, in release mode. `cargo xtask bench scale [--sizes SERVERS:CLIENTS,…]
//! [--workers N] [--gateways N] [--idle SECONDS] [--rounds N]` simulates a fleet.

use crate::{
    Outcome, clients, servers,
    tools::{self, cargo, target},
};

/// A proxy that the gateway is measured beside; the other one is FastMCP's.
const MCP_PROXY: &[&str] = &["mcp-proxy==0.13.0"];

/// Builds what is measured and runs the benchmark; all arguments go to it.
pub(crate) fn run(args: &[String]) -> Outcome {
    let what = args.first().map(String::as_str);
    let mut build = cargo(["build", "--locked", "--release"]);
    build.args(["-p", "mcpool-bench", "-p", "mcpool-cli"]);
    if matches!(what, Some("fleet" | "scale")) {
        build.args(["--features", "mcpool-bench/fleet,mcpool-cli/nats"]);
    }
    tools::run(&mut build)?;
    // By themselves, as a program is that has servers over stdio alone: together with the others
    // they would have the features of all.
    let mut alone = cargo(["build", "--locked", "--release"]);
    alone.args(["-p", "mcpool-memory", "--bins"]);
    tools::run(&mut alone)?;
    // Run as it was built: `cargo run` would choose other features for one package, and build again.
    let mut bench = std::process::Command::new(target().join("release/mcpool-bench"));
    bench.args(args);
    if what == Some("gateway") {
        let peers = target().join("clients");
        servers::install_python(&peers.join("fastmcp"), clients::FASTMCP)?;
        servers::install_python(&peers.join("mcp-proxy"), MCP_PROXY)?;
        bench.arg("--peers").arg(peers);
    }
    tools::run(&mut bench)
}
