//! What is listed, under which names, and where calls of them go.

use mcpool_core::{ProtocolVersion, Raw, Request, RequestOptions, Requester as _, Verbs as _};
use mcpool_testkit::{Behavior, Era};
use serde_json::{Value, json};

use crate::support::{Answers, BOTH, PATIENCE, Served, call, of_era};

async fn raw(client: &dyn mcpool_core::Client, method: &'static str, params: Value) -> Value {
    let request = Request::new(method).with_params(&params).unwrap();
    let answer = client.request(&request, &RequestOptions::new()).await;
    answer.unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_servers_of_both_eras_are_one_server_in_both_eras() {
    let pool = [("new", of_era(Era::Modern)), ("old", of_era(Era::Legacy))];
    let served = Served::with(&pool).await;
    for version in &BOTH {
        let client = served.client(version).await;
        let tools = client.list_tools().await.unwrap();
        let names: Vec<_> = tools.values().map(|tool| tool.name.to_string()).collect();
        assert_eq!(names.len(), 40);
        assert_eq!((&*names[0], &*names[20]), ("new__echo", "old__echo"));
        for name in ["new__echo", "old__echo"] {
            let result = call(&*client, name, json!({"message": "ü\u{0}"})).await;
            assert_eq!(result["content"][0]["text"], "ü\u{0}", "{version} {name}");
        }
        let prompts = client.list_prompts().await.unwrap();
        let names: Vec<_> = prompts.values().map(|prompt| prompt.name.clone()).collect();
        assert_eq!(names, ["new__greet", "old__greet"]);
        let greeting = client.get_prompt("old__greet", json!({"who": "Ada"})).await;
        assert!(greeting.unwrap().raw().get().contains("Hello, Ada!"));
        // Of equal URIs the first is listed.
        let resources = client.list_resources().await.unwrap();
        assert_eq!(resources.items.len(), 2);
        let one = client.read_resource("fixture://one").await.unwrap();
        assert!(one.raw().get().contains("the text of one"));
        // Not listed, but a template fits it.
        let other = client.read_resource("fixture://other").await.unwrap();
        assert!(other.raw().get().contains("the text of other"));
        let params = json!({
            "ref": {"type": "ref/prompt", "name": "old__greet"},
            "argument": {"name": "who", "value": "wo"},
        });
        let completion = raw(&*client, "completion/complete", params).await;
        assert_eq!(
            completion["completion"]["values"],
            json!(["world", "wonder"])
        );
    }
}

#[tokio::test]
async fn one_server_is_served_under_its_own_names() {
    let pool = [("new", of_era(Era::Modern)), ("old", of_era(Era::Legacy))];
    let served = Served::with(&pool).await;
    for version in &BOTH {
        for path in ["/servers/old/mcp", "/servers/new/mcp"] {
            let client = served
                .client_at(path, version, std::sync::Arc::new(Answers))
                .await;
            let tools = client.list_tools().await.unwrap();
            assert_eq!(tools.values().next().unwrap().name, "echo");
            let result = call(&*client, "echo", json!({"message": "hi"})).await;
            assert_eq!(result["content"][0]["text"], "hi");
            client.get_prompt("greet", ()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_a_server_says_is_passed_on_as_it_came() {
    let served = Served::one(Era::Legacy).await;
    for version in &BOTH {
        let client = served.client(version).await;
        let arguments = Raw::from_text(r#"{"message":"x","n":1.50}"#.to_owned()).unwrap();
        let reply = client.call_tool("files__echo", arguments).await.unwrap();
        assert!(
            reply
                .raw()
                .get()
                .contains(r#""content":[{"type":"text","text":"x"}]"#)
        );
        let sum = call(&*client, "files__add", json!({"a": 1, "b": 2})).await;
        assert_eq!(sum["structuredContent"], json!({"sum": 3.0}));
        let failed = call(&*client, "files__fail", json!({"message": "no"})).await;
        assert_eq!(failed["isError"], true);
    }
}

#[tokio::test]
async fn a_server_that_is_gone_fails_its_own_calls_in_words() {
    let pool = [("gone", Behavior::new()), ("here", Behavior::new())];
    let served = Served::with(&pool).await;
    let client = served.client(&ProtocolVersion::V_2025_11_25).await;
    let mut state = served.manager.server("gone").unwrap().watch().unwrap();
    served.servers[0].kill();
    // Whether it has run cannot be known of the first: its connection was open.
    let result = call(&*client, "gone__add", json!({"a": 1, "b": 2})).await;
    assert_eq!(result["isError"], true);
    let lost = state.wait_for(|state| state.kind() != mcpool_core::StateKind::Ready);
    tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
    let result = call(&*client, "gone__add", json!({"a": 1, "b": 2})).await;
    assert_eq!(result["isError"], true);
    let words = result["content"][0]["text"].as_str().unwrap();
    assert!(
        words.starts_with("The server `gone` cannot be reached"),
        "{words}"
    );
    assert!(words.contains("was not run"), "{words}");
    let result = call(&*client, "here__echo", json!({"message": "hi"})).await;
    assert_eq!(result["content"][0]["text"], "hi");
    // Its tools stay listed: it may be back any moment.
    let listed = tokio::time::timeout(PATIENCE, client.list_tools())
        .await
        .unwrap();
    assert_eq!(listed.unwrap().items.len(), 40);
}

#[tokio::test]
async fn a_list_that_lacks_a_server_is_not_kept_by_clients() {
    let pool = [("gone", Behavior::new()), ("here", Behavior::new())];
    let served = Served::with(&pool).await;
    let client = served.client(&ProtocolVersion::V_2026_07_28).await;
    let complete = raw(&*client, "tools/list", json!({})).await;
    assert_eq!(complete["ttlMs"], 60_000);
    let mut state = served.manager.server("gone").unwrap().watch().unwrap();
    served.servers[0].kill();
    call(&*client, "gone__add", json!({"a": 1, "b": 2})).await;
    let lost = state.wait_for(|state| state.kind() != mcpool_core::StateKind::Ready);
    tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
    let lacking = raw(&*client, "tools/list", json!({})).await;
    assert_eq!(lacking["ttlMs"], 0);
    let answers = std::sync::Arc::new(Answers);
    let client = served
        .client_at("/servers/here/mcp", &ProtocolVersion::V_2026_07_28, answers)
        .await;
    let here = raw(&*client, "tools/list", json!({})).await;
    assert_eq!(here["ttlMs"], 60_000, "it is not about this one");
}

#[tokio::test]
async fn what_does_not_exist_is_refused() {
    let served = Served::one(Era::Legacy).await;
    for version in &BOTH {
        let client = served.client(version).await;
        let code = |error: mcpool_core::Error| error.rpc().unwrap().code;
        let error = client.call_tool("nothing", ()).await.unwrap_err();
        assert_eq!(code(error), -32602);
        let error = client.call_tool("files__nothing", ()).await.unwrap_err();
        assert_eq!(code(error), -32602);
        let error = client.get_prompt("files__nothing", ()).await.unwrap_err();
        assert_eq!(code(error), -32602);
        let error = client.read_resource("other://thing").await.unwrap_err();
        let wanted = if version.has_initialize() {
            -32002
        } else {
            -32602
        };
        assert_eq!(code(error), wanted, "{version}");
        let request = Request::new("vendor/thing");
        let error = client.request(&request, &RequestOptions::new()).await;
        assert_eq!(code(error.unwrap_err()), -32601);
    }
}

#[tokio::test]
async fn the_tools_of_a_server_are_fetched_once() {
    // What a server says is stale at once is fetched for each client.
    let new = of_era(Era::Modern).with(|behavior| behavior.ttl_ms = 3_600_000);
    let pool = [("new", new), ("old", of_era(Era::Legacy))];
    let served = Served::with(&pool).await;
    for version in &BOTH {
        let client = served.client(version).await;
        assert_eq!(client.list_tools().await.unwrap().items.len(), 40);
        call(&*client, "old__echo", json!({"message": "hi"})).await;
        call(&*client, "new__echo", json!({"message": "hi"})).await;
    }
    for server in &served.servers {
        let requests = server.requests();
        let lists = requests.iter().filter(|seen| seen.rpc == "tools/list");
        assert_eq!(lists.count(), 1);
    }
}
