//! The progress of a long call, which extends its timeout.
//!
//! `cargo run -p mcpool --example progress`

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool::{CallOptions, ConnectionManager, RequestOptions, ServerSpec, StandardFactory};
use mcpool_testkit::{Behavior, fixtures::http::HttpFixture};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = HttpFixture::start(Behavior::new())?;
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    let spec = ServerSpec::url("render", server.url())?;
    manager.start(vec![spec]).await?.all_connected()?;

    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let request = RequestOptions::new()
        // From one sign of life to the next, and in all.
        .with_timeout(Duration::from_secs(5))
        .with_max_total(Duration::from_secs(60))
        .with_progress(move |progress| {
            println!("{} of {:?}", progress.progress, progress.total);
            if let Ok(mut log) = log.lock() {
                log.push(progress.progress);
            }
        });
    let options = CallOptions::new().with_request(request);
    let work = json!({"steps": 3, "step_ms": 50});
    manager.call_with("render__slow", work, &options).await?;
    assert_eq!(seen.lock().map(|seen| seen.len()).ok(), Some(3));

    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
