//! A pool of fixture servers, the gateway on a socket, and clients of it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_client::StandardFactory;
use mcpool_core::{
    Client, ClientFactory as _, ConnectOptions, HttpSpec, ProtocolChoice, ProtocolVersion, Raw,
    RpcError, ServerName, ServerRequest, ServerRequestHandler, ServerSpec, Verbs as _,
};
use mcpool_gateway::{Gateway, HttpOptions, Relay, SealingKeys};
use mcpool_manager::ConnectionManager;
use mcpool_testkit::{Behavior, Era, fixtures::http::HttpFixture};
use serde_json::Value;
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = gateway.router(options);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
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
        Ok(Raw::of(&serde_json::json!({
            "asked": request.method,
            "by": params["_meta"]["mcpool/server"],
        }))
        .unwrap())
    }
}
