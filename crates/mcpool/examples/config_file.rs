//! The servers of a config file, `mcp.json` or that of another MCP host.
//!
//! `cargo run -p mcpool --example config_file -- [FILE]`

use std::{sync::Arc, time::Duration};

use mcpool::{ConnectionManager, StandardFactory, config::Loader};
use mcpool_testkit::fixtures::stdio::fixture_path;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let loader = match std::env::args().nth(1) {
        Some(file) => Loader::new().with_file(file),
        None => {
            let server = serde_json::json!({"command": fixture_path(), "timeout": "5s"});
            let text = serde_json::json!({"mcpServers": {"files": server}}).to_string();
            Loader::new().with_text("mcp.json", text)
        }
    };
    let loaded = loader.load()?.checked()?;
    // One bad entry does not spoil the others.
    for problem in &loaded.problems {
        eprintln!("{}", problem.render());
    }
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    for (name, error) in manager.start(loaded.servers).await?.failed() {
        eprintln!("{name}: {error}");
    }
    for status in manager.status_all() {
        println!("{}: {}, {} tools", status.name, status.state, status.tools);
    }
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
