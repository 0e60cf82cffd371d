//! Resident memory, and the time of many connects and of the shutdown: each contender in a process
//! of its own.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mcpool::{ConnectBudget, ConnectionManager, ServerSpec, StandardFactory, Verbs as _};
use rmcp::{ServiceExt as _, transport::TokioChildProcess};
use serde_json::json;

use crate::{
    Outcome,
    contender::{Contender as _, Rmcp},
    rounds, stdio,
};

const MORE: usize = 1_000;
/// Connects at a time.
const AT_ONCE: usize = 32;
/// What shrinks after a while has shrunk.
const SETTLED: Duration = Duration::from_secs(2);

fn spec(nth: usize) -> Outcome<ServerSpec> {
    stdio::spec(&format!("s{nth}"))
}

/// Resident memory of a process (`self`, or a number) in kilobytes, from the kernel.
pub(crate) fn resident(process: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS in /proc")?;
    let number = line.split_whitespace().next().ok_or("an empty VmRSS")?;
    Ok(number.parse()?)
}

/// What one contender needs.
struct Need {
    one_mb: f64,
    each_kb: f64,
    connect_s: f64,
    shutdown_s: f64,
}

impl Need {
    fn print(&self) {
        let Self {
            one_mb,
            each_kb,
            connect_s,
            shutdown_s,
        } = self;
        println!("{one_mb} {each_kb} {connect_s} {shutdown_s}");
    }

    /// Runs a contender and reads what it printed.
    fn of(contender: &str) -> Outcome<Self> {
        let output = Command::new(std::env::current_exe()?)
            .args(["memory-of", contender])
            .stderr(std::process::Stdio::inherit())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let figures: Vec<f64> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [one_mb, each_kb, connect_s, shutdown_s] = figures[..] else {
            return Err(format!("{contender} failed").into());
        };
        Ok(Self {
            one_mb,
            each_kb,
            connect_s,
            shutdown_s,
        })
    }
}

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

/// Measures one contender in this process.
pub(crate) async fn measure(contender: &str) -> Outcome {
    match contender {
        "mcpool" => mcpool().await?.print(),
        "rmcp" => rmcp().await?.print(),
        other => return Err(format!("no such contender: {other}").into()),
    }
    Ok(())
}

async fn mcpool() -> Outcome<Need> {
    let manager = ConnectionManager::builder(Arc::new(StandardFactory::new()))
        .with_budget(ConnectBudget::new(AT_ONCE, AT_ONCE))
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
    tokio::time::sleep(SETTLED).await;
    let one = resident("self")?;
    let all = (0..=MORE).map(spec).collect::<Outcome<_>>()?;
    let began = Instant::now();
    manager.start(all).await?.all_connected()?;
    let connected = began.elapsed();
    for nth in 0..=MORE {
        answer(nth).await?;
    }
    tokio::time::sleep(SETTLED).await;
    let many = resident("self")?;
    let began = Instant::now();
    let report = manager.shutdown(Duration::from_secs(30)).await;
    if !report.forced.is_empty() {
        return Err(format!("{} servers were killed", report.forced.len()).into());
    }
    Ok(need(one, many, connected, began.elapsed()))
}

async fn rmcp() -> Outcome<Need> {
    let connect = async || -> Outcome<Rmcp> {
        let mut child = tokio::process::Command::new(std::env::current_exe()?);
        child.arg("serve-stdio");
        Ok(Arc::new(().serve(TokioChildProcess::new(child)?).await?))
    };
    let megabyte = "x".repeat(1_000_000);
    let first = connect().await?;
    first.list_all_tools().await?;
    first.call(&megabyte).await?;
    tokio::time::sleep(SETTLED).await;
    let one = resident("self")?;
    let began = Instant::now();
    let all: Vec<Rmcp> = stream::iter(0..MORE)
        .map(|_| async {
            let client = connect().await?;
            client.list_all_tools().await?;
            Outcome::Ok(client)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let connected = began.elapsed();
    for client in &all {
        client.call(&megabyte).await?;
    }
    tokio::time::sleep(SETTLED).await;
    let many = resident("self")?;
    let began = Instant::now();
    let ends = all.into_iter().chain([first]).map(|client| async {
        match Arc::try_unwrap(client) {
            Ok(client) => client.cancel().await.map(|_| ()),
            Err(_) => Ok(()),
        }
    });
    for end in futures::future::join_all(ends).await {
        end?;
    }
    Ok(need(one, many, connected, began.elapsed()))
}

fn need(one: f64, many: f64, connected: Duration, ended: Duration) -> Need {
    Need {
        one_mb: one / 1024.0,
        each_kb: (many - one) / 1_000.0,
        connect_s: connected.as_secs_f64(),
        shutdown_s: ended.as_secs_f64(),
    }
}
