//! What is known of a failed request: one that may have run is not sent again.
//!
//! `cargo run -p mcpool --example delivery`

use std::{sync::Arc, time::Duration};

use mcpool::{ConnectionManager, Delivery, ErrorKind, StandardFactory};
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let orders = tempfile::NamedTempFile::new()?;
    let path = orders.path().to_string_lossy().into_owned();
    let server = StdioFixture::new(Behavior::new().with(|b| b.effects_file = Some(path)));
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    manager
        .start(vec![server.spec("shop")])
        .await?
        .all_connected()?;

    // The tool writes the order down, and its server dies before it can answer.
    let order = json!({"key": "one pizza", "then": "crash"});
    let Err(error) = manager.call("shop__count", order).await else {
        return Err("the server died, and the call was answered".into());
    };
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(error.delivery(), Delivery::Unknown);

    // A call that certainly did not run waits for the server to be back.
    manager
        .call("shop__count", json!({"key": "one coffee"}))
        .await?;
    let orders = std::fs::read_to_string(orders.path())?;
    println!("ordered: {}", orders.lines().collect::<Vec<_>>().join(", "));
    assert_eq!(orders, "one pizza\none coffee\n");

    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
