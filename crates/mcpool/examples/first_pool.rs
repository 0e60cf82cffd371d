//! Two servers, one list of tools, one call.
//!
//! `cargo run -p mcpool --example first_pool`

use std::{sync::Arc, time::Duration};

use mcpool::{ConnectionManager, Refresh, ServerSpec, StandardFactory};
use mcpool_testkit::{
    Behavior,
    fixtures::{http::HttpFixture, stdio::StdioFixture},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Servers to try it on. Yours are `StdioSpec::new("npx").with_args([…])` and a URL.
    let local = StdioFixture::new(Behavior::new());
    let remote = HttpFixture::start(Behavior::new())?;

    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    let report = manager
        .start(vec![
            ServerSpec::stdio("local", local.process())?,
            ServerSpec::url("remote", remote.url())?,
        ])
        .await?;
    // A server that fails does not hold up the others, and is tried again.
    for (name, error) in report.failed() {
        eprintln!("{name}: {error}");
    }

    let tools = manager.tools(Refresh::IfStale).await;
    println!(
        "{} tools, such as {}",
        tools.len(),
        tools.entries[0].qualified_name
    );

    let arguments = serde_json::json!({"a": 19, "b": 23});
    let sum = manager.call("local__add", arguments).await?;
    println!("{}", sum.raw().get());
    assert!(sum.raw().get().contains("42"));

    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
