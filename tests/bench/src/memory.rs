//! Resident memory, and the time of many connects and of the shutdown: each contender in a program of
//! its own.

use mcpool_memory::Need;

use crate::{Outcome, rounds};

pub(crate) fn run() -> Outcome {
    let (ours, rmcp) = (Need::of("mcpool")?, Need::of("rmcp")?);
    let row = |work, unit, of: fn(&Need) -> f64| {
        rounds::figure(work, unit, of(&ours), None, Some(of(&rmcp)));
    };
    row("memory: one idle stdio server", "MB", |need| need.one_mb);
    row("memory: each of 1 000 more", "KB", |need| need.each_kb);
    row("1 000 servers: connect", "s", |need| need.connect_s);
    row("1 000 servers: shut down", "s", |need| need.shutdown_s);
    Ok(())
}
