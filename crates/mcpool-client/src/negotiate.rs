//! Finds out how to speak to a server: which transport, which era.
//!
//! | transport | era | what is done |
//! |---|---|---|
//! | stdio | auto | `server/discover`; on silence `initialize` as well, first valid answer wins; a new process where the probe may have broken the old one |
//! | Streamable HTTP | auto | `server/discover`; on a 4xx or a JSON-RPC error that is not modern, `initialize` |
//! | HTTP+SSE | auto | `initialize`: it is older than `server/discover` |
//! | URL of unknown transport | any | Streamable HTTP; on 400, 404 or 405, HTTP+SSE |
//! | any | pinned | no probe, no fallback |

use std::{collections::HashMap, future::Future, pin::pin, sync::Arc, time::Duration};

use mcpool_core::{
    Authenticator, ConnectRequest, Connector, Error, ErrorKind, ProtocolChoice, Result,
    ServerRequestHandler, ServerSpec, TransportKind, TransportSpec,
    model::{ProtocolVersion, ServerPeerInfo},
};

use crate::{
    era::{self, EraMemory, Known, Verdict},
    evidence::Recorder,
    handshake::{self, Identity},
    peer::{Opened, Peer},
};

/// How long an HTTP server may be silent on `server/discover` before `initialize` is tried on a
/// connection of its own; never more than half of the start-up time-out.
const HTTP_DISCOVER: Duration = Duration::from_secs(10);

/// How long the end of a process may take to be explained when a connect has failed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One connect.
pub(crate) struct Negotiation<'a> {
    /// Resolved: no `${…}` is left in it.
    pub(crate) spec: Arc<ServerSpec>,
    pub(crate) connectors: &'a HashMap<TransportKind, Arc<dyn Connector>>,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    pub(crate) handler: Arc<dyn ServerRequestHandler>,
    pub(crate) identity: Identity,
    pub(crate) memory: &'a EraMemory,
    pub(crate) recorder: &'a Recorder,
}

/// A session that has begun.
pub(crate) struct Established {
    pub(crate) opened: Opened,
    pub(crate) info: ServerPeerInfo,
    pub(crate) conclusion: String,
}

impl Negotiation<'_> {
    pub(crate) async fn run(&self) -> Result<Established> {
        // A connector of a kind of its own takes every server.
        if self.connectors.contains_key(&TransportKind::Custom) {
            return self.over(TransportKind::Custom).await;
        }
        match &self.spec.transport {
            TransportSpec::Stdio(_) => self.over(TransportKind::Stdio).await,
            TransportSpec::Http(_) => self.over(TransportKind::Http).await,
            TransportSpec::Sse(_) => self.over(TransportKind::Sse).await,
            TransportSpec::Auto(_) => self.over_some_http().await,
            other => Err(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "no connector opens a transport of the kind {}",
                    other.as_str()
                ),
            )),
        }
    }

    /// A URL whose transport is not known.
    async fn over_some_http(&self) -> Result<Established> {
        let sse_possible = self.connectors.contains_key(&TransportKind::Sse)
            && !matches!(self.modern_only(), Some(true));
        let known = self.memory.recall(&self.spec);
        if sse_possible && known.is_some_and(|known| known.transport == TransportKind::Sse) {
            match self.over(TransportKind::Sse).await {
                Err(error) if era::contradicts_legacy(&error) => self.memory.forget(&self.spec),
                outcome => return outcome,
            }
        }
        if !self.connectors.contains_key(&TransportKind::Http) && sse_possible {
            return self.over(TransportKind::Sse).await;
        }
        match self.over(TransportKind::Http).await {
            Err(error) if sse_possible && era::suggests_sse(&error) => {
                match self.over(TransportKind::Sse).await {
                    // Both refuse: what the first said is nearer to the truth, unless the second
                    // asks for something that a person can give.
                    Err(second) => match second.kind() {
                        ErrorKind::AuthRequired | ErrorKind::Forbidden | ErrorKind::RateLimited => {
                            Err(second)
                        }
                        _ => Err(error),
                    },
                    established => established,
                }
            }
            outcome => outcome,
        }
    }

    /// Whether the spec's protocol leaves only one era: `Some(true)` is the modern one.
    fn modern_only(&self) -> Option<bool> {
        match &self.spec.protocol {
            ProtocolChoice::Modern => Some(true),
            ProtocolChoice::Legacy => Some(false),
            ProtocolChoice::Pinned(version) => Some(!version.has_initialize()),
            _ => None,
        }
    }

    /// Over one transport.
    async fn over(&self, kind: TransportKind) -> Result<Established> {
        let newest = ProtocolVersion::LATEST_WITH_INITIALIZE;
        match (&self.spec.protocol, self.modern_only()) {
            (_, Some(true)) if kind == TransportKind::Sse => Err(Error::new(
                ErrorKind::InvalidSpec,
                "HTTP+SSE is older than the protocol that the spec asks for; \
                 use Streamable HTTP, or leave the protocol open",
            )),
            (ProtocolChoice::Pinned(version), Some(false)) => {
                self.legacy(kind, version, true).await
            }
            (ProtocolChoice::Pinned(version), _) => {
                self.modern(kind, std::slice::from_ref(version)).await
            }
            (_, Some(true)) => self.modern(kind, &era::modern_versions()).await,
            (_, Some(false)) => self.legacy(kind, &newest, false).await,
            (_, None) => {
                let known = self.memory.recall(&self.spec);
                if known.is_some_and(|known| known.transport == kind && !known.modern) {
                    match self.legacy(kind, &newest, false).await {
                        Err(error) if era::contradicts_legacy(&error) => {
                            self.memory.forget(&self.spec);
                        }
                        outcome => return outcome,
                    }
                }
                let established = match kind {
                    TransportKind::Sse => self.legacy(kind, &newest, false).await,
                    TransportKind::Http => self.probe_http(&newest).await,
                    _ => self.probe_pipe(kind, &newest).await,
                }?;
                let modern = !established.info.protocol_version.has_initialize();
                self.memory.remember(
                    &self.spec,
                    Known {
                        transport: kind,
                        modern,
                    },
                );
                Ok(established)
            }
        }
    }

    /// `server/discover` alone.
    async fn modern(&self, kind: TransportKind, ours: &[ProtocolVersion]) -> Result<Established> {
        let (opened, peer) = self.open(kind).await?;
        let verdict = handshake::discover(&peer, &self.identity, ours, self.recorder).await;
        match verdict {
            Verdict::Modern(info) => Ok(self.begun(opened, &peer, *info)),
            Verdict::Legacy(why) => Err(era::version_mismatch(format!(
                "the server does not speak the protocol version that the spec asks for: {why}"
            ))),
            Verdict::Lost(error) => Err(explain(&peer, error).await),
            Verdict::Fatal(error) => Err(error),
            Verdict::Retry(_) => Err(unreachable_verdict()),
        }
    }

    /// `initialize` alone, on a transport of its own.
    async fn legacy(
        &self,
        kind: TransportKind,
        offered: &ProtocolVersion,
        exact: bool,
    ) -> Result<Established> {
        let (opened, peer) = self.open(kind).await?;
        let info = self.initialize(&peer, offered, exact).await;
        match info {
            Ok(info) => self.confirmed(opened, &peer, info).await,
            Err(error) => Err(explain(&peer, error).await),
        }
    }

    /// Both eras over a pipe.
    async fn probe_pipe(
        &self,
        kind: TransportKind,
        newest: &ProtocolVersion,
    ) -> Result<Established> {
        let patience = self.spec.policy.timeouts.discover;
        let (opened, peer) = self.open(kind).await?;
        let ours = era::modern_versions();
        let mut discover = pin!(handshake::discover(
            &peer,
            &self.identity,
            &ours,
            self.recorder
        ));
        match tokio::time::timeout(patience, &mut discover).await {
            Ok(Verdict::Modern(info)) => return Ok(self.begun(opened, &peer, *info)),
            Ok(Verdict::Legacy(_)) => {
                return self
                    .initialize_after_probe(kind, opened, &peer, newest)
                    .await;
            }
            Ok(Verdict::Lost(_)) => {
                // It exits on a probe. Not its first message must be the probe.
                drop(opened);
                return self.legacy(kind, newest, false).await;
            }
            Ok(Verdict::Fatal(error)) => return Err(error),
            Ok(Verdict::Retry(_)) => return Err(unreachable_verdict()),
            Err(_) => {}
        }

        // Silence: an old server that ignores the question, or one that is still starting. Ask
        // the other question as well; the first valid answer decides.
        let mut initialize = pin!(self.initialize(&peer, newest, false));
        let mut discover_open = true;
        let refused = loop {
            tokio::select! {
                biased;
                verdict = &mut discover, if discover_open => match verdict {
                    Verdict::Modern(info) => return Ok(self.begun(opened, &peer, *info)),
                    _ => discover_open = false,
                },
                outcome = &mut initialize => match outcome {
                    Ok(info) => return self.confirmed(opened, &peer, info).await,
                    Err(error) => break error,
                },
            }
        };
        if refused.kind() == ErrorKind::VersionMismatch {
            return Err(refused);
        }
        // `initialize` was refused. The late answer to the probe may still come.
        if discover_open
            && let Ok(Verdict::Modern(info)) = tokio::time::timeout(patience, discover).await
        {
            return Ok(self.begun(opened, &peer, *info));
        }
        drop(opened);
        self.legacy(kind, newest, false).await
    }

    /// Both eras over Streamable HTTP.
    async fn probe_http(&self, newest: &ProtocolVersion) -> Result<Established> {
        let kind = TransportKind::Http;
        let patience = HTTP_DISCOVER.min(self.spec.policy.timeouts.startup / 2);
        let (opened, peer) = self.open(kind).await?;
        let ours = era::modern_versions();
        let discover = handshake::discover(&peer, &self.identity, &ours, self.recorder);
        match tokio::time::timeout(patience, discover).await {
            Ok(Verdict::Modern(info)) => Ok(self.begun(opened, &peer, *info)),
            Ok(Verdict::Legacy(_)) => {
                self.initialize_after_probe(kind, opened, &peer, newest)
                    .await
            }
            Ok(Verdict::Fatal(error)) => Err(error),
            Ok(Verdict::Retry(_)) => Err(unreachable_verdict()),
            // A time-out says nothing about the era, so asking the other way may help.
            Ok(Verdict::Lost(_)) | Err(_) => {
                drop(opened);
                self.legacy(kind, newest, false).await
            }
        }
    }

    /// `initialize` on the transport of a probe that was refused; on a new one where the refused
    /// probe may be why that fails ("already initialized").
    async fn initialize_after_probe(
        &self,
        kind: TransportKind,
        opened: Opened,
        peer: &Peer,
        newest: &ProtocolVersion,
    ) -> Result<Established> {
        if !peer.shared.dead.is_cancelled() {
            match self.initialize(peer, newest, false).await {
                Ok(info) => return self.confirmed(opened, peer, info).await,
                Err(error) => match error.kind() {
                    ErrorKind::Rpc
                    | ErrorKind::Protocol
                    | ErrorKind::ConnectionLost
                    | ErrorKind::ProcessExited => {}
                    _ => return Err(error),
                },
            }
        }
        drop(opened);
        self.legacy(kind, newest, false).await
    }

    fn initialize<'a>(
        &'a self,
        peer: &'a Peer,
        offered: &'a ProtocolVersion,
        exact: bool,
    ) -> impl Future<Output = Result<ServerPeerInfo>> + 'a {
        handshake::initialize(peer, &self.identity, offered, exact, self.recorder)
    }

    /// `initialize` was answered.
    async fn confirmed(
        &self,
        opened: Opened,
        peer: &Peer,
        info: ServerPeerInfo,
    ) -> Result<Established> {
        if let Err(error) = handshake::confirm(peer).await {
            return Err(explain(peer, error).await);
        }
        Ok(self.begun(opened, peer, info))
    }

    fn begun(&self, opened: Opened, peer: &Peer, info: ServerPeerInfo) -> Established {
        let version = &info.protocol_version;
        let way = if version.has_initialize() {
            "initialize"
        } else {
            peer.speak_modern(self.identity.request_meta(version));
            "server/discover"
        };
        let conclusion = format!("{}, MCP {version}, by {way}", peer.shared.kind);
        Established {
            opened,
            info,
            conclusion,
        }
    }

    async fn open(&self, kind: TransportKind) -> Result<(Opened, Peer)> {
        let Some(connector) = self.connectors.get(&kind) else {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "the transport {kind} is not compiled in: \
                     enable the cargo feature `{kind}` of mcpool-client, or register a connector"
                ),
            ));
        };
        let mut request = ConnectRequest::new(Arc::clone(&self.spec));
        if let Some(authenticator) = &self.authenticator {
            request = request.with_authenticator(Arc::clone(authenticator));
        }
        let attempt = self.recorder.begin(kind, "open");
        match connector.connect(request).await {
            Ok(transport) => {
                attempt.succeeded("opened");
                self.recorder.opened(transport.monitor());
                let peer = Peer::start(
                    self.spec.name.clone(),
                    self.spec.policy.shutdown.clone(),
                    transport,
                    Arc::clone(&self.handler),
                );
                Ok((Opened::new(peer.clone()), peer))
            }
            Err(error) => {
                attempt.failed(error.message().to_owned());
                Err(error)
            }
        }
    }
}

/// Waits a moment for the transport to explain its end: an exit status, the last of stderr.
async fn explain(peer: &Peer, error: Error) -> Error {
    match error.kind() {
        ErrorKind::ConnectionLost | ErrorKind::ProcessExited => {}
        _ => return error,
    }
    let finished = peer.shared.finished.cancelled();
    // However that ends, what is known by then is told.
    let _ = tokio::time::timeout(LAST_WORDS, finished).await;
    let monitor = &peer.shared.monitor;
    match monitor.failure() {
        Some(failure) => failure,
        None => match monitor.diagnostics().exit_status {
            Some(status) if error.kind() == ErrorKind::ConnectionLost => error.wrap(
                ErrorKind::ProcessExited,
                format!("the server's process ended ({status})"),
            ),
            _ => error,
        },
    }
}

fn unreachable_verdict() -> Error {
    Error::new(ErrorKind::Internal, "a retry was left unanswered")
}
