//! A transport in memory: one end is a [`Transport`], the other end is in the test's hand.
//!
//! ```
//! use mcpool_core::Transport;
//! use mcpool_testkit::scripted;
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (mut transport, mut remote) = scripted::pair();
//! let ping = serde_json::from_value(json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).unwrap();
//! transport.send(ping).await.unwrap();
//! assert_eq!(remote.sent().await.unwrap()["method"], "ping");
//! remote.answer(1, json!({}));
//! assert!(transport.receive().await.is_some());
//! drop(remote);
//! assert!(transport.receive().await.is_none());
//! # }
//! ```

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, LazyLock, Mutex, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use mcpool_core::{
    ConnectRequest, Connector, Delivery, Diagnostics, Error, ErrorKind, HttpSpec, IncomingMessage,
    OutgoingMessage, Result, ServerSpec, Transport, TransportKind, TransportMonitor, TransportSpec,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Behavior,
    contract::{Footprint, RunningFixture},
    fixtures::{Engine, Outbox, Outgoing, engine::lock},
};

/// Messages that may wait for [`Remote::sent`] before sends wait.
const SEND_BUFFER: usize = 1;

#[derive(Debug)]
struct Shared {
    kind: TransportKind,
    sent: AtomicU64,
    received: AtomicU64,
    failure: Mutex<Option<Error>>,
    closed: CancellationToken,
}

impl TransportMonitor for Shared {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn diagnostics(&self) -> Diagnostics {
        let mut known = Diagnostics::default();
        known.sent = self.sent.load(Ordering::Relaxed);
        known.received = self.received.load(Ordering::Relaxed);
        known
    }

    fn failure(&self) -> Option<Error> {
        lock(&self.failure).clone()
    }
}

/// The near end of [`pair`].
#[derive(Debug)]
pub struct ScriptedTransport {
    to_remote: mpsc::Sender<OutgoingMessage>,
    from_remote: mpsc::UnboundedReceiver<IncomingMessage>,
    shared: Arc<Shared>,
}

/// The far end of [`pair`], in the test's hand. Dropping it is the server's death.
#[derive(Debug)]
pub struct Remote {
    sent: mpsc::Receiver<OutgoingMessage>,
    to_client: mpsc::UnboundedSender<IncomingMessage>,
    shared: Arc<Shared>,
}

/// A transport and its far end.
#[must_use]
pub fn pair() -> (ScriptedTransport, Remote) {
    pair_of(TransportKind::Custom)
}

/// A transport that says it is of this kind, and its far end.
#[must_use]
pub fn pair_of(kind: TransportKind) -> (ScriptedTransport, Remote) {
    let shared = Arc::new(Shared {
        kind,
        sent: AtomicU64::new(0),
        received: AtomicU64::new(0),
        failure: Mutex::default(),
        closed: CancellationToken::new(),
    });
    let (to_remote, sent) = mpsc::channel(SEND_BUFFER);
    let (to_client, from_remote) = mpsc::unbounded_channel();
    let transport = ScriptedTransport {
        to_remote,
        from_remote,
        shared: Arc::clone(&shared),
    };
    let remote = Remote {
        sent,
        to_client,
        shared,
    };
    (transport, remote)
}

impl Transport for ScriptedTransport {
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'static, Result<()>> {
        let to_remote = self.to_remote.clone();
        let shared = Arc::clone(&self.shared);
        async move {
            let lost = || {
                Error::new(
                    ErrorKind::ConnectionLost,
                    "the scripted connection has ended",
                )
                .with_delivery(Delivery::NotSent)
            };
            tokio::select! {
                biased;
                () = shared.closed.cancelled() => Err(lost()),
                sent = to_remote.send(message) => match sent {
                    Ok(()) => {
                        shared.sent.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    }
                    Err(_) => Err(lost()),
                },
            }
        }
        .boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Option<IncomingMessage>> {
        async {
            let message = tokio::select! {
                biased;
                () = self.shared.closed.cancelled() => None,
                message = self.from_remote.recv() => message,
            };
            if message.is_some() {
                self.shared.received.fetch_add(1, Ordering::Relaxed);
            }
            message
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        self.shared.closed.cancel();
        std::future::ready(Ok(())).boxed()
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::clone(&self.shared) as Arc<dyn TransportMonitor>
    }
}

impl Drop for ScriptedTransport {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

impl Remote {
    /// The next message that was sent; `None` after the near end was closed or dropped.
    pub async fn sent(&mut self) -> Option<Value> {
        let message = tokio::select! {
            biased;
            message = self.sent.recv() => message?,
            () = self.shared.closed.cancelled() => self.sent.try_recv().ok()?,
        };
        serde_json::to_value(message).ok()
    }

    /// Says a message to the client.
    ///
    /// # Panics
    /// When it is no message that a server may send.
    pub fn say(&self, message: Value) {
        match serde_json::from_value(message.clone()) {
            Ok(message) => {
                let _ = self.to_client.send(message);
            }
            Err(error) => panic!("no message of a server: {error}: {message}"),
        }
    }

    /// Answers a request.
    ///
    /// # Panics
    /// As [`Remote::say`].
    pub fn answer(&self, id: impl Into<Value>, result: Value) {
        self.say(json!({"jsonrpc": "2.0", "id": id.into(), "result": result}));
    }

    /// Answers a request with an error.
    ///
    /// # Panics
    /// As [`Remote::say`].
    pub fn refuse(&self, id: impl Into<Value>, code: i64, message: &str) {
        let error = json!({"code": code, "message": message});
        self.say(json!({"jsonrpc": "2.0", "id": id.into(), "error": error}));
    }

    /// Ends the connection for this reason, once what was said has been received.
    pub fn fail(self, error: Error) {
        *lock(&self.shared.failure) = Some(error);
    }

    /// Whether the near end was closed or dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Lets a fixture server answer, until either end is gone.
    pub async fn serve(mut self, engine: Arc<Engine>) {
        let (outbox, mut outgoing) = Outbox::channel();
        let session = engine.open(outbox.clone());
        let mut handlers = tokio::task::JoinSet::new();
        handlers.spawn(Arc::clone(&session).chatter());
        let mut reads = true;
        loop {
            tokio::select! {
                biased;
                () = self.shared.closed.cancelled() => return,
                Some(outgoing) = outgoing.recv() => match outgoing {
                    // What a server may not say does not get through a typed channel.
                    Outgoing::Message(message) => if let Ok(message) = serde_json::from_value(message) {
                        let _ = self.to_client.send(message);
                    },
                    Outgoing::StopReading => reads = false,
                    Outgoing::Die(_) => {
                        let died = Error::new(ErrorKind::ConnectionLost, "the server died");
                        return self.fail(died);
                    }
                },
                Some(message) = self.sent.recv(), if reads => {
                    let message = serde_json::to_value(message).unwrap_or_default();
                    let mut handled = Arc::clone(&session).handle(message, outbox.clone()).boxed();
                    if futures::poll!(handled.as_mut()).is_pending() {
                        handlers.spawn(handled);
                    }
                }
                Some(_) = handlers.join_next() => {}
            }
        }
    }
}

/// How one connect of a [`ScriptedConnector`] goes.
#[non_exhaustive]
pub enum ConnectStep {
    /// It gives this transport.
    Open(Box<dyn Transport>),
    /// It fails so.
    Fail(Error),
    /// It gives this transport after so long.
    Slow(Duration, Box<dyn Transport>),
    /// It never ends.
    Never,
}

impl fmt::Debug for ConnectStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Fail(_) => "Fail",
            Self::Slow(..) => "Slow",
            Self::Never => "Never",
        })
    }
}

/// A connector with a script: one step for each connect, in order. Fails when it runs out.
#[derive(Debug)]
pub struct ScriptedConnector {
    kind: TransportKind,
    steps: Mutex<VecDeque<ConnectStep>>,
    connects: AtomicUsize,
}

impl ScriptedConnector {
    /// A connector that says it is of this kind.
    #[must_use]
    pub fn new(kind: TransportKind) -> Self {
        Self {
            kind,
            steps: Mutex::default(),
            connects: AtomicUsize::new(0),
        }
    }

    /// Adds a step.
    pub fn push(&self, step: ConnectStep) {
        lock(&self.steps).push_back(step);
    }

    /// Adds a step that opens a transport, and gives its far end.
    #[must_use]
    pub fn open(&self) -> Remote {
        let (transport, remote) = pair_of(self.kind);
        self.push(ConnectStep::Open(Box::new(transport)));
        remote
    }

    /// How many connects there were.
    #[must_use]
    pub fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Connector for ScriptedConnector {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    async fn connect(&self, _request: ConnectRequest) -> Result<Box<dyn Transport>> {
        self.connects.fetch_add(1, Ordering::SeqCst);
        let step = lock(&self.steps).pop_front();
        match step {
            Some(ConnectStep::Open(transport)) => Ok(transport),
            Some(ConnectStep::Fail(error)) => Err(error),
            Some(ConnectStep::Slow(pause, transport)) => {
                tokio::time::sleep(pause).await;
                Ok(transport)
            }
            Some(ConnectStep::Never) => std::future::pending().await,
            None => Err(Error::new(
                ErrorKind::Connect,
                "the script has no more connects",
            )),
        }
    }
}

/// Servers in memory, found by the URL of their spec.
static SERVERS: LazyLock<Mutex<HashMap<String, Weak<MemoryServer>>>> =
    LazyLock::new(Mutex::default);

/// A connector to fixture servers in this process, without sockets: see [`MemoryServer`].
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryConnector(());

/// A [`MemoryConnector`].
#[must_use]
pub fn memory_connector() -> Arc<dyn Connector> {
    Arc::new(MemoryConnector::from_specs())
}

impl MemoryConnector {
    /// A connector that finds servers by the URL in a spec.
    #[must_use]
    pub fn from_specs() -> Self {
        Self(())
    }

    /// Starts a server in memory.
    #[must_use]
    pub fn serve(behavior: Behavior) -> MemoryFixture {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let server = Arc::new(MemoryServer {
            url: format!("memory://{number}"),
            engine: Engine::new(behavior),
            killed: CancellationToken::new(),
            connections: AtomicUsize::new(0),
        });
        lock(&SERVERS).insert(server.url.clone(), Arc::downgrade(&server));
        MemoryFixture(server)
    }
}

#[async_trait]
impl Connector for MemoryConnector {
    fn kind(&self) -> TransportKind {
        TransportKind::Custom
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Box<dyn Transport>> {
        let server = match &request.spec.transport {
            TransportSpec::Http(spec) | TransportSpec::Auto(spec) => {
                lock(&SERVERS).get(&spec.url).and_then(Weak::upgrade)
            }
            _ => None,
        };
        let server = server
            .filter(|server| !server.killed.is_cancelled())
            .ok_or_else(|| Error::new(ErrorKind::Connect, "no such server in memory"))?;
        let (transport, remote) = pair();
        let shared = Arc::clone(&remote.shared);
        let counted = Connection::open(server);
        tokio::spawn(async move {
            let server = Arc::clone(&counted.0);
            tokio::select! {
                () = remote.serve(Arc::clone(&server.engine)) => {}
                () = server.killed.cancelled() => {
                    let killed = Error::new(ErrorKind::ConnectionLost, "the server was killed");
                    *lock(&shared.failure) = Some(killed);
                }
            }
            drop(counted);
        });
        Ok(Box::new(transport))
    }
}

/// A server in memory.
#[derive(Debug)]
pub struct MemoryServer {
    url: String,
    engine: Arc<Engine>,
    killed: CancellationToken,
    connections: AtomicUsize,
}

struct Connection(Arc<MemoryServer>);

impl Connection {
    fn open(server: Arc<MemoryServer>) -> Self {
        server.connections.fetch_add(1, Ordering::SeqCst);
        Self(server)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server in memory, for the contract suite. Dropping it ends it.
#[derive(Debug)]
pub struct MemoryFixture(Arc<MemoryServer>);

impl RunningFixture for MemoryFixture {
    fn request(&self) -> ConnectRequest {
        match ServerSpec::http("memory", HttpSpec::new(&self.0.url)) {
            Ok(spec) => ConnectRequest::new(Arc::new(spec)),
            Err(error) => unreachable!("the name `memory` is a good one: {error}"),
        }
    }

    fn kill(&self) {
        self.0.killed.cancel();
    }

    fn footprint(&self) -> Option<Footprint> {
        Some(Footprint::new(0, self.0.connections.load(Ordering::SeqCst)))
    }
}

impl Drop for MemoryFixture {
    fn drop(&mut self) {
        self.0.killed.cancel();
        lock(&SERVERS).remove(&self.0.url);
    }
}
