//! Tool search: two tools in place of all, and what is called through them.

use mcpool_core::{ToolFilter, Verbs as _};
use mcpool_gateway::{Gateway, HttpOptions, Profile, Profiles};
use mcpool_testkit::{Behavior, Era};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Audit, BOTH, PATIENCE, Served, audited, by_hand, call, of_era, status, tool_call,
};

/// Two servers behind a gateway with tool search, and what was audited.
async fn searched(era: Era, profiles: Profiles) -> (Served, Audit) {
    let served = Served::with(&[("files", of_era(era)), ("notes", Behavior::new())]).await;
    let (gateway, entries) = audited(Gateway::builder(served.manager.clone()));
    let gateway = gateway
        .with_tool_search(true)
        .with_profiles(profiles)
        .build();
    let (manager, servers) = (served.manager.clone(), served.servers);
    (
        Served::on_socket(gateway, manager, servers, HttpOptions::new()).await,
        entries,
    )
}

/// What `find_tools` gave: the JSON in its text.
fn found(result: &Value) -> Value {
    serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_tool_is_found_by_words_and_called_as_if_by_its_name() {
    for era in [Era::Legacy, Era::Modern] {
        for version in &BOTH {
            let (served, entries) = searched(era, Profiles::default()).await;
            let client = served.client(version).await;
            let list = client.list_tools().await.unwrap();
            let names: Vec<&str> = list.values().map(|tool| &*tool.name).collect();
            assert_eq!(names, ["find_tools", "call_tool"]);
            let said = list.items[0].description.as_deref().unwrap();
            assert!(
                said.contains("40 tools, of these servers: files, notes."),
                "{said}"
            );
            let result = call(&*client, "find_tools", json!({"query": "echo", "limit": 3})).await;
            let result = found(&result);
            let tools = result["tools"].as_array().unwrap();
            assert!((1..=3).contains(&tools.len()), "{result}");
            let first = tools[0]["name"].as_str().unwrap();
            assert!(["files__echo", "notes__echo"].contains(&first), "{result}");
            assert!(
                tools[0]["inputSchema"]["properties"]["message"].is_object(),
                "{result}"
            );
            let inside = json!({"name": "files__echo", "arguments": {"message": "hi"}});
            let through = call(&*client, "call_tool", inside).await;
            let direct = call(&*client, "files__echo", json!({"message": "hi"})).await;
            assert_eq!(through["content"], direct["content"]);
            assert_eq!(through["content"][0]["text"], "hi", "{through}");
            // A search asks no server, so it has no entry; a call is the tool's own.
            let entries = entries.lock().unwrap();
            let audited: Vec<_> = entries
                .iter()
                .map(|entry| (&*entry.name, entry.outcome))
                .collect();
            assert_eq!(audited.len(), 2, "{audited:?}");
            assert!(
                audited.iter().all(|(name, _)| *name == "echo"),
                "{audited:?}"
            );
        }
    }
}

#[tokio::test]
async fn arguments_pass_as_the_text_that_came() {
    let (served, _) = searched(Era::Legacy, Profiles::default()).await;
    let session = served.token("/mcp", "").await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"call_tool","arguments":{"name":"files__echo","arguments":{"message":"\u00e9","n":1.50}}}}"#;
    let answer = by_hand()
        .post(served.url("/mcp"))
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .header("mcp-session-id", &session)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let requests = served.servers[0].requests();
    let call = requests
        .iter()
        .find(|seen| seen.rpc == "tools/call")
        .unwrap();
    let arguments = r#""arguments":{"message":"\u00e9","n":1.50}"#;
    assert!(call.body.contains(arguments), "{}", call.body);
}

#[tokio::test]
async fn a_call_through_it_may_no_more_than_a_direct_one() {
    let profile = Profile::new("p").with_tools(ToolFilter::allow(["files__echo"]));
    let other = Profile::new("q").with_tool_search(false);
    let profiles = [profile, other].into_iter().collect();
    let (served, entries) = searched(Era::Legacy, profiles).await;
    let session = served.token("/mcp/p", "").await;
    let called = async |name: &str, arguments: Value| {
        let request = served.post("/mcp/p", "", &tool_call(1, name, arguments));
        let request = request.header("mcp-session-id", &session);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let inside = |name: &str| json!({"name": name, "arguments": {"message": "x", "a": 1, "b": 2}});
    let good = called("call_tool", inside("files__echo")).await;
    assert_eq!(good["result"]["content"][0]["text"], "x", "{good}");
    for name in ["files__add", "notes__echo", "nobody__x", "files"] {
        let through = called("call_tool", inside(name)).await;
        let direct = called(name, json!({"a": 1, "b": 2})).await;
        assert_eq!(through["error"]["code"], -32602, "{name}: {through}");
        assert_eq!(through, direct, "{name}");
    }
    assert_eq!(entries.lock().unwrap().len(), 1);
    // What may not be called is not found, nor counted.
    let result = called("find_tools", json!({"query": "add echo"})).await;
    let result = found(&result["result"]);
    assert_eq!(result["tools"].as_array().unwrap().len(), 1, "{result}");
    for wrong in [json!({}), json!({"name": "find_tools"}), json!([])] {
        let told = called("call_tool", wrong.clone()).await;
        assert_eq!(told["result"]["isError"], true, "{wrong}: {told}");
    }
    // Another profile, and the path of one server, show what they have.
    for (path, count) in [("/mcp/q", 40), ("/servers/files/mcp", 20)] {
        let session = served.token(path, "").await;
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        let list = served
            .post(path, "", &list)
            .header("mcp-session-id", &session);
        let list: Value = list.send().await.unwrap().json().await.unwrap();
        let tools = list["result"]["tools"].as_array().unwrap().len();
        assert_eq!(tools, count, "{path}");
    }
    let answer: Value = by_hand()
        .get(served.url("/api/v1/status"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&answer["serves"]["tools"], &answer["serves"]["tool_search"]),
        (&json!(40), &json!(true))
    );
    assert!(
        answer["serves"]["tokens_estimate"].as_u64().unwrap() > 100,
        "{answer}"
    );
    let profiles = answer["profiles"].as_array().unwrap();
    let shown: Vec<_> = profiles
        .iter()
        .map(|part| {
            (
                part["name"].as_str().unwrap(),
                part["at"].as_str().unwrap(),
                part["tools"].as_u64().unwrap(),
                part["tool_search"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(shown, [("p", "mcp/p", 1, true), ("q", "mcp/q", 40, false)]);
}

#[tokio::test]
async fn clients_are_told_of_changes_of_what_can_be_found() {
    let (served, _) = searched(Era::Legacy, Profiles::default()).await;
    let session = served.token("/mcp", "").await;
    let standing = by_hand()
        .get(served.url("/mcp"))
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &session);
    let mut standing = standing.send().await.unwrap();
    assert_eq!(standing.status(), StatusCode::OK);
    served.manager.remove("notes").await.unwrap();
    let told = async {
        let mut text = String::new();
        while !text.contains("notifications/tools/list_changed") {
            let chunk = standing.chunk().await.unwrap().expect("the stream ended");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let list = served
        .post("/mcp", "", &list)
        .header("mcp-session-id", &session);
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        list["result"]["_meta"]["mcpool/catalog"]["tools"], 20,
        "{list}"
    );
    let call = tool_call(
        2,
        "call_tool",
        json!({"name": "notes__echo", "arguments": {}}),
    );
    let gone = served
        .post("/mcp", "", &call)
        .header("mcp-session-id", &session);
    assert_eq!(status(gone).await, StatusCode::OK);
}
