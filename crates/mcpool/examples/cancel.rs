//! A call ends early: its future is dropped, and the server is notified.
//!
//! `cargo run -p mcpool --example cancel`

use std::{sync::Arc, time::Duration};

use mcpool::{ConnectionManager, ServerSpec, StandardFactory};
use mcpool_testkit::{Behavior, eventually, fixtures::http::HttpFixture};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = HttpFixture::start(Behavior::new())?;
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    let spec = ServerSpec::url("docs", server.url())?;
    manager.start(vec![spec]).await?.all_connected()?;

    // As when a person presses "stop": here after the call has reached the server.
    let stop = eventually(Duration::from_secs(5), || server.seen()["calls"] == 1);
    tokio::select! {
        _ = manager.call("docs__hang", json!({})) => unreachable!("this tool never answers"),
        arrived = stop => assert!(arrived),
    }
    let was_notified = eventually(Duration::from_secs(5), || server.seen()["cancelled"] == 1).await;
    println!("the server was notified: {was_notified}");
    assert!(was_notified);

    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
