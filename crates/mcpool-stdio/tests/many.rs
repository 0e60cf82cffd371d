//! Many servers at once: how long they take to end, and that nothing is left.
//!
//! `MCPOOL_STRESS_SERVERS` sets how many (default 20).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use mcpool_core::{ServerSpec, Transport};
use mcpool_stdio::StdioTransport;
use mcpool_testkit::leaks;
use support::*;

fn count() -> usize {
    std::env::var("MCPOOL_STRESS_SERVERS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(20)
}

async fn start(spec: &ServerSpec) -> Vec<StdioTransport> {
    futures::future::join_all((0..count()).map(|_| open(spec.clone()))).await
}

/// Closes all at once, as a manager does.
async fn close(transports: Vec<StdioTransport>) -> Duration {
    let began = Instant::now();
    let closing = transports.into_iter().map(async |mut transport| {
        let _ = transport.close().await;
    });
    within(futures::future::join_all(closing)).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_servers_end_together() {
    let obedient = sh("echo ready >&2; exec cat");
    let stubborn = sh("trap '' TERM; echo ready >&2; while :; do sleep 1000; done");
    drop(start(&obedient).await);
    let files = leaks::descriptor_count();
    for (name, spec, bound) in [
        ("obey the end of stdin", &obedient, Duration::from_secs(4)),
        ("ignore everything", &stubborn, Duration::from_secs(6)),
    ] {
        let began = Instant::now();
        let transports = start(spec).await;
        let started = began.elapsed();
        for transport in &transports {
            let monitor = transport.monitor();
            until("it is up", || !monitor.diagnostics().stderr_tail.is_empty()).await;
        }
        let closed = close(transports).await;
        println!(
            "{} servers that {name}: started in {started:?}, closed in {closed:?}",
            count()
        );
        assert!(closed < bound, "{closed:?}");

        let transports = start(spec).await;
        let began = Instant::now();
        drop(transports);
        println!("  dropped one by one in {:?}", began.elapsed());
    }
    until("no task is left", || leaks::task_count() == 0).await;
    assert_eq!(leaks::descriptor_count(), files);
    assert_eq!(leaks::descendants(std::process::id()), [] as [u32; 0]);
}
