//! A server is killed, comes back, and the next call does not notice.
//!
//! `cargo run -p mcpool --example survive_a_crash`

use std::{sync::Arc, time::Duration};

use mcpool::{ConnectionManager, EventKind, StandardFactory, Verbs as _};
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = StdioFixture::new(Behavior::new());
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    manager
        .start(vec![server.spec("files")])
        .await?
        .all_connected()?;

    let mut events = manager.events();
    server.kill();
    while let Some(event) = events.next_event().await {
        match event.kind {
            EventKind::Disconnected { cause, .. } => println!("lost: {}", cause.as_str()),
            EventKind::RetryScheduled { delay, .. } => println!("next attempt in {delay:?}"),
            EventKind::Connected { elapsed, .. } => {
                println!("back: the connect took {elapsed:?}");
                break;
            }
            _ => {}
        }
    }
    let files = manager.server("files")?;
    let answer = files
        .call_tool("echo", serde_json::json!({"message": "still here"}))
        .await?;
    println!("{}", answer.raw().get());

    let report = manager.shutdown(Duration::from_secs(5)).await;
    println!(
        "closed {} server, killed {}",
        report.closed.len(),
        report.forced.len()
    );
    assert!(server.marker().processes().is_empty());
    Ok(())
}
