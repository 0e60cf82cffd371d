//! A heartbeat: the server is probed when it has been silent for a while.
//!
//! `cargo run -p mcpool --example heartbeat`

use std::{sync::Arc, time::Duration};

use mcpool::{
    ConnectionManager, EventKind, HealthPolicy, ServerPolicy, ServerSpec, StandardFactory,
};
use mcpool_testkit::{Behavior, fixtures::http::HttpFixture};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = HttpFixture::start(Behavior::new())?;
    // Every 45 s unless it is said otherwise. Two misses in a row, and it is connected again.
    let health = HealthPolicy::default()
        .with_interval(Duration::from_millis(200))
        .with_timeout(Duration::from_secs(5));
    let spec = ServerSpec::url("docs", server.url())?
        .with_policy(ServerPolicy::default().with_health(health));

    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    let mut events = manager.events();
    manager.start(vec![spec]).await?.all_connected()?;
    while let Some(event) = events.next_event().await {
        if let EventKind::HeartbeatOk { latency } = event.kind {
            println!("answered within {latency:?}");
            break;
        }
    }
    let status = manager.server("docs")?.status()?;
    assert!(status.last_heartbeat.is_some());
    println!("{}: {:?}", status.name, status.connectivity);

    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
