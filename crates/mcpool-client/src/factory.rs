//! The factory that turns a spec into a connected client.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use mcpool_core::{
    AuthenticatorProvider, Client, ClientFactory, Connector, DeclineAll, Error, ErrorKind, Result,
    ServerRequestHandler, ServerSpec, TransportKind, model::Implementation,
};
use tracing::Instrument as _;

use crate::{
    era::EraMemory,
    error_map,
    evidence::{ConnectFailure, Recorder},
    handshake::Identity,
    isolated::IsolatedClient,
    negotiate::{Established, Negotiation},
    session::Session,
};

/// Makes connected clients from specs: the [`ClientFactory`] of mcpool.
///
/// It knows one [`Connector`] for each transport that was compiled in, and remembers for as long
/// as it lives which era each server speaks, so that only the first connect probes for it.
/// Cloning is cheap and shares that memory; the clients share nothing.
///
/// ```no_run
/// # async fn example() -> mcpool_core::Result<()> {
/// use mcpool_client::StandardFactory;
/// use mcpool_core::{ClientFactory, RequestOptions, ServerSpec, StdioSpec};
///
/// let factory = StandardFactory::new();
/// let spec = ServerSpec::stdio("time", StdioSpec::new("mcp-server-time"))?;
/// let client = factory.connect(&spec).await?;
/// for tool in client.list_tools(&RequestOptions::new()).await?.tools {
///     println!("{}", tool.name);
/// }
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StandardFactory {
    connectors: HashMap<TransportKind, Arc<dyn Connector>>,
    handler: Arc<dyn ServerRequestHandler>,
    authenticators: Option<Arc<dyn AuthenticatorProvider>>,
    info: Implementation,
    memory: Arc<EraMemory>,
}

impl StandardFactory {
    /// A factory with a connector for each transport that was compiled in (cargo features
    /// `stdio`, `http`, `sse`), that declines whatever a server asks.
    #[must_use]
    pub fn new() -> Self {
        Self {
            connectors: compiled_in(),
            handler: Arc::new(DeclineAll),
            authenticators: None,
            info: Implementation::new("mcpool", env!("CARGO_PKG_VERSION")),
            memory: Arc::default(),
        }
    }

    /// Sets what answers the servers' requests: roots, sampling, elicitation. What it declares as
    /// its capabilities is what servers are told. Default: [`DeclineAll`].
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<dyn ServerRequestHandler>) -> Self {
        self.handler = handler;
        self
    }

    /// Adds a connector, or replaces the one of the same kind.
    ///
    /// A connector of the kind [`Custom`](TransportKind::Custom) opens every server, whatever its
    /// spec says.
    #[must_use]
    pub fn with_connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connectors.insert(connector.kind(), connector);
        self
    }

    /// Sets what knows the credentials of HTTP servers. Default: none.
    #[must_use]
    pub fn with_authenticators(mut self, authenticators: Arc<dyn AuthenticatorProvider>) -> Self {
        self.authenticators = Some(authenticators);
        self
    }

    /// Sets who the client says it is. Default: `mcpool` and its version.
    #[must_use]
    pub fn with_client_info(mut self, info: Implementation) -> Self {
        self.info = info;
        self
    }

    /// Connects a client that shares nothing with any other and belongs to its caller alone.
    ///
    /// # Errors
    /// As [`ClientFactory::connect`].
    pub async fn isolated(&self, spec: &ServerSpec) -> Result<IsolatedClient> {
        let client = self.isolated_lazy(spec);
        client.connect().await?;
        Ok(client)
    }

    /// The same, but connected by its first use.
    #[must_use]
    pub fn isolated_lazy(&self, spec: &ServerSpec) -> IsolatedClient {
        IsolatedClient::new(Arc::new(self.clone()), spec.clone())
    }

    async fn establish(&self, spec: &ServerSpec, recorder: &Recorder) -> Result<Session> {
        let spec = Arc::new(spec.resolved().await?);
        let authenticator = match &self.authenticators {
            Some(provider) if !spec.transport.is_stdio() => provider.authenticator(&spec).await?,
            _ => None,
        };
        let negotiation = Negotiation {
            spec: Arc::clone(&spec),
            connectors: &self.connectors,
            authenticator,
            handler: Arc::clone(&self.handler),
            identity: Identity {
                info: self.info.clone(),
                capabilities: self.handler.capabilities(&spec.name),
            },
            memory: &self.memory,
            recorder,
        };
        let Established {
            opened,
            info,
            conclusion,
        } = negotiation.run().await?;
        let evidence = recorder.evidence(conclusion);
        let peer = opened.keep();
        Ok(Session::begin(
            peer,
            Arc::clone(&self.handler),
            &spec,
            info,
            evidence,
        ))
    }
}

#[async_trait]
impl ClientFactory for StandardFactory {
    /// Connects, bounded by the spec's `startup` time-out. See [`ConnectFailure`] for what a
    /// failure tells.
    async fn connect(&self, spec: &ServerSpec) -> Result<Arc<dyn Client>> {
        if !spec.enabled {
            return Err(Error::new(ErrorKind::Disabled, "the server is disabled")
                .with_server(&spec.name)
                .with_operation("connect"));
        }
        let recorder = Recorder::new(spec.masker.clone());
        let bound = spec.policy.timeouts.startup;
        let span = tracing::info_span!(
            "connect",
            server = %spec.name,
            transport = spec.transport.as_str()
        );
        let establish = self.establish(spec, &recorder).instrument(span);
        let outcome = match tokio::time::timeout(bound, establish).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("the server was not ready within {bound:?} (timeouts.startup)"),
            )),
        };
        match outcome {
            Ok(session) => Ok(Arc::new(session)),
            Err(error) => {
                let mut error = error.with_server(&spec.name).with_operation("connect");
                if let Some(monitor) = recorder.monitor() {
                    error = error_map::with_stderr(error, monitor.diagnostics());
                }
                let error = error.masked(&spec.masker);
                let evidence = recorder.evidence(format!("failed: {}", error.message()));
                let error = ConnectFailure::attach(error, evidence);
                tracing::debug!(server = %spec.name, %error, "the connect failed");
                Err(error)
            }
        }
    }

    /// As the authenticators say; for ever without any, and for stdio servers.
    async fn credentials_changed(&self, spec: &ServerSpec) {
        match (&self.authenticators, spec.resolved().await) {
            (Some(provider), Ok(spec)) if !spec.transport.is_stdio() => {
                provider.credentials_changed(&spec).await;
            }
            // What cannot be resolved is told by the connect.
            _ => std::future::pending().await,
        }
    }
}

impl Default for StandardFactory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StandardFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandardFactory")
            .field("transports", &self.connectors.keys())
            .field("authenticators", &self.authenticators.is_some())
            .field("info", &self.info.name)
            .finish_non_exhaustive()
    }
}

fn compiled_in() -> HashMap<TransportKind, Arc<dyn Connector>> {
    let connectors: &[Arc<dyn Connector>] = &[
        #[cfg(feature = "stdio")]
        Arc::new(mcpool_stdio::StdioConnector::new()),
        #[cfg(feature = "http")]
        Arc::new(mcpool_http::HttpConnector::new(
            mcpool_http_pool::HttpPool::shared(),
        )),
        #[cfg(feature = "sse")]
        Arc::new(mcpool_sse::SseConnector::new(
            mcpool_http_pool::HttpPool::shared(),
        )),
    ];
    connectors
        .iter()
        .map(|connector| (connector.kind(), Arc::clone(connector)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool_core::{HttpSpec, StdioSpec};

    #[tokio::test]
    async fn a_transport_that_is_not_compiled_in_names_its_feature() {
        let mut factory = StandardFactory::new();
        factory.connectors.clear();
        let http = || HttpSpec::new("http://localhost/");
        for (spec, feature) in [
            (ServerSpec::stdio("s", StdioSpec::new("x")), "`stdio`"),
            (ServerSpec::http("s", http()), "`http`"),
            (ServerSpec::sse("s", http()), "`sse`"),
            (ServerSpec::url("s", "http://localhost/"), "`http`"),
        ] {
            let error = factory.connect(&spec.unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSpec);
            assert!(error.message().contains(feature), "{error}");
            assert!(error.is_permanent());
        }
    }
}
