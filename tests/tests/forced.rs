//! Real processes at the end of their time: what is forced is dead when the verb returns.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use mcpool_client::StandardFactory;
use mcpool_core::{HttpSpec, ServerPolicy, ServerSpec, StartMode, Verbs as _};
use mcpool_manager::{CallOptions, ConnectionManager};
use mcpool_testkit::{
    Behavior, eventually,
    fixtures::{http::HttpFixture, stdio::StdioFixture},
};
use serde_json::json;

const LONG: Duration = Duration::from_secs(60);

fn manager() -> ConnectionManager {
    ConnectionManager::new(Arc::new(StandardFactory::new()))
}

/// Behind a launcher, and deaf to everything but SIGKILL.
fn deaf() -> StdioFixture {
    StdioFixture::new(Behavior::new().with(|b| {
        b.wrapper = true;
        b.ignore_eof = true;
        b.ignore_sigterm = true;
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_shutdown_forces_is_dead_when_it_returns() {
    for deadline in [Duration::ZERO, Duration::from_millis(300)] {
        let fixture = deaf();
        let manager = manager();
        let specs = (0..4).map(|n| fixture.spec(&format!("deaf{n}"))).collect();
        manager.start(specs).await.unwrap().all_connected().unwrap();
        assert!(fixture.marker().processes().len() >= 8);
        let report = manager.shutdown(deadline).await;
        // No waiting here: dead means dead.
        let left = fixture.marker().processes();
        assert!(left.is_empty(), "{deadline:?}: {left:?}");
        assert_eq!(report.forced.len(), 4, "{report:?}");
        assert!(
            report.elapsed < deadline + Duration::from_secs(3),
            "{report:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_being_connected_is_dead_when_disconnect_returns() {
    for round in 0..10 {
        let fixture = StdioFixture::new(Behavior::new().with(|b| {
            b.wrapper = true;
            b.ignore_eof = true;
            b.ignore_sigterm = true;
            b.start_delay_ms = 30_000;
        }));
        let manager = manager();
        manager.add(fixture.spec("slow")).unwrap();
        let started = || !fixture.marker().processes().is_empty();
        assert!(eventually(LONG, started).await);
        match round % 2 {
            0 => manager.server("slow").unwrap().disconnect().await.unwrap(),
            _ => drop(manager.shutdown(Duration::ZERO).await),
        }
        let left = fixture.marker().processes();
        assert!(left.is_empty(), "round {round}: {left:?}");
        manager.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_duration_panics_with_real_servers() {
    for extreme in [Duration::MAX, Duration::from_secs(u64::MAX)] {
        let stdio = StdioFixture::new(Behavior::new());
        let http = HttpFixture::start(Behavior::new()).unwrap();
        let mut policy = ServerPolicy::default();
        policy.timeouts.startup = extreme;
        policy.timeouts.request = extreme;
        policy.timeouts.request_max = extreme;
        policy.timeouts.discover = extreme;
        policy.health.interval = extreme;
        policy.health.timeout = extreme;
        policy.reconnect.base = extreme;
        policy.reconnect.cap = extreme;
        policy.shutdown.stdin_grace = extreme;
        policy.shutdown.term_grace = extreme;
        policy.shutdown.total = extreme;
        policy.catalog_ttl = Some(extreme);
        let mut spec = HttpSpec::new(http.url());
        spec.connect_timeout = extreme;
        let specs = vec![
            stdio.spec("stdio").with_policy(policy.clone()),
            ServerSpec::http("http", spec)
                .unwrap()
                .with_policy(policy)
                .with_start(StartMode::Lazy(Some(extreme))),
        ];
        let manager = manager();
        let start = tokio::time::timeout(LONG, manager.start(specs)).await;
        start.unwrap().unwrap().all_connected().unwrap();
        for name in ["stdio", "http"] {
            let options = CallOptions::new().with_timeout(extreme);
            let server = manager.server(name).unwrap().with_call_options(options);
            let hi = json!({"message": "hi"});
            server.call_tool("echo", hi).await.unwrap();
            server.ready_client(extreme).await.unwrap();
            server.health_check().await.unwrap();
        }
        let ended = tokio::time::timeout(LONG, manager.shutdown(extreme)).await;
        assert!(ended.unwrap().forced.is_empty());
    }
}
