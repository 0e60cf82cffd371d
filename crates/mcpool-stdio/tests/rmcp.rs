//! rmcp's own client over processes of this crate.
#![cfg(all(unix, feature = "rmcp"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use mcpool_core::TransportMonitor;
use mcpool_stdio::StdioConnector;
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture, leaks};
use rmcp::{
    ServiceError, ServiceExt,
    model::{CallToolRequestParams, JsonObject},
};
use support::*;

fn call(tool: &'static str, arguments: serde_json::Value) -> CallToolRequestParams {
    let arguments: JsonObject = serde_json::from_value(arguments).unwrap();
    CallToolRequestParams::new(tool).with_arguments(arguments)
}

/// A server that leaves processes behind in every way that rmcp's own child process forgets.
fn family() -> StdioFixture {
    StdioFixture::new(Behavior::new().with(|behavior| {
        behavior.wrapper = true;
        behavior.detached_child = true;
    }))
}

#[tokio::test]
async fn a_client_of_rmcp_lists_calls_and_leaves_nothing() {
    let fixture = family();
    let connector = StdioConnector::new();
    let request = with_limit(stdio(fixture.process()), 100_000);
    let transport = connector.open_rmcp(request).await.unwrap();
    let monitor = transport.monitor();
    let client = within(().serve(transport)).await.unwrap();
    let tools = within(client.list_all_tools()).await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "echo"));
    let echo = call("echo", serde_json::json!({"message": "hello"}));
    let answer = within(client.call_tool(echo)).await.unwrap();
    assert_eq!(answer.content[0].as_text().unwrap().text, "hello");

    // What cannot be read, or is too long, ends at once and harms no other.
    for bad in [
        call("garble", serde_json::json!({"how": "nan"})),
        call("big", serde_json::json!({"bytes": 200_000})),
    ] {
        let error = within(client.call_tool(bad)).await.unwrap_err();
        assert!(matches!(error, ServiceError::McpError(_)), "{error}");
    }
    within(client.call_tool(call("echo", serde_json::json!({"message": "on"}))))
        .await
        .unwrap();
    within(client.cancel()).await.unwrap();
    until("nothing is left", || {
        fixture.marker().processes().is_empty()
    })
    .await;
    assert!(monitor.diagnostics().exit_status.is_some());
}

#[tokio::test]
async fn dropping_the_transport_kills_the_family_before_it_returns() {
    let fixture = family();
    let transport = StdioConnector::new()
        .open_rmcp(stdio(fixture.process()))
        .await
        .unwrap();
    until("all run", || fixture.marker().processes().len() == 3).await;
    drop(transport);
    assert_eq!(fixture.marker().processes(), [] as [u32; 0]);
}

#[tokio::test]
async fn a_death_ends_the_client_and_says_why() {
    let fixture = StdioFixture::new(Behavior::new());
    let transport = StdioConnector::new()
        .open_rmcp(stdio(fixture.process()))
        .await
        .unwrap();
    let monitor = transport.monitor();
    let client = within(().serve(transport)).await.unwrap();
    leaks::kill_process(monitor.diagnostics().pid.unwrap());
    within(client.waiting()).await.unwrap();
    let failure = monitor.failure().unwrap();
    assert!(failure.message().contains("SIGKILL"), "{failure}");
}
