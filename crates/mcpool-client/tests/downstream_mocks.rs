//! How a downstream crate tests a layer of its own on the mocks of mcpool: no process, no socket,
//! no server. The layer here asks a tool for a city's weather and falls back once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use mcpool_core::{
    Client, ClientFactory, Error, ErrorKind, RequestOptions, Result, ServerSpec, StdioSpec,
    mock::{MockClient, MockClientFactory},
    model::{CallToolResult, ContentBlock, JsonObject},
};
use mockall::predicate::{always, eq};

/// The layer: it knows the seams, and not what is behind them.
struct Weather {
    factory: Arc<dyn ClientFactory>,
    spec: ServerSpec,
}

impl Weather {
    async fn of(&self, city: &str) -> Result<String> {
        let client = self.factory.connect(&self.spec).await?;
        let mut arguments = JsonObject::new();
        arguments.insert("city".into(), city.into());
        let options = RequestOptions::new();
        let now = client.call_tool("now", Some(arguments.clone()), &options);
        let result = match now.await {
            Err(error) if error.kind() == ErrorKind::Timeout => {
                client
                    .call_tool("cached", Some(arguments), &options)
                    .await?
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
    factory
        .expect_connect()
        .times(1)
        .returning(move |_| Ok(Arc::clone(&client)));
    Weather {
        factory: Arc::new(factory),
        spec: ServerSpec::stdio("weather", StdioSpec::new("weather-server")).unwrap(),
    }
}

fn says(text: &'static str) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

#[tokio::test]
async fn it_asks_the_right_tool_with_the_right_arguments() {
    let mut client = MockClient::new();
    client
        .expect_call_tool()
        .withf(|name, arguments, _| {
            name == "now" && arguments.as_ref().is_some_and(|a| a["city"] == "Bern")
        })
        .times(1)
        .returning(|_, _, _| Ok(says("fog")));
    client.expect_close().times(1).returning(|| ());
    assert_eq!(layer_over(client).of("Bern").await.unwrap(), "fog");
}

#[tokio::test]
async fn it_falls_back_when_the_tool_is_slow() {
    let mut client = MockClient::new();
    client
        .expect_call_tool()
        .with(eq("now"), always(), always())
        .times(1)
        .returning(|_, _, _| Err(Error::new(ErrorKind::Timeout, "no answer")));
    client
        .expect_call_tool()
        .with(eq("cached"), always(), always())
        .times(1)
        .returning(|_, _, _| Ok(says("sun, yesterday")));
    client.expect_close().times(1).returning(|| ());
    let weather = layer_over(client).of("Bern").await.unwrap();
    assert_eq!(weather, "sun, yesterday");
}

#[tokio::test]
async fn it_hands_on_what_it_cannot_mend() {
    let mut client = MockClient::new();
    client
        .expect_call_tool()
        .returning(|_, _, _| Err(Error::new(ErrorKind::ProcessExited, "gone")));
    let error = layer_over(client).of("Bern").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProcessExited);
}
