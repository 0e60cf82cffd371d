//! Many servers at once: how long they take to end, and that nothing is left.
//!
//! `MCPOOL_STRESS_SERVERS` sets how many (default 20).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use mcpool_core::{ConnectRequest, Transport};
use mcpool_stdio::{StdioConnector, StdioTransport};
use mcpool_testkit::leaks;
use support::*;

fn count() -> usize {
    std::env::var("MCPOOL_STRESS_SERVERS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(20)
}

async fn start(connector: &StdioConnector, request: &ConnectRequest) -> Vec<StdioTransport> {
    let open = async || connector.open(request.clone()).await.unwrap();
    futures::future::join_all((0..count()).map(|_| open())).await
}

/// Closes all at once, as a manager does.
async fn close(transports: Vec<StdioTransport>) -> Duration {
    let began = Instant::now();
    let closing = transports
        .into_iter()
        .map(async |transport: StdioTransport| {
            let _ = transport.close().await;
        });
    within(futures::future::join_all(closing)).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_servers_end_together() {
    let guarded = StdioConnector::new().with_guardian(guardian_program());
    let obedient = sh("echo ready >&2; exec cat");
    drop(start(&StdioConnector::new(), &obedient).await);
    drop(start(&guarded, &obedient).await);
    nothing_is_left().await;
    let files = leaks::descriptor_count();
    for (guardian, connector) in [("a shell", StdioConnector::new()), ("a program", guarded)] {
        println!("the guardian is {guardian}");
        end_together(&connector).await;
    }
    nothing_is_left().await;
    assert_eq!(leaks::descriptor_count(), files);
}

async fn nothing_is_left() {
    until("no task is left", || leaks::task_count() == 0).await;
    until("no process is left", || {
        leaks::descendants(std::process::id()).is_empty()
    })
    .await;
    until("no thread listens to a guardian any more", || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let mut names = tasks.map(|task| std::fs::read_to_string(task.path().join("comm")));
        !names.any(|name| name.is_ok_and(|name| name.starts_with("mcpool")))
    })
    .await;
}

async fn end_together(connector: &StdioConnector) {
    let obedient = sh("echo ready >&2; exec cat");
    let stubborn = sh("trap '' TERM; echo ready >&2; while :; do sleep 1000; done");
    for (name, spec, bound) in [
        ("end at the end of stdin", &obedient, Duration::from_secs(4)),
        ("ignore everything", &stubborn, Duration::from_secs(6)),
    ] {
        let began = Instant::now();
        let transports = start(connector, spec).await;
        let started = began.elapsed();
        for transport in &transports {
            until_ready(transport).await;
        }
        let closed = close(transports).await;
        println!(
            "{} servers that {name}: started in {started:?}, closed in {closed:?}",
            count()
        );
        assert!(closed < bound, "{closed:?}");

        let transports = start(connector, spec).await;
        let began = Instant::now();
        drop(transports);
        println!("  dropped one by one in {:?}", began.elapsed());
    }
}
