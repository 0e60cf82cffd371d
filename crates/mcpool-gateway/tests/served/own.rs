//! A server that clients do not share: processes, questions, changes and the end of each client's
//! own.

use std::sync::Arc;

use async_trait::async_trait;
use mcpool_client::StandardFactory;
use mcpool_core::{
    Client, ClientFactory as _, ConnectOptions, ErrorKind, HttpSpec, Notification, ProtocolChoice,
    ProtocolVersion, Raw, RpcError, ServerName, ServerNotice, ServerRequest, ServerRequestHandler,
    ServerSpec, Sharing, StartMode, StdioSpec, Verbs as _, model::LoggingLevel,
};
use mcpool_gateway::{AccessKeys, Gateway, Grant, HttpOptions, Relay};
use mcpool_manager::ConnectionManager;
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture, leaks::is_alive};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::{
    lines::ByHand,
    page::json_of,
    support::{BOTH, PATIENCE, Served, by_hand, call, tool_call},
};

/// A gateway in front of one process for each client.
async fn served(fixture: &StdioFixture, options: HttpOptions) -> Served {
    served_by(fixture.spec("own"), options).await
}

async fn served_by(spec: ServerSpec, options: HttpOptions) -> Served {
    // What clients that share a server may be asked is no matter of this one.
    let relay = Relay::new().with_elicitation(false);
    let factory = StandardFactory::new().with_handler(Arc::new(relay));
    let manager = ConnectionManager::new(Arc::new(factory));
    let spec = spec
        .with_sharing(Sharing::Client)
        .with_start(StartMode::Lazy(None));
    let _report = manager.start(vec![spec]).await.unwrap();
    let gateway = Gateway::builder(manager.clone()).build();
    Served::on_socket(gateway, manager, Vec::new(), options).await
}

/// A client that answers what it is asked with its name.
struct Named(&'static str);

#[async_trait]
impl ServerRequestHandler for Named {
    fn capabilities(&self, _: &ServerName) -> Raw {
        Raw::from_text(r#"{"roots":{"listChanged":true},"sampling":{}}"#.to_owned()).unwrap()
    }

    async fn answer(&self, _: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        Ok(Raw::of(&json!({"asked": request.method, "who": self.0})).unwrap())
    }
}

/// A client with this name, and with a key unless that is empty.
async fn client(
    served: &Served,
    version: &ProtocolVersion,
    name: &'static str,
    key: &str,
) -> Arc<dyn Client> {
    let mut http = HttpSpec::new(served.url("/mcp"));
    if !key.is_empty() {
        http = http.with_header("Authorization", format!("Bearer {key}"));
    }
    let spec = ServerSpec::http("gateway", http)
        .unwrap()
        .with_protocol(ProtocolChoice::Pinned(version.clone()));
    let factory = StandardFactory::new().with_handler(Arc::new(Named(name)));
    let connected = factory.connect(&spec, &ConnectOptions::new()).await;
    connected.unwrap()
}

/// The process that serves a client.
async fn process(client: &dyn Client) -> u32 {
    let process = call(client, "own__process", json!({})).await;
    u32::try_from(process["structuredContent"]["pid"].as_u64().unwrap()).unwrap()
}

async fn ended(pid: u32) {
    let ended = async {
        while is_alive(pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test]
async fn each_client_has_a_process_of_its_own_that_ends_with_its_session() {
    let fixture = StdioFixture::new(Behavior::new());
    let served = served(&fixture, HttpOptions::new()).await;
    let version = ProtocolVersion::V_2025_11_25;
    let ada = client(&served, &version, "ada", "").await;
    let bob = client(&served, &version, "bob", "").await;
    let lists = ada.list_tools().await.unwrap();
    assert!(lists.values().any(|tool| tool.name == "own__process"));
    let (of_ada, of_bob) = (process(&*ada).await, process(&*bob).await);
    assert_ne!(of_ada, of_bob);
    assert_eq!(process(&*ada).await, of_ada);
    // One that all share lists the tools, and no more.
    assert_eq!(fixture.marker().processes().len(), 3);
    let state = call(&*ada, "own__state", json!({})).await;
    let state = &state["structuredContent"];
    // Three calls: two before this one.
    assert_eq!(state["calls"], 3, "{state}");
    let declared = &state["client"]["capabilities"];
    let wanted = json!({"roots": {"listChanged": true}, "sampling": {}});
    assert_eq!(*declared, wanted, "{state}");
    let status = json_of(&served, "/api/v1/status").await;
    let shown = status["servers"][0]["of_clients"].as_array().unwrap();
    assert_eq!(shown.len(), 2, "{status}");
    for one in shown {
        assert_eq!(
            (&one["principal"], &one["state"]),
            (&Value::Null, &json!("ready"))
        );
    }
    ada.close().await;
    ended(of_ada).await;
    assert!(is_alive(of_bob));
    let status = json_of(&served, "/api/v1/status").await;
    assert_eq!(
        status["servers"][0]["of_clients"].as_array().unwrap().len(),
        1
    );
    assert!(served.gateway.drain(PATIENCE).await);
    assert!(!is_alive(of_bob), "drained, and still there");
}

#[tokio::test]
async fn what_a_process_asks_reaches_its_client_whatever_else_that_has_under_way() {
    let fixture = StdioFixture::new(Behavior::new());
    let (ada, one) = AccessKeys::issue(&Grant::new("ada").unwrap());
    let (bob, other) = AccessKeys::issue(&Grant::new("bob").unwrap());
    let keys = AccessKeys::read(&format!("{one}\n{other}")).unwrap();
    let served = served(&fixture, HttpOptions::new().with_keys(keys)).await;
    for version in &BOTH {
        let mut asking = Vec::new();
        for (name, key) in [("ada", ada.expose()), ("bob", bob.expose())] {
            let client = client(&served, version, name, key).await;
            // Over stdio a question names no call; these are of one client.
            for method in ["sampling/createMessage", "roots/list", "roots/list"] {
                let client = Arc::clone(&client);
                asking.push(tokio::spawn(async move {
                    let result = call(&*client, "own__ask", json!({"method": method})).await;
                    let answer = &result["structuredContent"]["result"];
                    assert_eq!(answer["asked"], method, "{result}");
                    assert_eq!(answer["who"], name, "{result}");
                }));
            }
        }
        for asked in asking {
            asked.await.unwrap();
        }
    }
}

#[tokio::test]
async fn clients_without_sessions_are_told_apart_by_their_keys() {
    let fixture = StdioFixture::new(Behavior::new());
    let (ada, one) = AccessKeys::issue(&Grant::new("ada").unwrap());
    let (bob, other) = AccessKeys::issue(&Grant::new("bob").unwrap());
    let keys = AccessKeys::read(&format!("{one}\n{other}")).unwrap();
    let served = served(&fixture, HttpOptions::new().with_keys(keys)).await;
    let version = ProtocolVersion::V_2026_07_28;
    let first = client(&served, &version, "ada", ada.expose()).await;
    let again = client(&served, &version, "ada", ada.expose()).await;
    let other = client(&served, &version, "bob", bob.expose()).await;
    let pid = process(&*first).await;
    assert_eq!(process(&*again).await, pid);
    assert_ne!(process(&*other).await, pid);
}

#[tokio::test]
async fn a_change_is_told_to_the_client_whose_process_changed() {
    let fixture = StdioFixture::new(Behavior::new());
    let served = served(&fixture, HttpOptions::new()).await;
    let mut ada = ByHand::connect(&served);
    let mut bob = ByHand::connect(&served);
    for client in [&mut ada, &mut bob] {
        client.initialize("2025-11-25").await;
        let called = client
            .ask(tool_call(1, "own__echo", json!({"message": "hi"})))
            .await;
        assert_eq!(called["result"]["content"][0]["text"], "hi", "{called}");
    }
    ada.say(&tool_call(2, "own__add_tool", json!({"name": "x"})).to_string())
        .await;
    let (mut told, mut answered) = (false, false);
    while !(told && answered) {
        let said = ada.hear().await.unwrap();
        told |= said["method"] == "notifications/tools/list_changed";
        answered |= said["id"] == 2;
    }
    let pong = bob
        .ask(json!({"jsonrpc": "2.0", "id": 3, "method": "ping"}))
        .await;
    assert_eq!(pong["id"], 3, "nothing is told to the other");
    // What is listed is what its process has.
    let list = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/list"});
    for (client, tools) in [(&mut ada, 21), (&mut bob, 20)] {
        client.say(&list.to_string()).await;
        // The list that clients without a process share is read for it too, which is announced.
        let mut listed = client.hear().await.unwrap();
        while listed["id"] != 9 {
            listed = client.hear().await.unwrap();
        }
        let listed = listed["result"]["tools"].as_array().unwrap();
        assert_eq!(listed.len(), tools);
    }
    // A process ends with the connection of its client.
    ada.say(&tool_call(4, "own__process", json!({})).to_string())
        .await;
    let mut process = ada.hear().await.unwrap();
    while process["id"] != 4 {
        process = ada.hear().await.unwrap();
    }
    let pid = process["result"]["structuredContent"]["pid"]
        .as_u64()
        .unwrap();
    ada.write.shutdown().await.unwrap();
    while ada.hear().await.is_some() {}
    ended(u32::try_from(pid).unwrap()).await;
}

/// How often a client's own process heard of changed roots.
async fn changes_of_roots(client: &dyn Client) -> u64 {
    let state = call(client, "own__state", json!({})).await;
    let methods = &state["structuredContent"]["methods"];
    methods["notifications/roots/list_changed"]
        .as_u64()
        .unwrap_or(0)
}

#[tokio::test]
async fn changed_roots_are_told_to_the_process_of_the_client_that_has_them() {
    let fixture = StdioFixture::new(Behavior::new());
    let served = served(&fixture, HttpOptions::new()).await;
    let version = ProtocolVersion::V_2025_11_25;
    let ada = client(&served, &version, "ada", "").await;
    let bob = client(&served, &version, "bob", "").await;
    assert_eq!(changes_of_roots(&*ada).await, 0);
    assert_eq!(changes_of_roots(&*bob).await, 0);
    let changed = Notification::new("notifications/roots/list_changed", None);
    ada.notify(&changed).await.unwrap();
    let heard = async {
        while changes_of_roots(&*ada).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
    assert_eq!(changes_of_roots(&*bob).await, 0);
    let own_business = Notification::new("notifications/cancelled", None);
    let refused = ada.notify(&own_business).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_resource_and_the_log_level_are_the_clients_own() {
    let fixture = StdioFixture::new(Behavior::new());
    let served = served(&fixture, HttpOptions::new()).await;
    let version = ProtocolVersion::V_2025_11_25;
    let ada = client(&served, &version, "ada", "").await;
    let bob = client(&served, &version, "bob", "").await;
    let mut told = ada.notices();
    let resources = ada.list_resources().await.unwrap();
    let uri = resources.values().next().unwrap().uri.clone();
    ada.subscribe(&uri).await.unwrap();
    let state = async |client: &dyn Client| -> Value {
        call(client, "own__state", json!({})).await["structuredContent"].take()
    };
    assert_eq!(state(&*ada).await["subscriptions"], json!([uri]));
    assert_eq!(state(&*bob).await["subscriptions"], json!([]));
    // What another client's process says is not ours.
    call(&*bob, "own__touch", json!({"uri": uri})).await;
    call(&*ada, "own__touch", json!({"uri": uri})).await;
    let updated = async {
        loop {
            if let Some(ServerNotice::ResourceUpdated { uri }) = told.next().await {
                return uri;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, updated).await.unwrap(), uri);
    ada.unsubscribe(&uri).await.unwrap();
    assert_eq!(state(&*ada).await["subscriptions"], json!([]));
    // Of one that has a process, and of one that has none yet. Nobody waits until it is known to it.
    let eve = client(&served, &version, "eve", "").await;
    let told = async |client: &dyn Client, level: LoggingLevel, word: &str| {
        client.set_log_level(level).await.unwrap();
        while state(client).await["log_level"] != word {}
    };
    let all = async {
        told(&*ada, LoggingLevel::Error, "error").await;
        told(&*eve, LoggingLevel::Debug, "debug").await;
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_eq!(state(&*ada).await["log_level"], "error");
    assert_eq!(state(&*bob).await["log_level"], Value::Null);
}

/// A server that asks for roots when it has answered a call, and says in the answer of the next one
/// whether it got them.
#[cfg(unix)]
fn asks_after_calls() -> ServerSpec {
    let script = r#"got=no
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
    *'"tools/call"'*)
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$id" "$got"
      printf '{"jsonrpc":"2.0","id":"roots","method":"roots/list"}\n' ;;
    *'"method"'*) [ -n "$id" ] && printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id" ;;
    *'file:///mine'*) got=yes ;;
  esac
done"#;
    ServerSpec::stdio("own", StdioSpec::new("sh").with_args(["-c", script])).unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn what_a_process_asks_between_calls_comes_on_the_connection_of_its_client() {
    let served = served_by(asks_after_calls(), HttpOptions::new()).await;
    let mut ada = ByHand::connect(&served);
    let mut bob = ByHand::connect(&served);
    for client in [&mut ada, &mut bob] {
        client.initialize("2025-11-25").await;
    }
    let roots = json!({"roots": [{"uri": "file:///mine"}]});
    for (id, got) in [(1, "no"), (2, "yes")] {
        let called = ada.ask(tool_call(id, "own__t", json!({}))).await;
        assert_eq!(called["result"]["content"][0]["text"], got, "{called}");
        let asked = ada.hear().await.unwrap();
        assert_eq!(asked["method"], "roots/list", "{asked}");
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": roots});
        ada.say(&answer.to_string()).await;
    }
    let pong = bob
        .ask(json!({"jsonrpc": "2.0", "id": 3, "method": "ping"}))
        .await;
    assert_eq!(pong["id"], 3, "the other is not asked");
}

#[cfg(unix)]
#[tokio::test]
async fn what_a_process_asks_between_calls_comes_on_the_standing_stream_of_its_client() {
    let served = served_by(asks_after_calls(), HttpOptions::new()).await;
    let session = served.token("/mcp", "").await;
    let post = async |body: Value| {
        let request = served.post("/mcp", "", &body);
        let request = request.header("mcp-session-id", &session);
        request.send().await.unwrap()
    };
    let standing = by_hand()
        .get(served.url("/mcp"))
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &session);
    let mut standing = standing.send().await.unwrap();
    for (id, got) in [(1, "no"), (2, "yes")] {
        let called: Value = post(tool_call(id, "own__t", json!({})))
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(called["result"]["content"][0]["text"], got, "{called}");
        let question = async {
            let mut text = String::new();
            loop {
                let chunk = standing.chunk().await.unwrap().expect("the stream ended");
                text.push_str(std::str::from_utf8(&chunk).unwrap());
                let messages = text.lines().filter_map(|line| line.strip_prefix("data: "));
                let mut messages =
                    messages.filter_map(|data| serde_json::from_str::<Value>(data).ok());
                if let Some(asked) = messages.find(|said| said["method"] == "roots/list") {
                    return asked;
                }
            }
        };
        let asked = tokio::time::timeout(PATIENCE, question).await.unwrap();
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"],
            "result": {"roots": [{"uri": "file:///mine"}]}});
        assert_eq!(post(answer).await.status(), StatusCode::ACCEPTED);
    }
}
