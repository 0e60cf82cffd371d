//! Parts of the pool, what is listed of servers that are down, and what is measured.

use mcpool_core::{ServerName, StateKind, ToolFilter};
use mcpool_gateway::{
    AccessKeys, DownServers, Gateway, Grant, HttpOptions, HttpServer, Profile, Profiles,
};
use mcpool_testkit::{Behavior, Era};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Served, by_hand, initialize, status, tool_call};

/// The names of the tools at a path.
async fn tools(served: &Served, path: &str, session: &str) -> Vec<String> {
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let list = served.post(path, "", &list);
    let list = list.header("mcp-session-id", session).send().await.unwrap();
    let list: Value = list.json().await.unwrap();
    let tools = list["result"]["tools"].as_array().unwrap();
    let names = tools.iter().map(|tool| tool["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_profile_is_a_part_under_names_of_its_own() {
    let pool = [("one", Behavior::new()), ("two", Behavior::new())];
    let served = Served::with(&pool).await;
    let profile = || {
        Profile::new("p")
            .with_servers([ServerName::new("one").unwrap()])
            .with_tools(ToolFilter::allow(["*__echo", "*__fail"]))
            .with_renamed([("one__echo", "say")])
    };
    let profiles: Profiles = [profile()].into_iter().collect();
    let options = HttpOptions::new().with_only("p");
    let served = served
        .with_profiles(profiles.clone(), options, HttpServer::new())
        .await;
    for path in ["/servers/one/mcp", "/mcp/q"] {
        let refused = status(served.post(path, "", &initialize())).await;
        assert!(refused.is_client_error(), "{path}: {refused}");
    }
    let session = served.token("/mcp", "").await;
    assert_eq!(tools(&served, "/mcp", &session).await, ["say", "one__fail"]);
    let call = async |name: &str| {
        let call = tool_call(1, name, json!({"message": "hi"}));
        let call = served.post("/mcp", "", &call);
        let answer = call
            .header("mcp-session-id", &session)
            .send()
            .await
            .unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let said = call("say").await;
    assert_eq!(said["result"]["content"][0]["text"], "hi", "{said}");
    for other in ["one__echo", "one__add", "two__echo"] {
        let refused = call(other).await;
        assert_eq!(refused["error"]["code"], -32602, "{other}: {refused}");
    }
    // What is taken away is gone from the next request on.
    profiles.replace(
        &[profile().with_tools(ToolFilter::allow(["*__fail"]))]
            .into_iter()
            .collect(),
    );
    assert_eq!(tools(&served, "/mcp", &session).await, ["one__fail"]);
    profiles.replace(&Profiles::default());
    let refused = status(served.post("/mcp", "", &initialize())).await;
    assert_eq!(refused, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn clients_of_a_profile_that_changes_are_told_and_no_others() {
    let served = Served::one(Era::Legacy).await;
    let part = |name: &str, tools: &str| Profile::new(name).with_tools(ToolFilter::allow([tools]));
    let profiles: Profiles = [part("p", "*__echo"), part("q", "*__echo")]
        .into_iter()
        .collect();
    let served = served
        .with_profiles(profiles.clone(), HttpOptions::new(), HttpServer::new())
        .await;
    let mut streams = Vec::new();
    for path in ["/mcp/p", "/mcp/q"] {
        let session = served.token(path, "").await;
        let standing = by_hand()
            .get(served.url(path))
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &session);
        streams.push(standing.send().await.unwrap());
        // The lists of the server are known: nothing else is announced from here on.
        assert_eq!(tools(&served, path, &session).await, ["files__echo"]);
    }
    for changed in ["*__echo", "*__fail"] {
        profiles.replace(
            &[part("p", changed), part("q", "*__echo")]
                .into_iter()
                .collect(),
        );
    }
    let mut told = String::new();
    let all = async {
        while told.matches("list_changed").count() < 3 {
            let chunk = streams[0].chunk().await.unwrap().unwrap();
            told.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    for list in ["tools", "prompts", "resources"] {
        assert!(told.contains(&format!("notifications/{list}/list_changed")));
    }
    assert!(served.gateway.drain(PATIENCE).await);
    for stream in streams {
        let rest = tokio::time::timeout(PATIENCE, stream.text()).await;
        let rest = rest.unwrap().unwrap();
        assert!(!rest.contains("list_changed"), "{rest}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_listed_or_not_as_it_was_set() {
    let pool = [("gone", Behavior::new()), ("here", Behavior::new())];
    for (listing, shown) in [(DownServers::LastGood, 40), (DownServers::Hidden, 20)] {
        let served = Served::with(&pool).await;
        let gateway = Gateway::builder(served.manager.clone())
            .with_down_servers(listing)
            .build();
        let (manager, servers) = (served.manager.clone(), served.servers);
        let served = Served::on_socket(gateway, manager, servers, HttpOptions::new()).await;
        let session = served.token("/mcp", "").await;
        assert_eq!(tools(&served, "/mcp", &session).await.len(), 40);
        let standing = by_hand()
            .get(served.url("/mcp"))
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &session);
        let mut standing = standing.send().await.unwrap();
        let mut state = served.manager.server("gone").unwrap().watch().unwrap();
        served.servers[0].kill();
        let call = served.post(
            "/mcp",
            "",
            &tool_call(2, "gone__add", json!({"a": 1, "b": 2})),
        );
        let call = call
            .header("mcp-session-id", &session)
            .send()
            .await
            .unwrap();
        drop(call);
        let lost = state.wait_for(|state| state.kind() != StateKind::Ready);
        tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
        let left = tools(&served, "/mcp", &session).await;
        assert_eq!(left.len(), shown, "{listing:?}");
        if listing == DownServers::Hidden {
            let told = async {
                let mut text = String::new();
                while !text.contains("notifications/tools/list_changed") {
                    let chunk = standing.chunk().await.unwrap().unwrap();
                    text.push_str(&String::from_utf8_lossy(&chunk));
                }
            };
            tokio::time::timeout(PATIENCE, told).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_measured_is_for_those_who_may_have_everything() {
    let served = Served::one(Era::Legacy).await;
    let limited = Grant::new("ada").unwrap().with_profile("p").unwrap();
    let (limited, one) = AccessKeys::issue(&limited);
    let (whole, other) = AccessKeys::issue(&Grant::new("bob").unwrap());
    let options = HttpOptions::new()
        .with_keys(AccessKeys::read(&format!("{one}\n{other}")).unwrap())
        .with_metrics(|| "mcpool_up 1\n".to_owned());
    let profiles = [Profile::new("p")].into_iter().collect();
    let served = served
        .with_profiles(profiles, options, HttpServer::new())
        .await;
    let get = |key: &str| by_hand().get(served.url("/metrics")).bearer_auth(key);
    assert_eq!(status(get("guess")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(get(limited.expose())).await, StatusCode::FORBIDDEN);
    let answer = get(whole.expose()).send().await.unwrap();
    assert!(
        answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    assert_eq!(answer.text().await.unwrap(), "mcpool_up 1\n");
}
