//! Finds out how to speak to a server: which transport, which era.
//!
//! | transport | era | what is done |
//! |---|---|---|
//! | stdio, or one of the application's own | auto | `server/discover`; on silence `initialize` as well, first valid answer wins; a new process where the probe may have broken the old one |
//! | Streamable HTTP | auto | `server/discover`; refused in any way but by a clear 401, or with an error of the modern era, `initialize` |
//! | HTTP+SSE | auto | `initialize`: it is older than `server/discover` |
//! | URL of unknown transport | any | Streamable HTTP; on 400, 404, 405, or an answer that is no message, HTTP+SSE |
//! | any | pinned | no probe, no fallback |
//!
//! Of several failures the one that was nearest to success is shown.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, ProtocolChoice, ProtocolVersion, Result,
    ServerSpec, TransportKind, TransportSpec,
};
use tokio::runtime::Handle;

use crate::{
    answerer::Answerer,
    era::{self, Agreement, Verdict},
    evidence::Recorder,
    handshake::{self, Identity},
    incoming::{self, Leave},
    link::Link,
    memory::{EraMemory, Known},
};

/// How long an HTTP server may be silent on `server/discover` before `initialize` is tried on a
/// connection of its own; never more than half of what the whole connect may take.
const HTTP_DISCOVER: Duration = Duration::from_secs(10);

/// One connect.
pub(crate) struct Negotiation<'a> {
    /// Resolved: no `${…}` is left in it.
    pub(crate) spec: &'a ServerSpec,
    pub(crate) connectors: &'a HashMap<TransportKind, Arc<dyn Connector>>,
    /// What each transport is opened with.
    pub(crate) request: ConnectRequest,
    pub(crate) answerer: Answerer,
    pub(crate) identity: Identity,
    pub(crate) memory: &'a EraMemory,
    pub(crate) recorder: &'a Recorder,
    /// How long the whole connect may take.
    pub(crate) bound: Duration,
    pub(crate) runtime: Handle,
}

/// A session that has begun.
pub(crate) struct Established {
    pub(crate) opened: Opened,
    pub(crate) agreed: Agreement,
    pub(crate) conclusion: String,
}

/// An open transport. Dropping it drops the transport, without an orderly close.
pub(crate) struct Opened {
    pub(crate) link: Arc<Link>,
    pub(crate) leave: Leave,
}

/// Why a session could not be begun in one way.
struct Failed {
    /// The failure that was nearest to success.
    error: Error,
    /// Whether some answer leaves HTTP+SSE possible.
    sse: bool,
}

type Attempt = Result<Established, Failed>;

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            sse: era::suggests_sse(&error),
            error,
        }
    }
}

impl Failed {
    /// Another way was tried before, and was refused.
    fn after(self, earlier: Option<Error>) -> Self {
        match earlier {
            None => self,
            Some(earlier) => Self {
                sse: self.sse || era::suggests_sse(&earlier),
                error: era::nearer(earlier, self.error),
            },
        }
    }
}

impl Negotiation<'_> {
    pub(crate) async fn run(&self) -> Result<Established> {
        match &self.spec.transport {
            TransportSpec::Stdio(_) => self.over(TransportKind::Stdio).await,
            TransportSpec::Http(_) => self.over(TransportKind::Http).await,
            TransportSpec::Sse(_) => self.over(TransportKind::Sse).await,
            TransportSpec::Custom(connector) => self.over(connector.kind()).await,
            TransportSpec::Auto(_) => self.over_some_http().await,
            other => Err(Failed::from(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "no connector opens a transport of the kind {}",
                    other.as_str()
                ),
            ))),
        }
        .map_err(|failed| failed.error)
    }

    /// A URL whose transport is not known.
    async fn over_some_http(&self) -> Attempt {
        let sse_possible = self.connectors.contains_key(&TransportKind::Sse)
            && !matches!(self.modern_only(), Some(true));
        let known = self.memory.recall(self.spec);
        if sse_possible && known.is_some_and(|known| known.transport == TransportKind::Sse) {
            match self.over(TransportKind::Sse).await {
                Err(failed) if era::contradicts_legacy(&failed.error) => {
                    self.memory.forget(self.spec);
                }
                outcome => return outcome,
            }
        }
        if !self.connectors.contains_key(&TransportKind::Http) && sse_possible {
            return self.over(TransportKind::Sse).await;
        }
        match self.over(TransportKind::Http).await {
            Err(failed) if sse_possible && failed.sse => {
                let sse = self.over(TransportKind::Sse).await;
                sse.map_err(|second| second.after(Some(failed.error)))
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
    async fn over(&self, kind: TransportKind) -> Attempt {
        let newest = ProtocolVersion::LATEST_WITH_INITIALIZE;
        match (&self.spec.protocol, self.modern_only()) {
            (_, Some(true)) if kind == TransportKind::Sse => Err(Error::new(
                ErrorKind::InvalidSpec,
                "HTTP+SSE is older than the protocol that the spec asks for; \
                 use Streamable HTTP, or leave the protocol open",
            )
            .into()),
            (ProtocolChoice::Pinned(version), Some(false)) => {
                self.legacy(kind, version, true).await
            }
            (ProtocolChoice::Pinned(version), _) => {
                self.modern(kind, std::slice::from_ref(version)).await
            }
            (_, Some(true)) => self.modern(kind, &era::modern_versions()).await,
            (_, Some(false)) => self.legacy(kind, &newest, false).await,
            (_, None) => {
                let known = self.memory.recall(self.spec);
                if known.is_some_and(|known| known.transport == kind && !known.modern) {
                    match self.legacy(kind, &newest, false).await {
                        Err(failed) if era::contradicts_legacy(&failed.error) => {
                            self.memory.forget(self.spec);
                        }
                        outcome => return outcome,
                    }
                }
                let established = match kind {
                    TransportKind::Sse => self.legacy(kind, &newest, false).await,
                    TransportKind::Http => self.probe_http(&newest).await,
                    _ => self.probe_pipe(kind, &newest).await,
                }?;
                let known = Known {
                    transport: kind,
                    modern: !established.agreed.version.has_initialize(),
                };
                self.memory.remember(self.spec, known);
                Ok(established)
            }
        }
    }

    /// `server/discover` alone.
    async fn modern(&self, kind: TransportKind, ours: &[ProtocolVersion]) -> Attempt {
        let opened = self.open(kind).await?;
        let verdict = handshake::discover(&opened.link, &self.identity, ours, self.recorder).await;
        match verdict {
            Verdict::Modern(agreed) => Ok(self.begun(opened, agreed)?),
            Verdict::Legacy {
                refusal: Some(error),
                ..
            }
            | Verdict::Lost(error)
            | Verdict::Fatal(error) => Err(error.into()),
            Verdict::Legacy { why, .. } => Err(era::version_mismatch(format!(
                "the server does not speak the protocol version that the spec asks for: {why}"
            ))
            .into()),
            Verdict::Retry(_) => Err(unanswered_retry().into()),
        }
    }

    /// `initialize` alone, on a transport of its own.
    async fn legacy(&self, kind: TransportKind, offered: &ProtocolVersion, exact: bool) -> Attempt {
        let opened = self.open(kind).await?;
        let agreed = self.initialize(&opened.link, offered, exact).await?;
        Ok(self.confirmed(opened, agreed).await?)
    }

    /// Both eras over a pipe.
    async fn probe_pipe(&self, kind: TransportKind, newest: &ProtocolVersion) -> Attempt {
        let opened = self.open(kind).await?;
        match self.ask_both(&opened.link, newest).await {
            Answered::Modern(agreed) => Ok(self.begun(opened, agreed)?),
            Answered::Initialized(agreed) => Ok(self.confirmed(opened, agreed).await?),
            Answered::Legacy(refusal) => {
                self.initialize_after_probe(kind, opened, newest, refusal)
                    .await
            }
            Answered::Broken => {
                // It exits on a probe, or is confused by one: the first message of the next one
                // is `initialize`.
                drop(opened);
                self.legacy(kind, newest, false).await
            }
            Answered::Failed(error) => Err(error.into()),
        }
    }

    /// Asks `server/discover`, and after a silence `initialize` as well.
    async fn ask_both(&self, link: &Link, newest: &ProtocolVersion) -> Answered {
        let patience = self.spec.policy.timeouts.discover;
        let ours = era::modern_versions();
        let mut discover = pin!(handshake::discover(
            link,
            &self.identity,
            &ours,
            self.recorder
        ));
        match tokio::time::timeout(patience, &mut discover).await {
            Ok(Verdict::Modern(agreed)) => return Answered::Modern(agreed),
            Ok(Verdict::Legacy { refusal, .. }) => return Answered::Legacy(refusal),
            Ok(Verdict::Lost(_)) => return Answered::Broken,
            Ok(Verdict::Fatal(error)) => return Answered::Failed(error),
            Ok(Verdict::Retry(_)) => return Answered::Failed(unanswered_retry()),
            Err(_) => {}
        }
        // Silence: an old server that ignores the question, or one that is still starting. Ask
        // the other question as well; the first valid answer decides.
        let mut initialize = pin!(self.initialize(link, newest, false));
        let mut discover_open = true;
        let refused = loop {
            tokio::select! {
                biased;
                verdict = &mut discover, if discover_open => match verdict {
                    Verdict::Modern(agreed) => return Answered::Modern(agreed),
                    _ => discover_open = false,
                },
                outcome = &mut initialize => match outcome {
                    Ok(agreed) => return Answered::Initialized(agreed),
                    Err(error) => break error,
                },
            }
        };
        if refused.kind() == ErrorKind::VersionMismatch {
            return Answered::Failed(refused);
        }
        // `initialize` was refused. The late answer to the probe may still come.
        if discover_open
            && let Ok(Verdict::Modern(agreed)) = tokio::time::timeout(patience, discover).await
        {
            return Answered::Modern(agreed);
        }
        Answered::Broken
    }

    /// Both eras over Streamable HTTP.
    async fn probe_http(&self, newest: &ProtocolVersion) -> Attempt {
        let kind = TransportKind::Http;
        let patience = HTTP_DISCOVER.min(self.bound / 2);
        let opened = self.open(kind).await?;
        let ours = era::modern_versions();
        let discover = handshake::discover(&opened.link, &self.identity, &ours, self.recorder);
        let lost = match tokio::time::timeout(patience, discover).await {
            Ok(Verdict::Modern(agreed)) => return Ok(self.begun(opened, agreed)?),
            Ok(Verdict::Legacy { refusal, .. }) => {
                return self
                    .initialize_after_probe(kind, opened, newest, refusal)
                    .await;
            }
            Ok(Verdict::Fatal(error)) => return Err(error.into()),
            Ok(Verdict::Retry(_)) => return Err(unanswered_retry().into()),
            Ok(Verdict::Lost(error)) => Some(error),
            Err(_) => None,
        };
        // Silence says nothing about the era, so asking the other way may help.
        drop(opened);
        let legacy = self.legacy(kind, newest, false).await;
        legacy.map_err(|failed| failed.after(lost))
    }

    /// `initialize` on the transport of a probe that was refused; on a new one where the refused
    /// probe may be why that fails ("already initialized").
    async fn initialize_after_probe(
        &self,
        kind: TransportKind,
        opened: Opened,
        newest: &ProtocolVersion,
        refusal: Option<Error>,
    ) -> Attempt {
        if !opened.link.transport.is_closed() {
            match self.initialize(&opened.link, newest, false).await {
                Ok(agreed) => return Ok(self.confirmed(opened, agreed).await?),
                Err(error) => match error.kind() {
                    ErrorKind::Rpc | ErrorKind::ConnectionLost | ErrorKind::ProcessExited => {}
                    // Over HTTP a new connection begins as this one did.
                    ErrorKind::Protocol if kind != TransportKind::Http => {}
                    _ => return Err(Failed::from(error).after(refusal)),
                },
            }
        }
        drop(opened);
        let legacy = self.legacy(kind, newest, false).await;
        legacy.map_err(|failed| failed.after(refusal))
    }

    async fn initialize(
        &self,
        link: &Link,
        offered: &ProtocolVersion,
        exact: bool,
    ) -> Result<Agreement> {
        handshake::initialize(link, &self.identity, offered, exact, self.recorder).await
    }

    /// `initialize` was answered.
    async fn confirmed(&self, opened: Opened, agreed: Agreement) -> Result<Established> {
        handshake::confirm(&opened.link).await?;
        self.begun(opened, agreed)
    }

    fn begun(&self, opened: Opened, agreed: Agreement) -> Result<Established> {
        let version = &agreed.version;
        let (way, meta) = if version.has_initialize() {
            ("initialize", None)
        } else {
            ("server/discover", Some(self.identity.meta(version)?))
        };
        opened.link.agree(version.clone(), meta);
        let conclusion = format!("{}, MCP {version}, by {way}", opened.link.kind());
        Ok(Established {
            opened,
            agreed,
            conclusion,
        })
    }

    async fn open(&self, kind: TransportKind) -> Result<Opened> {
        let connector = match &self.spec.transport {
            TransportSpec::Custom(connector) => Some(connector),
            _ => self.connectors.get(&kind),
        };
        let Some(connector) = connector else {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "the transport {kind} is not compiled in: \
                     enable the cargo feature `{kind}` of mcpool-client, or register a connector"
                ),
            ));
        };
        let attempt = self.recorder.begin(kind, "open");
        match connector.connect(self.request.clone()).await {
            Ok(transport) => {
                attempt.succeeded("opened");
                self.recorder.opened(transport.monitor());
                let link = Arc::new(Link::new(self.spec, self.runtime.clone(), transport));
                let leave = incoming::spawn(&link, self.answerer.clone());
                Ok(Opened { link, leave })
            }
            Err(error) => {
                attempt.failed(error.message().to_owned());
                Err(error)
            }
        }
    }
}

/// What two questions over a pipe led to.
enum Answered {
    /// `server/discover` was answered.
    Modern(Agreement),
    /// `initialize` was answered.
    Initialized(Agreement),
    /// `server/discover` was refused.
    Legacy(Option<Error>),
    /// This process will not do.
    Broken,
    /// Asking otherwise would not help.
    Failed(Error),
}

fn unanswered_retry() -> Error {
    Error::new(ErrorKind::Internal, "a retry was left unanswered")
}
