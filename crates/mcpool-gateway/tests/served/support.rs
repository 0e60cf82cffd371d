//! A pool of fixture servers, the gateway on a socket, and clients of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use mcpool_client::StandardFactory;
use mcpool_core::{
    Client, ClientFactory as _, ConnectOptions, HttpSpec, ProtocolChoice, ProtocolVersion, Raw,
    RpcError, ServerName, ServerRequest, ServerRequestHandler, ServerSpec, Verbs as _,
};
use mcpool_gateway::{
    AuditEntry, Gateway, GatewayBuilder, HttpOptions, HttpServer, Profiles, Relay, SealingKeys,
};
use mcpool_manager::ConnectionManager;
use mcpool_testkit::{Behavior, Era, fixtures::http::HttpFixture};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A pool behind a gateway on a loopback port.
pub(crate) struct Served {
    pub(crate) gateway: Gateway,
    pub(crate) manager: ConnectionManager,
    pub(crate) servers: Vec<HttpFixture>,
    pub(crate) address: String,
    _serving: AbortOnDropHandle<()>,
}

impl Served {
    /// Servers of these names and behaviours, which may be asked for everything.
    pub(crate) async fn with(servers: &[(&str, Behavior)]) -> Self {
        let relay = Relay::new().with_sampling(true).with_roots(true);
        let factory = StandardFactory::new().with_handler(Arc::new(relay));
        let manager = ConnectionManager::new(Arc::new(factory));
        let fixtures: Vec<_> = servers
            .iter()
            .map(|(_, behavior)| HttpFixture::start(behavior.clone()).unwrap())
            .collect();
        let specs = servers
            .iter()
            .zip(&fixtures)
            .map(|((name, _), fixture)| ServerSpec::http(name, HttpSpec::new(fixture.url())))
            .map(|spec| {
                let mut spec = spec.unwrap();
                spec.policy.timeouts.startup = Duration::from_secs(2);
                spec
            })
            .collect();
        let _report = manager.start(specs).await.unwrap();
        let gateway = Gateway::builder(manager.clone())
            .with_keys(SealingKeys::from_text(&"07".repeat(32)).unwrap())
            .build();
        Self::on_socket(gateway, manager, fixtures, HttpOptions::new()).await
    }

    /// One server of an era.
    pub(crate) async fn one(era: Era) -> Self {
        Self::with(&[("files", of_era(era))]).await
    }

    pub(crate) async fn on_socket(
        gateway: Gateway,
        manager: ConnectionManager,
        servers: Vec<HttpFixture>,
        options: HttpOptions,
    ) -> Self {
        let server = HttpServer::new();
        Self::by_server(gateway, manager, servers, options, server).await
    }

    /// The same pool behind another gateway, with these options.
    pub(crate) async fn again(self, options: HttpOptions, server: HttpServer) -> Self {
        self.with_profiles(Profiles::default(), options, server)
            .await
    }

    /// The same, with these profiles.
    pub(crate) async fn with_profiles(
        self,
        profiles: Profiles,
        options: HttpOptions,
        server: HttpServer,
    ) -> Self {
        let gateway = Gateway::builder(self.manager.clone())
            .with_keys(SealingKeys::random())
            .with_profiles(profiles)
            .build();
        Self::by_server(gateway, self.manager, self.servers, options, server).await
    }

    async fn by_server(
        gateway: Gateway,
        manager: ConnectionManager,
        servers: Vec<HttpFixture>,
        options: HttpOptions,
        server: HttpServer,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = gateway.router(options);
        let serving = tokio::spawn({
            let gateway = gateway.clone();
            async move { server.serve(&gateway, listener, router).await.unwrap() }
        });
        Self {
            gateway,
            manager,
            servers,
            address,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A POST of a message, by hand; a key of "" is none.
    pub(crate) fn post(&self, path: &str, key: &str, body: &Value) -> RequestBuilder {
        let request = by_hand()
            .post(self.url(path))
            .header("accept", "application/json, text/event-stream")
            .json(body);
        match key {
            "" => request,
            key => request.bearer_auth(key),
        }
    }

    /// Begins a session and gives its token.
    pub(crate) async fn token(&self, path: &str, key: &str) -> String {
        let begun = self.post(path, key, &initialize()).send().await.unwrap();
        assert_eq!(begun.status(), StatusCode::OK);
        begun.headers()["mcp-session-id"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until a server has seen so many calls.
    pub(crate) async fn seen(&self, what: &str, count: u64) {
        let wait = async {
            while self.servers[0].seen()[what] != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }

    /// A client of the whole pool.
    pub(crate) async fn client(&self, version: &ProtocolVersion) -> Arc<dyn Client> {
        self.client_at("/mcp", version, Arc::new(Answers)).await
    }

    pub(crate) async fn client_at(
        &self,
        path: &str,
        version: &ProtocolVersion,
        handler: Arc<dyn ServerRequestHandler>,
    ) -> Arc<dyn Client> {
        let spec = ServerSpec::http("gateway", HttpSpec::new(self.url(path)))
            .unwrap()
            .with_protocol(ProtocolChoice::Pinned(version.clone()));
        let factory = StandardFactory::new().with_handler(handler);
        factory
            .connect(&spec, &ConnectOptions::new())
            .await
            .unwrap()
    }
}

/// What a gateway has audited.
pub(crate) type Audit = Arc<Mutex<Vec<AuditEntry>>>;

/// The gateway with an audit that is kept.
pub(crate) fn audited(builder: GatewayBuilder) -> (GatewayBuilder, Audit) {
    let entries = Audit::default();
    let kept = Arc::clone(&entries);
    let builder = builder.with_audit(move |entry| kept.lock().unwrap().push(entry));
    (builder, entries)
}

/// The first message of an older client.
pub(crate) fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}, "roots": {}},
        "clientInfo": {"name": "t", "version": "1"}}})
}

pub(crate) fn ping() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})
}

pub(crate) fn tool_call(id: u64, tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
        "name": tool, "arguments": arguments}})
}

pub(crate) async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

/// An HTTP client for requests that are written by hand.
pub(crate) fn by_hand() -> reqwest::Client {
    // Installed already by another test of this process, perhaps.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

pub(crate) fn of_era(era: Era) -> Behavior {
    Behavior::new().with(|behavior| behavior.era = era)
}

/// The last version of each era.
pub(crate) const BOTH: [ProtocolVersion; 2] =
    [ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28];

/// Calls a tool and gives its result as it came.
pub(crate) async fn call(client: &dyn Client, tool: &str, arguments: Value) -> Value {
    let called = tokio::time::timeout(PATIENCE, client.call_tool(tool, arguments)).await;
    called.unwrap().unwrap().raw().parse().unwrap()
}

/// A client that answers what it is asked with its method and the server that asks.
pub(crate) struct Answers;

#[async_trait]
impl ServerRequestHandler for Answers {
    fn capabilities(&self, _: &ServerName) -> Raw {
        let all = r#"{"roots":{},"sampling":{},"elicitation":{"form":{}}}"#;
        Raw::from_text(all.to_owned()).unwrap()
    }

    async fn answer(&self, _: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        let params: Value = request
            .params
            .as_ref()
            .map_or(Value::Null, |params| params.parse().unwrap());
        Ok(Raw::of(&json!({
            "asked": request.method,
            "by": params["_meta"]["mcpool/server"],
        }))
        .unwrap())
    }
}
