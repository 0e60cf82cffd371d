//! Opens transports to servers that workers of a pool run.

use std::{fmt, sync::Arc};

use async_nats::{Message, StatusCode, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use mcpool_core::{
    ConnectRequest, Connector, Delivery, Error, ErrorKind, Raw, RawObject, Result, ServerName,
    ServerSpec, Transport, TransportKind,
};
use mcpool_duplex::Duplex;
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::OnceCell};

use crate::{
    carrier::{Carrier, NatsOptions},
    clock::Stamps,
    halves::{Reader, Shared, Writer},
    head::{Head, Kind, VERSION},
    identity::{Epoch, Identity, Sharing, random_token},
    incoming::Incoming,
    outgoing::{Outgoing, To},
    reasons::Notice,
    spread::{Place, Spread},
    subjects,
};

/// Opens transports to the servers that the workers of one pool have, by the server's name. Each
/// transport is a session of its own with one worker.
///
/// A request that NATS gave to nobody is `NotSent`, one that its worker refused is `Rejected`,
/// anything else without an answer is `Unknown`: `docs/fleet-wire.md` has the table. Dropping a
/// transport, or closing it, ends its session at the worker.
pub struct NatsConnector {
    source: Source,
    /// The server's name in the pool, where it is another than the application's.
    server: Option<ServerName>,
    /// Where the sessions are, when there are to be several.
    spread: Option<Arc<Spread>>,
}

enum Source {
    Carrier(Carrier),
    /// Connected by the first that needs it.
    Options(Box<NatsOptions>, OnceCell<Carrier>),
}

impl NatsConnector {
    /// Over this connection with NATS.
    #[must_use]
    pub fn new(carrier: Carrier) -> Self {
        Self {
            source: Source::Carrier(carrier),
            server: None,
            spread: None,
        }
    }

    /// Over a connection with NATS of its own, which is made by the first connect.
    #[must_use]
    pub fn lazy(options: NatsOptions) -> Self {
        Self {
            source: Source::Options(Box::new(options), OnceCell::new()),
            server: None,
            spread: None,
        }
    }

    /// Opens transports to the server of this name in the pool, whatever the application calls it.
    #[must_use]
    pub fn with_server(mut self, server: ServerName) -> Self {
        self.server = Some(server);
        self
    }

    /// Opens each session with the worker that has the fewest.
    pub(crate) fn with_spread(mut self, spread: Arc<Spread>) -> Self {
        self.spread = Some(spread);
        self
    }

    /// A spec of the server of this name in the pool.
    ///
    /// # Errors
    /// None in practice: a name is valid in a spec.
    pub fn spec(carrier: &Carrier, server: &ServerName) -> Result<ServerSpec> {
        ServerSpec::custom(server.as_str(), Arc::new(Self::new(carrier.clone())))
    }

    async fn carrier(&self) -> Result<&Carrier> {
        match &self.source {
            Source::Carrier(carrier) => Ok(carrier),
            Source::Options(options, cell) => {
                cell.get_or_try_init(|| Carrier::connect(options)).await
            }
        }
    }
}

/// The body of `open`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    identity: Identity,
    /// What the gateway can be asked, for a server of which the session gets its own. Gateways of
    /// version 1.0 do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capabilities: Option<Raw>,
}

impl Open {
    /// What the gateway declares that it can be asked, if it says so.
    pub(crate) fn declared(body: &[u8]) -> Option<Raw> {
        let open: Self = serde_json::from_slice(body).ok()?;
        // A server would be given it as it is.
        open.capabilities
            .filter(|said| RawObject::parse(said).is_ok())
    }
}

/// The body of `opened`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) worker: Identity,
    pub(crate) instance: Identity,
    #[serde(default)]
    pub(crate) epoch: Epoch,
    #[serde(default)]
    pub(crate) sharing: Sharing,
}

#[async_trait]
impl Connector for NatsConnector {
    fn kind(&self) -> TransportKind {
        TransportKind::Custom
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        let name = &request.server;
        let unsent = |error: Error| error.with_server(name).with_delivery(Delivery::NotSent);
        let carrier = self.carrier().await.map_err(unsent)?;
        carrier.connected().await;
        let server = self.server.as_ref().unwrap_or(name);
        let open = Open {
            identity: carrier.identity().clone(),
            capabilities: Some(request.capabilities.clone()),
        };
        let (session, place) = self.begin(carrier, name, server, &open).await?;
        let Begun {
            session,
            inbox,
            subscriber,
            opened,
            head,
        } = session;
        tracing::debug!(
            server = %name,
            worker = %opened.worker,
            epoch = opened.epoch.get(),
            "session with a worker"
        );
        let stamps = Arc::new(Stamps::default());
        stamps.heard(head.stamp);
        let to = To::Worker {
            subject: subjects::instance(carrier.pool(), server, &opened.instance),
            inbox,
            stamps: Arc::clone(&stamps),
        };
        let out = Arc::new(Outgoing::new(carrier.clone(), session, opened.epoch, to));
        let limit = request.limits.max_message_bytes;
        let mut incoming = Incoming::new(Arc::clone(&out), limit);
        incoming.count(&head).map_err(|broken| {
            Error::new(ErrorKind::Protocol, broken.to_string()).with_server(name)
        })?;
        let runtime = Handle::try_current().map_err(|error| {
            Error::new(ErrorKind::Internal, "no tokio runtime runs").with_source(error.to_string())
        })?;
        let shared = Shared::new(name.clone(), out, runtime, place);
        let reader = Reader::new(Arc::clone(&shared), subscriber, stamps, incoming, limit);
        let transport = Duplex::new(&request, self.kind(), reader, Writer(shared))?;
        Ok(Arc::new(transport))
    }
}

/// A session that a worker has opened.
struct Begun {
    session: String,
    inbox: String,
    subscriber: Subscriber,
    opened: Opened,
    head: Head,
}

impl NatsConnector {
    /// Opens a session: with the worker that has the fewest of this connector, where that counts, or
    /// with any.
    async fn begin(
        &self,
        carrier: &Carrier,
        name: &ServerName,
        server: &ServerName,
        said: &Open,
    ) -> Result<(Begun, Option<Place>)> {
        let any = subjects::server(carrier.pool(), server);
        let Some(spread) = &self.spread else {
            return Ok((open(carrier, name, any, said).await?, None));
        };
        if let Some(place) = spread.choose() {
            let chosen = subjects::instance(carrier.pool(), server, place.worker());
            match open(carrier, name, chosen, said).await {
                Ok(begun) => return Ok((begun, Some(place))),
                // It is not there any more, or not ready: another may be.
                Err(error) => {
                    if carrier.is_connected() {
                        spread.refused(place.worker());
                    }
                    tracing::debug!(server = %name, %error, "not at the chosen worker");
                }
            }
        }
        let begun = open(carrier, name, any, said).await?;
        let place = spread.begun(begun.opened.worker.clone());
        Ok((begun, Some(place)))
    }
}

/// Asks for a session at a subject: any of its listeners may answer.
async fn open(carrier: &Carrier, name: &ServerName, subject: String, said: &Open) -> Result<Begun> {
    let unsent = |error: Error| error.with_server(name).with_delivery(Delivery::NotSent);
    let session = random_token();
    let prefix = subjects::inbox_prefix(carrier.pool(), carrier.identity());
    let inbox = format!("{prefix}.{session}");
    let mut subscriber = carrier
        .subscribe(format!("{inbox}.*"))
        .await
        .map_err(unsent)?;
    let mut head = Head::new(Kind::Open);
    head.session.clone_from(&session);
    let body = serde_json::to_vec(said).unwrap_or_default();
    carrier
        .publish(
            subject,
            Some(format!("{inbox}.0")),
            head.headers(),
            body.into(),
        )
        .await
        .map_err(unsent)?;
    loop {
        // With the connection the question is lost, or its answer: it is better asked again.
        let message = tokio::select! {
            message = subscriber.next() => message,
            () = carrier.disconnected() => None,
        };
        let Some(message) = message else {
            return Err(unsent(Error::new(
                ErrorKind::Connect,
                "the connection with NATS was lost",
            )));
        };
        if let Some((opened, head)) = read_opened(name, &message)? {
            return Ok(Begun {
                session,
                inbox,
                subscriber,
                opened,
                head,
            });
        }
    }
}

/// Reads the answer to `open`; `None` when it is none.
fn read_opened(name: &ServerName, message: &Message) -> Result<Option<(Opened, Head)>> {
    let failed = |kind, text: String| {
        let error = Error::new(kind, text);
        error.with_server(name).with_delivery(Delivery::NotSent)
    };
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(failed(
            ErrorKind::Connect,
            "no worker of the pool has this server now".to_owned(),
        ));
    }
    let Some(head) = Head::read(message.headers.as_ref()) else {
        return Ok(None);
    };
    if !VERSION.understands(head.version) {
        return Err(failed(
            ErrorKind::VersionMismatch,
            format!(
                "the worker speaks version {} of the wire, not {VERSION}",
                head.version
            ),
        ));
    }
    match head.kind {
        Kind::Opened => match serde_json::from_slice(&message.payload) {
            Ok(opened) => Ok(Some((opened, head))),
            Err(_) => Err(failed(
                ErrorKind::Protocol,
                "the worker's answer to `open` cannot be read".to_owned(),
            )),
        },
        Kind::Refused => {
            let notice = Notice::read(&message.payload);
            let error = notice.error(name, Delivery::Rejected);
            // Whatever its reason, it is a failed connect.
            let text = error.message().to_owned();
            Err(failed(ErrorKind::Connect, text))
        }
        _ => Ok(None),
    }
}

/// Asks whether some worker has this server, alive and connected.
///
/// Dropping the future gives it up.
///
/// # Errors
/// `Connect`: no worker has it, or it is not connected there; `Timeout`.
pub async fn probe(
    carrier: &Carrier,
    server: &ServerName,
    within: std::time::Duration,
) -> Result<()> {
    let subject = subjects::server(carrier.pool(), server);
    let request = async_nats::Request::new()
        .headers(Head::new(Kind::Probe).headers())
        .payload(Bytes::new())
        .timeout(Some(within));
    let failed = |kind, text: String| Err(Error::new(kind, text).with_server(server));
    match carrier.client().send_request(subject, request).await {
        Ok(answer) => match Head::read(answer.headers.as_ref()) {
            Some(head) if head.kind == Kind::Alive => Ok(()),
            _ => {
                let notice = Notice::read(&answer.payload);
                failed(
                    ErrorKind::Connect,
                    format!("the worker says: {}", notice.message),
                )
            }
        },
        Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => failed(
            ErrorKind::Connect,
            "no worker of the pool has this server now".to_owned(),
        ),
        Err(error) => failed(ErrorKind::Timeout, error.to_string()),
    }
}

impl fmt::Debug for NatsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConnector")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}
