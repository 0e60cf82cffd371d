//! Many agents, each with a client of its own: nothing is shared, and each is closed when its
//! agent is done, from whatever task.
//!
//! `cargo run -p mcpool --example many_agents`

use mcpool::{StandardFactory, Verbs as _};
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture};
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = StdioFixture::new(Behavior::new());
    let factory = StandardFactory::new();
    let mut agents = JoinSet::new();
    for number in 0..5 {
        // Nothing is started yet: the first call connects.
        let client = factory.isolated_lazy(&server.spec("memory"));
        agents.spawn(async move {
            let note = json!({"message": format!("note of agent {number}")});
            client.call_tool("echo", note).await?;
            // Each has a process of its own.
            let state = client.call_tool("state", json!({})).await?;
            Ok::<_, mcpool::Error>(state.structured_content.clone())
        });
    }
    while let Some(agent) = agents.join_next().await {
        let state = agent??.unwrap_or_default();
        assert_eq!(state["calls"], 2);
    }
    println!("five agents, five processes");
    Ok(())
}
