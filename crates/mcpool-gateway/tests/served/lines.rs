//! The front of streams.

use mcpool_core::{Raw, ToolFilter};
use mcpool_gateway::{HttpOptions, HttpServer, Profile, Profiles, Scope};
use mcpool_testkit::Era;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf,
};

use crate::support::{PATIENCE, Served, tool_call};

/// A client that writes and reads lines by hand.
pub(crate) struct ByHand {
    pub(crate) write: WriteHalf<DuplexStream>,
    read: BufReader<ReadHalf<DuplexStream>>,
}

impl ByHand {
    pub(crate) fn connect(served: &Served) -> Self {
        Self::served(served, Scope::Pool)
    }

    /// A client that is served a part.
    fn served(served: &Served, scope: Scope) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let gateway = served.gateway.clone();
        tokio::spawn(async move {
            let (read, write) = tokio::io::split(theirs);
            gateway.serve_lines(scope, read, write).await
        });
        let (read, write) = tokio::io::split(ours);
        Self {
            write,
            read: BufReader::new(read),
        }
    }

    pub(crate) async fn say(&mut self, message: &str) {
        self.write.write_all(message.as_bytes()).await.unwrap();
        self.write.write_all(b"\n").await.unwrap();
    }

    /// The next line; `None` at the end.
    pub(crate) async fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.read.read_line(&mut line)).await;
        match read.unwrap().unwrap() {
            0 => None,
            _ => Some(serde_json::from_str(&line).unwrap()),
        }
    }

    pub(crate) async fn ask(&mut self, message: Value) -> Value {
        self.say(&message.to_string()).await;
        self.hear().await.unwrap()
    }

    pub(crate) async fn initialize(&mut self, version: &str) -> Value {
        let params = json!({"protocolVersion": version, "capabilities": {"roots": {}},
            "clientInfo": {"name": "t", "version": "1"}});
        self.ask(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}))
            .await
    }
}

#[tokio::test]
async fn a_client_is_served_from_its_first_word_to_its_last() {
    let served = Served::one(Era::Legacy).await;
    let mut client = ByHand::connect(&served);
    let refused = client
        .ask(json!({"jsonrpc": "2.0", "id": 9, "method": "tools/list"}))
        .await;
    assert_eq!(refused["error"]["code"], -32600);
    let begun = client.initialize("2024-11-05").await;
    assert_eq!(begun["result"]["protocolVersion"], "2024-11-05");
    let call = json!({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {
        "name": "files__echo", "arguments": {"message": "hi"}}});
    let answer = client.ask(call).await;
    assert_eq!(answer["id"], "a");
    assert_eq!(answer["result"]["content"][0]["text"], "hi");
    client.write.shutdown().await.unwrap();
    assert_eq!(client.hear().await, None);
}

#[tokio::test]
async fn both_eras_share_one_stream_kind() {
    let served = Served::one(Era::Modern).await;
    let mut client = ByHand::connect(&served);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let found = client
        .ask(json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}))
        .await;
    let versions = found["result"]["supportedVersions"].as_array().unwrap();
    assert_eq!(versions.len(), 5);
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "files__echo", "arguments": {"message": "hi"}, "_meta": meta}});
    let answer = client.ask(call).await;
    assert_eq!(answer["result"]["resultType"], "complete");
    let info = &answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert_eq!(info["name"], "mcpool");
}

#[tokio::test]
async fn a_server_asks_and_the_client_answers_by_a_line() {
    let served = Served::one(Era::Legacy).await;
    let mut client = ByHand::connect(&served);
    client.initialize("2025-11-25").await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "files__ask", "arguments": {"method": "roots/list"}}});
    let asked = client.ask(call).await;
    assert_eq!(asked["method"], "roots/list");
    let id = asked["id"].clone();
    // Nobody else's answer counts.
    let mut other = ByHand::connect(&served);
    other.initialize("2025-11-25").await;
    other
        .say(&json!({"jsonrpc": "2.0", "id": id, "result": {"roots": ["evil"]}}).to_string())
        .await;
    let pong = other
        .ask(json!({"jsonrpc": "2.0", "id": 5, "method": "ping"}))
        .await;
    assert_eq!(pong["id"], 5);
    let answer = client
        .ask(json!({"jsonrpc": "2.0", "id": id, "result": {"roots": []}}))
        .await;
    assert_eq!(
        answer["result"]["structuredContent"]["result"]["roots"],
        json!([])
    );
}

#[tokio::test]
async fn a_cancelled_request_is_not_answered() {
    let served = Served::one(Era::Legacy).await;
    let mut client = ByHand::connect(&served);
    client.initialize("2025-06-18").await;
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "files__hang", "arguments": {}}});
    client.say(&call.to_string()).await;
    let running = async {
        while served.servers[0].seen()["calls"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, running).await.unwrap();
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": 7}});
    client.say(&cancel.to_string()).await;
    let cancelled = async {
        while served.servers[0].seen()["cancelled"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, cancelled).await.unwrap();
    let pong = client
        .ask(json!({"jsonrpc": "2.0", "id": 8, "method": "ping"}))
        .await;
    assert_eq!(pong["id"], 8);
}

#[tokio::test]
async fn lines_that_are_none_are_refused_and_the_next_is_served() {
    let served = Served::one(Era::Legacy).await;
    let mut client = ByHand::connect(&served);
    client.initialize("2025-11-25").await;
    for (line, code) in [("{", -32700), ("7", -32600), ("{}", -32600)] {
        client.say(line).await;
        let refused = client.hear().await.unwrap();
        assert_eq!(refused["error"]["code"], code, "{line}");
        assert_eq!(refused["id"], Value::Null);
    }
    client.write.write_all(b"\xff\xfe\n\r\n").await.unwrap();
    assert_eq!(client.hear().await.unwrap()["error"]["code"], -32700);
    let big = Raw::from_text(r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#.to_owned()).unwrap();
    client.say(big.get()).await;
    let mut line = String::new();
    client.read.read_line(&mut line).await.unwrap();
    assert_eq!(line.trim(), r#"{"jsonrpc":"2.0","id":1e400,"result":{}}"#);
}

#[tokio::test]
async fn a_gateway_that_ends_answers_what_runs_and_closes_the_stream() {
    let served = Served::one(Era::Legacy).await;
    let mut client = ByHand::connect(&served);
    client.initialize("2025-11-25").await;
    client
        .say(&tool_call(1, "files__ask", json!({"method": "roots/list"})).to_string())
        .await;
    let asked = client.hear().await.unwrap();
    let gateway = served.gateway.clone();
    let ending = tokio::spawn(async move { gateway.drain(PATIENCE).await });
    while !served.gateway.is_draining() {
        tokio::task::yield_now().await;
    }
    let late = client
        .ask(tool_call(2, "files__echo", json!({"message": "hi"})))
        .await;
    assert_eq!(
        (&late["id"], &late["error"]["code"]),
        (&json!(2), &json!(-32603))
    );
    let answer = client
        .ask(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}}))
        .await;
    assert_eq!(answer["id"], 1);
    assert!(ending.await.unwrap());
    assert_eq!(client.hear().await, None);
}

#[tokio::test]
async fn a_client_follows_the_profile_that_it_is_served() {
    let part = |tools: &str| Profile::new("p").with_tools(ToolFilter::allow([tools]));
    let of = |profile: Profile| -> Profiles { [profile].into_iter().collect() };
    let profiles = of(part("*__echo"));
    let served = Served::one(Era::Legacy).await;
    let served = served
        .with_profiles(profiles.clone(), HttpOptions::new(), HttpServer::new())
        .await;
    let scope = Scope::Profile(profiles.get("p").unwrap());
    let mut client = ByHand::served(&served, scope);
    client.initialize("2025-11-25").await;
    let list = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"});
    let only = async |client: &mut ByHand, id: u64| {
        let listed = client.ask(list(id)).await;
        let tools = listed["result"]["tools"].as_array().unwrap();
        assert_eq!(tools.len(), 1, "{listed}");
        tools[0]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(only(&mut client, 1).await, "files__echo");
    let told = async |client: &mut ByHand| {
        for list in ["tools", "prompts", "resources"] {
            let told = client.hear().await.unwrap();
            assert_eq!(told["method"], format!("notifications/{list}/list_changed"));
        }
    };
    profiles.replace(&of(part("*__fail")));
    told(&mut client).await;
    assert_eq!(only(&mut client, 2).await, "files__fail");
    // One that is gone serves nothing, and one that comes back does.
    profiles.replace(&Profiles::default());
    told(&mut client).await;
    let refused = client.ask(list(3)).await;
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    let call = tool_call(4, "files__fail", json!({"message": "x"}));
    assert_eq!(client.ask(call).await["error"]["code"], -32600);
    profiles.replace(&of(part("*__add")));
    told(&mut client).await;
    assert_eq!(only(&mut client, 5).await, "files__add");
}

/// A client that asks a lot, reads nothing, and leaves or stays.
async fn is_left(leaves: bool) -> std::io::Error {
    let served = Served::one(Era::Legacy).await;
    let (ours, theirs) = tokio::io::duplex(64);
    let (read, write) = tokio::io::split(theirs);
    let gateway = served.gateway.clone();
    let serving = tokio::spawn(async move { gateway.serve_lines(Scope::Pool, read, write).await });
    let (_unread, mut write) = tokio::io::split(ours);
    for id in 0..10 {
        let list = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        write
            .write_all(format!("{list}\n").as_bytes())
            .await
            .unwrap();
    }
    match leaves {
        true => write.shutdown().await.unwrap(),
        // Dropped, it would be one that leaves.
        false => std::mem::forget(write),
    }
    let ended = tokio::time::timeout(PATIENCE * 10, serving).await;
    ended.unwrap().unwrap().unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_left() {
    for leaves in [true, false] {
        assert_eq!(is_left(leaves).await.kind(), std::io::ErrorKind::TimedOut);
    }
}
