//! The few messages that the examples of a transport alone say by hand. Everybody else has a client
//! for that.

use mcpool_core::{
    Notification, ProtocolVersion, Raw, RequestClass, Result, Transport, WireRequest,
};
use serde_json::{Value, json};

/// Begins a session in the way of MCP 2025-11-25 ("Lifecycle"), and asks for the tools.
pub(crate) async fn tool_names(transport: &dyn Transport) -> Result<Vec<String>> {
    let version = ProtocolVersion::LATEST_WITH_INITIALIZE;
    let hello = Raw::of(&json!({
        "protocolVersion": version.as_str(),
        "capabilities": {},
        "clientInfo": {"name": "example", "version": "1"},
    }))?;
    let hello = WireRequest::new("initialize", Some(&hello)).with_class(RequestClass::Handshake);
    let answer: Value = transport.request(hello, None).await?.parse()?;
    println!("connected to {}", answer["serverInfo"]["name"]);
    let initialized = Notification::new("notifications/initialized", None);
    transport.notify(&initialized).await?;

    let list = WireRequest::new("tools/list", None).with_version(Some(&version));
    let list: Value = transport.request(list, None).await?.parse()?;
    let tools = list["tools"].as_array().into_iter().flatten();
    Ok(tools
        .filter_map(|tool| tool["name"].as_str().map(str::to_owned))
        .collect())
}
