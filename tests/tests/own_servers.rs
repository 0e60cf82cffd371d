//! Third-party servers that clients do not share, behind a gateway and behind a worker: each instance
//! uses what its own client answers, and no other's.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::PathBuf};

use mcpool_e2e::{Cli, Gateway, GatewayClient, Running, Servers};
use mcpool_testkit::nats::NatsServer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The two servers that use what clients answer, in the config of a gateway or of a worker.
struct Own {
    gateway: Gateway,
    _cli: Vec<Cli>,
    _worker: Option<(Running, NatsServer)>,
    files: TempDir,
}

impl Own {
    /// The servers at the gateway itself.
    async fn here() -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let cli = Cli::new(config(&files)?);
        let gateway = Gateway::start(&cli, &key(&files), &[]);
        gateway.ready().await;
        Some(Self {
            gateway,
            _cli: vec![cli],
            _worker: None,
            files,
        })
    }

    /// The servers at a worker of the gateway's pool.
    async fn at_a_worker() -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let config = config(&files)?;
        let nats = NatsServer::start().await?;
        let (url, cli, place) = (nats.url(), Cli::new(config), Cli::without_config());
        let fleet = ["--nats", &url, "--pool", "tools"];
        let worker = cli.start(&[&["worker"], fleet.as_slice()].concat());
        let gateway = Gateway::start(&place, &key(&files), &fleet);
        gateway.ready().await;
        Some(Self {
            gateway,
            _cli: vec![cli, place],
            _worker: Some((worker, nats)),
            files,
        })
    }

    /// A client that can be asked everything.
    async fn client(&self, name: &str) -> GatewayClient {
        let all = json!({"roots": {"listChanged": true}, "sampling": {}, "elicitation": {}});
        GatewayClient::connect(self.gateway.port(), name, all).await
    }

    /// A directory with a file of this text in it.
    fn directory(&self, name: &str) -> PathBuf {
        let path = self.files.path().canonicalize().unwrap().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("note.txt"), format!("of {name}")).unwrap();
        path
    }
}

fn key(files: &TempDir) -> PathBuf {
    let key = files.path().join("key");
    fs::write(&key, "07".repeat(32)).unwrap();
    key
}

fn config(files: &TempDir) -> Option<Value> {
    let servers = Servers::here();
    let of = |program: &str, args: Vec<String>| {
        let process = servers.node(program)?;
        Some(json!({"command": process.command, "args": args, "sharing": "client"}))
    };
    // Where a client has no roots, it serves this one.
    let nobodys = files.path().join("nobodys");
    fs::create_dir(&nobodys).unwrap();
    let nobodys = nobodys.to_string_lossy().into_owned();
    Some(json!({"mcpServers": {
        "files": of("mcp-server-filesystem", vec![nobodys])?,
        "everything": of("mcp-server-everything", vec!["stdio".to_owned()])?,
    }}))
}

/// Each sees the files of its own roots, before and after they change.
async fn clients_see_their_own_files(own: Own) {
    let (of_ada, of_bob) = (own.directory("adas"), own.directory("bobs"));
    let (ada, bob) = (own.client("ada").await, own.client("bob").await);
    ada.set_roots(&[&of_ada]);
    bob.set_roots(&[&of_bob]);
    let without = json!({"elicitation": {}});
    let eve = GatewayClient::connect(own.gateway.port(), "eve", without).await;

    let (allowed, read) = ("files__list_allowed_directories", "files__read_text_file");
    let note = |of: &PathBuf| json!({"path": of.join("note.txt")});
    ada.has(allowed).await;
    ada.until(allowed, json!({}), "adas").await;
    bob.until(allowed, json!({}), "bobs").await;
    eve.until(allowed, json!({}), "nobodys").await;
    for (client, mine, others) in [(&ada, &of_ada, &of_bob), (&bob, &of_bob, &of_ada)] {
        let result = client.call(read, note(mine)).await;
        assert_ne!(result["isError"], true, "{result}");
        let refused = client.call(read, note(others)).await;
        assert_eq!(refused["isError"], true, "{refused}");
    }
    assert_eq!(eve.call(read, note(&of_ada)).await["isError"], true);

    // A change reaches the instance of its client, and no other.
    let before = bob.asked().len();
    let moved = own.directory("moved");
    ada.change_roots(&[&moved]).await;
    ada.until(allowed, json!({}), "moved").await;
    assert_eq!(ada.call(read, note(&of_ada)).await["isError"], true);
    let result = ada.call(read, note(&moved)).await;
    assert_ne!(result["isError"], true, "{result}");
    bob.until(allowed, json!({}), "bobs").await;
    assert_eq!(bob.asked().len(), before, "{:?}", bob.asked());

    // Who has not offered its roots was asked for nothing.
    assert_eq!(eve.asked(), [""; 0]);
    for client in [ada, bob, eve] {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_gateway_see_their_own_files() {
    if let Some(own) = Own::here().await {
        clients_see_their_own_files(own).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_their_own_files_through_a_worker() {
    if let Some(own) = Own::at_a_worker().await {
        clients_see_their_own_files(own).await;
    }
}

/// Each is shown the tools for what it can be asked, and is asked itself.
async fn clients_are_asked_themselves(own: Own) {
    let of_ada = own.directory("adas");
    let (ada, bob) = (own.client("ada").await, own.client("bob").await);
    ada.set_roots(&[&of_ada]);
    bob.set_roots(&[&own.directory("bobs")]);
    let without = json!({"roots": {}});
    let eve = GatewayClient::connect(own.gateway.port(), "eve", without).await;
    eve.set_roots(&[&own.directory("eves")]);

    let sample = "everything__trigger-sampling-request";
    let elicit = "everything__trigger-elicitation-request";
    let roots = "everything__get-roots-list";
    for (client, name) in [(&ada, "ada"), (&bob, "bob"), (&eve, "eve")] {
        client.has("everything__echo").await;
        // What an instance has is listed once there is one.
        client
            .until("everything__echo", json!({"message": "hi"}), "hi")
            .await;
        client.has(roots).await;
        client.until(roots, json!({}), &format!("{name}s")).await;
    }
    for (client, name) in [(&ada, "ada"), (&bob, "bob")] {
        client.has(sample).await;
        let prompt = json!({"prompt": "who", "maxTokens": 5});
        let result = client.call(sample, prompt).await.to_string();
        assert!(result.contains(&format!("{name} says so")), "{result}");
        client.has(elicit).await;
        let result = client.call(elicit, json!({})).await.to_string();
        assert!(result.contains(name), "{result}");
    }
    let shown = eve.tools().await;
    assert!(shown.iter().any(|name| name == roots));
    assert!(!shown.iter().any(|name| name == sample || name == elicit));
    assert!(eve.asked().iter().all(|method| method == "roots/list"));

    let moved = own.directory("moved");
    let before = bob.asked().len();
    ada.change_roots(&[&moved]).await;
    ada.until(roots, json!({}), "moved").await;
    assert_eq!(bob.asked().len(), before, "{:?}", bob.asked());
    for client in [ada, bob, eve] {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_gateway_are_asked_themselves() {
    if let Some(own) = Own::here().await {
        clients_are_asked_themselves(own).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_asked_themselves_through_a_worker() {
    if let Some(own) = Own::at_a_worker().await {
        clients_are_asked_themselves(own).await;
    }
}
