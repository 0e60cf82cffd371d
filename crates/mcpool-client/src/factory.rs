//! The factory that turns a spec into a connected client.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_core::{
    AuthenticatorProvider, Client, ClientFactory, ConnectOptions, ConnectRequest, ConnectionInfo,
    Connector, DeclineAll, Error, ErrorKind, Raw, RequestTimeouts, Result, ServerRequestHandler,
    ServerSpec, TransportKind, TransportSpec, WireTap,
};
use tokio::runtime::Handle;
use tracing::Instrument as _;

use crate::{
    answerer::Answerer,
    client_info::ClientInfo,
    evidence::{ConnectFailure, Recorder},
    handshake::Identity,
    isolated::IsolatedClient,
    link::{no_runtime, with_stderr, with_stdout},
    memory::EraMemory,
    negotiate::{Established, Negotiation, Opened},
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
/// use mcpool_core::{ClientFactory, ConnectOptions, ServerSpec, StdioSpec, Verbs};
///
/// let factory = StandardFactory::new();
/// let spec = ServerSpec::stdio("time", StdioSpec::new("mcp-server-time"))?;
/// let client = factory.connect(&spec, &ConnectOptions::new()).await?;
/// for tool in client.list_tools().await?.values() {
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
    tap: Option<Arc<dyn WireTap>>,
    info: ClientInfo,
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
            tap: None,
            info: ClientInfo::default(),
            memory: Arc::default(),
        }
    }

    /// Sets what answers the servers' requests: roots, sampling, elicitation. What it declares as
    /// its capabilities is what servers are given, and all that they may ask. Default:
    /// [`DeclineAll`].
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<dyn ServerRequestHandler>) -> Self {
        self.handler = handler;
        self
    }

    /// Adds a connector, or replaces the one of the same kind: it opens every server whose spec
    /// asks for that kind. A connector for one server alone stands in its spec
    /// ([`TransportSpec::Custom`]); one of the kind [`Custom`](TransportKind::Custom) is used here
    /// by no spec.
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

    /// Sets what sees every message of every connection. Default: nothing.
    #[must_use]
    pub fn with_tap(mut self, tap: Arc<dyn WireTap>) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Sets who the client says it is. Default: `mcpool` and its version.
    #[must_use]
    pub fn with_client_info(mut self, info: ClientInfo) -> Self {
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

    async fn establish(
        &self,
        spec: &ServerSpec,
        options: &ConnectOptions,
        bound: Duration,
        runtime: Handle,
        recorder: &Recorder,
    ) -> Result<Session> {
        let spec = spec.resolved().await?;
        let authenticator = match &self.authenticators {
            Some(provider) if is_http(&spec.transport) => provider.authenticator(&spec).await?,
            _ => None,
        };
        let handler = options.handler.as_ref().unwrap_or(&self.handler);
        let capabilities = handler.capabilities(&spec.name);
        let mut request = ConnectRequest::new(spec.name.clone(), spec.transport.clone())
            .with_limits(spec.policy.limits.clone())
            .with_shutdown(spec.policy.shutdown.clone())
            .with_masker(spec.masker.clone())
            .with_fresh(options.fresh)
            .with_capabilities(capabilities.clone());
        request.authenticator = authenticator;
        request.tap.clone_from(&self.tap);
        let answerer = Answerer::new(Arc::clone(handler), &capabilities);
        let negotiation = Negotiation {
            spec: &spec,
            connectors: &self.connectors,
            request,
            answerer: answerer.clone(),
            identity: Identity {
                info: Raw::of(&self.info)?,
                capabilities,
            },
            memory: &self.memory,
            recorder,
            bound,
            runtime,
        };
        let Established {
            opened: Opened { link, leave },
            agreed,
            conclusion,
        } = negotiation.run().await?;
        if !agreed.peer.odd.is_empty() {
            tracing::debug!(server = %spec.name, odd = ?agreed.peer.odd, "odd words of a server");
        }
        let info = ConnectionInfo::new(spec.name.clone(), link.kind(), agreed.version, agreed.peer)
            .with_evidence(recorder.evidence(conclusion));
        leave.settle().await;
        Ok(Session::begin(link, leave, answerer, &spec, info))
    }
}

#[async_trait]
impl ClientFactory for StandardFactory {
    /// Connects, bounded by the spec's `startup` timeout; of a server behind a URL by its
    /// `request` timeout too, where that was set shorter than its default. See
    /// [`ConnectFailure`] for what a failure carries.
    async fn connect(
        &self,
        spec: &ServerSpec,
        options: &ConnectOptions,
    ) -> Result<Arc<dyn Client>> {
        let refuse = |error: Error| Err(error.with_server(&spec.name).with_operation("connect"));
        if !spec.enabled {
            return refuse(Error::new(ErrorKind::Disabled, "the server is disabled"));
        }
        let Ok(runtime) = Handle::try_current() else {
            return refuse(no_runtime());
        };
        let recorder = Recorder::new(spec.masker.clone());
        let (bound, setting) = bound(spec);
        let span = tracing::info_span!(
            "connect",
            server = %spec.name,
            transport = spec.transport.as_str()
        );
        let establish = self
            .establish(spec, options, bound, runtime, &recorder)
            .instrument(span);
        let outcome = match tokio::time::timeout(bound, establish).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("the server was not ready within {bound:?} ({setting})"),
            )),
        };
        match outcome {
            Ok(session) => Ok(Arc::new(session)),
            Err(error) => {
                let mut error = error.with_server(&spec.name).with_operation("connect");
                if let Some(monitor) = recorder.monitor() {
                    error = with_stdout(with_stderr(error, &*monitor), &*monitor);
                }
                let error = error.masked(&spec.masker);
                let evidence = recorder.evidence(format!("failed: {}", error.message()));
                let error = ConnectFailure::attach(error, evidence);
                tracing::debug!(server = %spec.name, kind = %error.kind(), "the connect failed");
                Err(error)
            }
        }
    }

    /// As the authenticators say; for ever without any, and for servers without a URL.
    async fn credentials_changed(&self, spec: &ServerSpec) {
        match (&self.authenticators, spec.resolved().await) {
            (Some(provider), Ok(spec)) if is_http(&spec.transport) => {
                provider.credentials_changed(&spec).await;
            }
            // What cannot be resolved is reported by the connect.
            _ => std::future::pending().await,
        }
    }
}

fn is_http(transport: &TransportSpec) -> bool {
    matches!(
        transport,
        TransportSpec::Http(_) | TransportSpec::Sse(_) | TransportSpec::Auto(_)
    )
}

/// How long a connect may take, and which setting says so, by its name in config files. A process may need its start-up time
/// before it can answer anything; a server behind a URL runs already, and a caller that waits less than
/// usual for its answers does not wait longer for the first.
fn bound(spec: &ServerSpec) -> (Duration, &'static str) {
    let timeouts = &spec.policy.timeouts;
    let set = timeouts.request < RequestTimeouts::default().request;
    if is_http(&spec.transport) && set && timeouts.request < timeouts.startup {
        (timeouts.request, "timeout")
    } else {
        (timeouts.startup, "startup_timeout")
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
            .field("tap", &self.tap.is_some())
            .field("info", &self.info)
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
            let (spec, options) = (spec.unwrap(), ConnectOptions::new());
            let error = factory.connect(&spec, &options).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSpec);
            assert!(error.message().contains(feature), "{error}");
            assert!(error.is_permanent());
        }
    }

    #[test]
    fn a_connect_is_bounded_by_what_was_set() {
        let seconds = Duration::from_secs;
        let of = |spec: Result<ServerSpec>, startup: u64, request: u64| {
            let mut spec = spec.unwrap();
            spec.policy.timeouts.startup = seconds(startup);
            spec.policy.timeouts.request = seconds(request);
            bound(&spec).0.as_secs()
        };
        let url = || ServerSpec::url("s", "http://localhost/");
        assert_eq!(of(url(), 30, 30), 30);
        assert_eq!(of(url(), 120, 30), 120, "the default bounds nothing");
        assert_eq!(of(url(), 120, 60), 120);
        assert_eq!(of(url(), 120, 5), 5);
        assert_eq!(of(url(), 2, 5), 2);
        let process = || ServerSpec::stdio("s", StdioSpec::new("x"));
        assert_eq!(of(process(), 60, 5), 60, "a process starts first");
    }

    #[test]
    fn outside_a_runtime_a_connect_is_an_error() {
        let spec = ServerSpec::stdio("s", StdioSpec::new("x")).unwrap();
        let factory = StandardFactory::new();
        let error = futures::executor::block_on(factory.connect(&spec, &ConnectOptions::new()));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
