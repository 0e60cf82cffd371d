//! The memory of mcpool's manager over stdio, in a program that has no other client in it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcpool::{
    ConnectBudget, ConnectionManager, ServerSpec, StandardFactory, StdioSpec, Verbs as _,
};
use mcpool_memory::{Need, Outcome, resident, server};
use serde_json::json;

#[tokio::main]
async fn main() -> Outcome {
    let manager = ConnectionManager::builder(Arc::new(StandardFactory::new()))
        .with_budget(ConnectBudget::new(Need::AT_ONCE, Need::AT_ONCE))
        .build();
    let megabyte = "x".repeat(1_000_000);
    let answer = async |nth: usize| -> Outcome {
        let server = manager.server(&format!("s{nth}"))?;
        server
            .call_tool("echo", json!({ "text": megabyte }))
            .await?;
        Ok(())
    };
    manager.start(vec![spec(0)?]).await?.all_connected()?;
    answer(0).await?;
    tokio::time::sleep(Need::SETTLED).await;
    let one = resident("self")?;
    let all = (0..=Need::MORE).map(spec).collect::<Outcome<_>>()?;
    let began = Instant::now();
    manager.start(all).await?.all_connected()?;
    let connected = began.elapsed();
    for nth in 0..=Need::MORE {
        answer(nth).await?;
    }
    tokio::time::sleep(Need::SETTLED).await;
    let many = resident("self")?;
    let began = Instant::now();
    let report = manager.shutdown(Duration::from_secs(30)).await;
    if !report.forced.is_empty() {
        return Err(format!("{} servers were killed", report.forced.len()).into());
    }
    Need::new(one, many, connected, began.elapsed()).print();
    Ok(())
}

fn spec(nth: usize) -> Outcome<ServerSpec> {
    let program = server()?;
    let command = program
        .to_str()
        .ok_or("the path of this program is no text")?;
    let stdio = StdioSpec::new(command).with_args(["serve-stdio"]);
    Ok(ServerSpec::stdio(format!("s{nth}"), stdio)?)
}
