//! A new configuration is applied as a difference: what did not change keeps its connection.
//!
//! `cargo run -p mcpool --example reload`

use std::{sync::Arc, time::Duration};

use mcpool::{ConnectionManager, ServerSpec, StandardFactory};
use mcpool_testkit::{
    Behavior,
    fixtures::{http::HttpFixture, stdio::StdioFixture},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = StdioFixture::new(Behavior::new());
    let docs = HttpFixture::start(Behavior::new())?;
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    manager
        .start(vec![files.spec("files")])
        .await?
        .all_connected()?;
    let before = files.marker().processes();

    let wanted = vec![files.spec("files"), ServerSpec::url("docs", docs.url())?];
    let plan = manager.plan(&wanted)?;
    println!("new: {:?}, as they are: {:?}", plan.added, plan.unchanged);
    assert_eq!((plan.added.len(), plan.unchanged.len()), (1, 1));

    manager.apply(wanted).await?;
    manager.server("docs")?.connect().await?;
    assert_eq!(files.marker().processes(), before);
    println!(
        "{} servers, and the process of files is the same",
        manager.names().len()
    );

    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
