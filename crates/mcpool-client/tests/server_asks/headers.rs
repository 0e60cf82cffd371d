//! Arguments that travel as headers, and what else a request of the new era carries.

use std::time::Duration;

use mcpool_core::{ClientFactory, ErrorKind, Request, Requester, TransportKind, Verbs};
use serde_json::{Value, json};

use crate::{application, call_tool, connect, support::*, text};

fn listed(header: &str) -> Value {
    let schema = json!({
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": header}},
    });
    json!({"resultType": "complete", "tools": [{"name": "x", "inputSchema": schema}]})
}

#[tokio::test(start_paused = true)]
async fn arguments_that_the_list_names_travel_as_headers() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(true, application, |mut end| async move {
        let call = end.expect("tools/call").await;
        assert_eq!(call["wire"]["name"], "x");
        assert_eq!(call["wire"]["version"], "2026-07-28");
        assert_eq!(
            call["wire"]["headers"],
            json!([]),
            "nothing is known of the tool yet"
        );
        end.reply(&call, text("ok"));
        let list = end.expect("tools/list").await;
        end.reply(&list, listed("Region"));
        let call = end.expect("tools/call").await;
        let headers = json!([["Mcp-Param-Region", "eu\u{fc}"]]);
        assert_eq!(call["wire"]["headers"], headers);
        end.reply(&call, text("ok"));
        let read = end.expect("resources/read").await;
        assert_eq!(read["wire"]["name"], "a:b");
        end.reply(&read, json!({"resultType": "complete", "contents": []}));
        end.recv().await;
    })
    .await;
    let arguments = json!({"region": "eu\u{fc}"});
    client.call_tool("x", &arguments).await.unwrap();
    client.list_tools().await.unwrap();
    client.call_tool("x", &arguments).await.unwrap();
    client.read_resource("a:b").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_header_mismatch_lists_the_tools_again_and_retries_once() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(true, application, |mut end| async move {
        let call = end.expect("tools/call").await;
        end.error(&call, -32020, Value::Null);
        let list = end.expect("tools/list").await;
        end.reply(&list, json!({"tools": [tool("other")], "nextCursor": "2"}));
        let list = end.expect("tools/list").await;
        assert_eq!(list["params"]["cursor"], "2");
        end.reply(&list, listed("Region"));
        let call = end.expect("tools/call").await;
        assert_eq!(call["wire"]["headers"], json!([["Mcp-Param-Region", "eu"]]));
        end.reply(&call, text("ok"));
        // A refusal that is repeated is passed on as it is.
        let call = end.expect("tools/call").await;
        end.error(&call, -32020, Value::Null);
        let list = end.expect("tools/list").await;
        end.reply(&list, listed("Region"));
        let call = end.expect("tools/call").await;
        end.error(&call, -32020, Value::Null);
        // One whose list has no end ends all the same.
        let call = end.expect("tools/call").await;
        end.error(&call, -32020, Value::Null);
        for _ in 0..2 {
            let list = end.expect("tools/list").await;
            end.reply(&list, json!({"tools": [], "nextCursor": "again"}));
        }
        let call = end.expect("tools/call").await;
        end.error(&call, -32020, Value::Null);
        // And one where the list fails.
        let call = end.expect("tools/call").await;
        end.error(&call, -32020, Value::Null);
        let list = end.expect("tools/list").await;
        end.error(&list, -32603, Value::Null);
        end.recv().await;
    })
    .await;
    client
        .call_tool("x", json!({"region": "eu"}))
        .await
        .unwrap();
    for _ in 0..3 {
        let error = call_tool(&*client).await.unwrap_err();
        assert_eq!(error.rpc().unwrap().code, -32020);
    }
}

#[tokio::test(start_paused = true)]
async fn over_a_pipe_nothing_travels_as_headers() {
    let (factory, _) = Scripted::new(TransportKind::Stdio, |mut end: ServerEnd| async move {
        end.discover().await;
        let list = end.expect("tools/list").await;
        end.reply(&list, listed("Region"));
        let call = end.expect("tools/call").await;
        assert_eq!(call["wire"]["name"], Value::Null);
        assert_eq!(call["wire"]["headers"], json!([]));
        end.reply(&call, text("ok"));
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    client.list_tools().await.unwrap();
    client
        .call_tool("x", json!({"region": "eu"}))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_log_level_travels_with_each_request_of_the_new_era() {
    let (client, _) = connect_modern(|mut end| async move {
        let call = end.expect("tools/call").await;
        let meta = &call["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/logLevel"], "debug");
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "mcpool");
        assert_eq!(
            meta["io.modelcontextprotocol/clientCapabilities"],
            json!({})
        );
        assert_eq!(meta["progressToken"], call["id"]);
        end.reply(&call, text("ok"));
        end.recv().await;
    })
    .await;
    let level = |level: &str| {
        Request::new("logging/setLevel")
            .with_params(&json!({"level": level}))
            .unwrap()
    };
    let done = client.request(&level("debug"), &options()).await.unwrap();
    assert_eq!(done.get(), "{}");
    // One that no server knows would have it refuse everything.
    let error = client
        .request(&level("loud"), &options())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    call_tool(&*client).await.unwrap();
}
