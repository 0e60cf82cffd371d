//! Resident memory of this process, and the time of many connects and of the shutdown.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcpool::{
    ConnectBudget, ConnectionManager, ServerSpec, StandardFactory, StdioSpec, Verbs as _,
};
use serde_json::json;

use crate::Outcome;

const MORE: usize = 1_000;

fn spec(nth: usize) -> Outcome<ServerSpec> {
    let program = std::env::current_exe()?;
    let command = program
        .to_str()
        .ok_or("the path of this program is no text")?;
    let stdio = StdioSpec::new(command).with_args(["serve-stdio"]);
    Ok(ServerSpec::stdio(format!("s{nth}"), stdio)?)
}

/// Resident memory in KiB, from the kernel.
fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS in /proc/self/status")?;
    let number = line.split_whitespace().next().ok_or("an empty VmRSS")?;
    Ok(number.parse()?)
}

pub(crate) async fn run() -> Outcome {
    let manager = ConnectionManager::builder(Arc::new(StandardFactory::new()))
        .with_budget(ConnectBudget::new(32, 32))
        .build();
    let megabyte = "x".repeat(1_000_000);
    let answer = async |nth: usize| -> Outcome {
        let server = manager.server(&format!("s{nth}"))?;
        server
            .call_tool("echo", json!({ "text": megabyte }))
            .await?;
        Ok(())
    };
    manager.start(vec![spec(0)?]).await?.all_connected()?;
    answer(0).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let one = resident()?;
    let mut all = Vec::with_capacity(MORE + 1);
    for nth in 0..=MORE {
        all.push(spec(nth)?);
    }
    let began = Instant::now();
    manager.start(all).await?.all_connected()?;
    let connected = began.elapsed();
    for nth in 0..=MORE {
        answer(nth).await?;
    }
    // Whatever shrinks has shrunk.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let many = resident()?;
    let began = Instant::now();
    let report = manager.shutdown(Duration::from_secs(30)).await;
    let ended = began.elapsed();
    println!("\nmemory and many servers");
    println!(
        "  one idle stdio server       {:>8.1} MB",
        as_kb(one) / 1024.0
    );
    println!(
        "  each of {MORE} more           {:>8.1} KB",
        as_kb(many.saturating_sub(one)) / as_kb(MORE as u64)
    );
    println!(
        "  {MORE} servers: connect       {:>8.2} s",
        connected.as_secs_f64()
    );
    println!(
        "  {MORE} servers: shut down     {:>8.2} s ({} forced)",
        ended.as_secs_f64(),
        report.forced.len()
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "kilobytes for a table")]
fn as_kb(kilobytes: u64) -> f64 {
    kilobytes as f64
}
