//! How a downstream crate tests a layer of its own on the mocks of mcpool: no process, no socket,
//! no server. The layer here asks a tool for a city's weather and falls back once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use mcpool_core::{
    Client, ClientFactory, ConnectOptions, Error, ErrorKind, Raw, Request, Result, ServerSpec,
    StdioSpec, Verbs,
    mock::{MockClient, MockClientFactory},
};
use serde_json::{Value, json};

/// The layer: it knows the seams, and not what is behind them.
struct Weather {
    factory: Arc<dyn ClientFactory>,
    spec: ServerSpec,
}

impl Weather {
    async fn of(&self, city: &str) -> Result<String> {
        let client = self
            .factory
            .connect(&self.spec, &ConnectOptions::new())
            .await?;
        let arguments = json!({"city": city});
        let result = match client.call_tool("now", &arguments).await {
            Err(error) if error.kind() == ErrorKind::Timeout => {
                client.call_tool("cached", &arguments).await?
            }
            outcome => outcome?,
        };
        client.close().await;
        let text = result.content.iter().find_map(|block| block.as_text());
        text.map(|text| text.text.clone())
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "no text"))
    }
}

fn layer_over(client: MockClient) -> Weather {
    let mut factory = MockClientFactory::new();
    let client: Arc<dyn Client> = Arc::new(client);
    factory.expect_connect().times(1).returning(move |_, _| {
        let client = Arc::clone(&client);
        Box::pin(async move { Ok(client) })
    });
    Weather {
        factory: Arc::new(factory),
        spec: ServerSpec::stdio("weather", StdioSpec::new("weather-server")).unwrap(),
    }
}

fn client() -> MockClient {
    MockClient::healthy("weather".parse().unwrap())
}

/// Whether a request calls this tool, for this city.
fn calls(request: &Request, tool: &str, city: &str) -> bool {
    let params: Value = request.params.as_ref().unwrap().parse().unwrap();
    request.method == "tools/call" && params == json!({"name": tool, "arguments": {"city": city}})
}

fn says(text: &str) -> Result<Raw> {
    Raw::of(&json!({"content": [{"type": "text", "text": text}]}))
}

#[tokio::test]
async fn it_asks_the_right_tool_with_the_right_arguments() {
    let mut client = client();
    client
        .expect_request()
        .withf(|request, _| calls(request, "now", "Bern"))
        .times(1)
        .returning(|_, _| says("fog"));
    assert_eq!(layer_over(client).of("Bern").await.unwrap(), "fog");
}

#[tokio::test]
async fn it_falls_back_when_the_tool_is_slow() {
    let mut client = client();
    client
        .expect_request()
        .withf(|request, _| calls(request, "now", "Bern"))
        .times(1)
        .returning(|_, _| Err(Error::new(ErrorKind::Timeout, "no answer")));
    client
        .expect_request()
        .withf(|request, _| calls(request, "cached", "Bern"))
        .times(1)
        .returning(|_, _| says("sun, yesterday"));
    let weather = layer_over(client).of("Bern").await.unwrap();
    assert_eq!(weather, "sun, yesterday");
}

#[tokio::test]
async fn it_hands_on_what_it_cannot_mend() {
    let mut client = client();
    client
        .expect_request()
        .withf(|request, _| request.method == "tools/call")
        .returning(|_, _| Err(Error::new(ErrorKind::ProcessExited, "gone")));
    let error = layer_over(client).of("Bern").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProcessExited);
}
