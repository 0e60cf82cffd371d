//! An application's own logic tested on servers that do not exist, over hours that take
//! milliseconds: the clock is paused, and goes on to whatever is waited for.
//!
//! `cargo run -p mcpool --example mocked_factory`

use std::{sync::Arc, time::Duration};

use mcpool::{
    ConnectionManager, Error, ErrorKind, Raw, ServerSpec, StateKind, StdioSpec,
    mock::{MockClient, MockClientFactory},
};
use mcpool_testkit::{Act, FakeFactory, Op};
use serde_json::json;
use tokio::time::Instant;

fn spec() -> Result<ServerSpec, Error> {
    ServerSpec::stdio("weather", StdioSpec::new("not started"))
}

/// A server that is away for six hours: the manager goes on trying, and notices its return.
async fn six_hours_away() -> Result<(), Error> {
    let servers = FakeFactory::new();
    let weather = servers.server("weather");
    weather.on_tool("now", |arguments| {
        let city = arguments["city"].as_str().unwrap_or("nowhere");
        Ok(json!({"content": [{"type": "text", "text": format!("fog in {city}")}]}))
    });
    let manager = ConnectionManager::new(Arc::new(servers.clone()));
    manager.start(vec![spec()?]).await?.all_connected()?;

    let refused = Error::new(ErrorKind::Connect, "connection refused");
    weather.always(Op::Connect, Act::Fail(refused.clone()));
    weather.kill(refused);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(6 * 3600)).await;
    assert_eq!(
        manager.server("weather")?.status()?.state,
        StateKind::Dormant
    );
    weather.always(Op::Connect, Act::Answer);

    let mut state = manager.server("weather")?.watch()?;
    // What it gives is a lock on the state: it must not be kept while the manager works.
    let is_ready = state.wait_for(|state| state.is_ready()).await.is_ok();
    assert!(is_ready, "the manager lives");
    println!(
        "back after {:?}, {} attempts",
        began.elapsed(),
        weather.count(Op::Connect)
    );
    let reply = manager
        .call("weather__now", json!({"city": "Bern"}))
        .await?;
    println!("{}", reply.raw().get());
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// The same seam with mocks that check which requests are made. A healthy one stands behind a
/// manager; what a test is about is added.
async fn exactly_one_request() -> Result<(), Error> {
    let factory = MockClientFactory::healthy(|spec| {
        let mut client = MockClient::healthy(spec.name.clone());
        client
            .expect_request()
            .withf(|request, _| request.method == "prompts/get")
            .times(1)
            .returning(|_, _| Raw::from_text(r#"{"messages": []}"#.to_owned()));
        client
    });
    let manager = ConnectionManager::new(Arc::new(factory));
    manager.start(vec![spec()?]).await?.all_connected()?;
    use mcpool::Verbs as _;
    let weather = manager.server("weather")?;
    weather.get_prompt("outfit", ()).await?;
    // An hour of heartbeats, which the healthy mock answers.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(weather.status()?.state, StateKind::Ready);
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Error> {
    six_hours_away().await?;
    exactly_one_request().await
}
