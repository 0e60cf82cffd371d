//! The simulation of a fleet runs to its end, in a tiny size.
#![cfg(all(unix, feature = "fleet"))]
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn a_small_fleet_is_simulated() {
    let run = Command::new(env!("CARGO_BIN_EXE_mcpool-bench"))
        .args(["scale", "--sizes", "3:2,12:20", "--workers", "3"])
        .args(["--gateways", "2", "--idle", "1", "--rounds", "1"])
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{said}{errors}");
    if !mcpool_testkit::machine::servers()
        .join("nats/bin/nats-server")
        .exists()
    {
        mcpool_testkit::machine::skip("the simulation of a fleet", "nats-server is not installed");
        return;
    }
    // Both sizes have come to their end, and have all columns.
    let rows = said.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<usize> = rows.map(|row| row.matches('|').count()).collect();
    assert_eq!(rows, [13; 4], "{said}");
}
