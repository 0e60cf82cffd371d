//! A server that asks the user a question in the middle of a call (elicitation).
//!
//! `cargo run -p mcpool --example server_asks`

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool::{
    ConnectionManager, RpcError, ServerName, StandardFactory, Typed, TypedHandler,
    model::{
        ClientCapabilities, ElicitRequestParams, ElicitResult, ElicitationAction,
        ElicitationCapability, FormElicitationCapability,
    },
};
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture};
use serde_json::json;

/// Answers for the person. A real one shows who asks what, and lets the person decline.
struct Person;

#[async_trait]
impl TypedHandler for Person {
    fn capabilities(&self, _server: &ServerName) -> ClientCapabilities {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation =
            Some(ElicitationCapability::new().with_form(FormElicitationCapability::new()));
        capabilities
    }

    async fn elicit(
        &self,
        server: &ServerName,
        params: ElicitRequestParams,
    ) -> Result<ElicitResult, RpcError> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = params else {
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        println!("{server} asks: {message}");
        let mut answer = ElicitResult::new(ElicitationAction::Accept);
        answer.content = Some(json!({"city": "Bern"}));
        Ok(answer)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = StdioFixture::new(Behavior::new());
    let factory = StandardFactory::new().with_handler(Arc::new(Typed::new(Person)));
    let manager = ConnectionManager::new(Arc::new(factory));
    manager
        .start(vec![server.spec("travel")])
        .await?
        .all_connected()?;

    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let question = json!({"message": "Where to?", "requestedSchema": schema});
    let arguments = json!({"method": "elicitation/create", "params": question});
    let reply = manager.call("travel__ask", arguments).await?;
    println!("{}", reply.raw().get());
    assert!(reply.raw().get().contains("Bern"));

    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
