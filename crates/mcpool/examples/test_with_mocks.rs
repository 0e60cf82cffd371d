//! Your own code over a pool, tested without a server: a mock stands behind a real manager.
//!
//! `cargo run -p mcpool --features mock --example test_with_mocks`

use std::{sync::Arc, time::Duration};

use mcpool::{
    ConnectionManager, Error, Raw, ServerSpec, Verbs as _,
    mock::{MockClient, MockClientFactory},
};

/// The code under test.
async fn weather_in(pool: &ConnectionManager, city: &str) -> Result<String, Error> {
    let weather = pool.server("weather")?;
    let arguments = serde_json::json!({"city": city});
    let reply = weather.call_tool("now", arguments).await?;
    let text = reply.content.first().and_then(|block| block.as_text());
    Ok(text.map_or_else(|| "unknown".to_owned(), |text| text.text.clone()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let factory = MockClientFactory::healthy(|spec| {
        let mut client = MockClient::healthy(spec.name.clone());
        client
            .expect_request()
            .withf(|request, _| request.method == "tools/call")
            .times(1)
            .returning(|_, _| {
                Raw::from_text(r#"{"content": [{"type": "text", "text": "fog"}]}"#.to_owned())
            });
        client
    });
    let pool = ConnectionManager::new(Arc::new(factory));
    pool.start(vec![ServerSpec::url(
        "weather",
        "https://nowhere.example/mcp",
    )?])
    .await?
    .all_connected()?;

    assert_eq!(weather_in(&pool, "Bern").await?, "fog");
    println!("tested, and nothing was connected");
    pool.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
