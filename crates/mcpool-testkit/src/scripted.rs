//! A transport in memory: one end is a [`Transport`](mcpool_core::Transport), the other end is in the test's hand.
//!
//! ```
//! use mcpool_core::{Transport, WireRequest};
//! use mcpool_testkit::scripted;
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (transport, mut remote) = scripted::pair();
//! let asking = transport.request(WireRequest::new("ping", None), None);
//! let answering = async {
//!     let ping = remote.sent().await.unwrap();
//!     assert_eq!(ping["method"], "ping");
//!     remote.answer(ping["id"].clone(), json!({}));
//! };
//! let (answer, ()) = tokio::join!(asking, answering);
//! assert_eq!(answer.unwrap().get(), "{}");
//! drop(remote);
//! assert!(transport.closed().await.is_some());
//! # }
//! ```

mod connector;
mod memory;

pub use connector::{ConnectStep, ScriptedConnector};
pub use memory::{MemoryConnector, MemoryFixture};

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt;
use mcpool_core::{
    ConnectRequest, Delivery, Error, ErrorKind, HttpSpec, Result, ServerName, TransportKind,
    TransportSpec,
};
use mcpool_duplex::{Duplex, Frames, Outgoing as OnItsWay, ReadHalf, WriteError, WriteHalf};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fixtures::{Engine, Outbox, Outgoing, engine::lock};

/// Messages that may wait for [`Remote::sent`] before writes wait.
const SENT_BUFFER: usize = 1;

#[derive(Debug)]
struct ScriptedPeer {
    failure: Mutex<Option<Error>>,
    /// Cancelled when the near end is closed or dropped.
    closed: CancellationToken,
}

/// The far end of [`pair`], in the test's hand. Dropping it is the server's death.
#[derive(Debug)]
pub struct Remote {
    sent: mpsc::Receiver<String>,
    to_client: mpsc::UnboundedSender<String>,
    shared: Arc<ScriptedPeer>,
}

/// A transport and its far end.
///
/// # Panics
/// Outside a tokio runtime.
#[must_use]
pub fn pair() -> (Duplex, Remote) {
    pair_of(TransportKind::Custom)
}

/// A transport that says it is of this kind, and its far end.
///
/// # Panics
/// Outside a tokio runtime.
#[must_use]
pub fn pair_of(kind: TransportKind) -> (Duplex, Remote) {
    match pair_for(&request("scripted", "memory:"), kind) {
        Ok(pair) => pair,
        Err(error) => panic!("{error}"),
    }
}

/// As [`pair_of`], with the name, the tap and the shutdown policy of a request.
///
/// # Errors
/// As [`Duplex::new`].
pub fn pair_for(request: &ConnectRequest, kind: TransportKind) -> Result<(Duplex, Remote)> {
    let shared = Arc::new(ScriptedPeer {
        failure: Mutex::default(),
        closed: CancellationToken::new(),
    });
    let (to_remote, sent) = mpsc::channel(SENT_BUFFER);
    let (to_client, from_remote) = mpsc::unbounded_channel();
    let read = MemoryReader {
        from_remote,
        shared: Arc::clone(&shared),
    };
    let write = MemoryWriter {
        to_remote,
        shared: Arc::clone(&shared),
    };
    let remote = Remote {
        sent,
        to_client,
        shared,
    };
    Ok((Duplex::new(request, kind, read, write)?, remote))
}

/// A request for a server of this name and URL.
fn request(name: &str, url: &str) -> ConnectRequest {
    match ServerName::new(name) {
        Ok(name) => ConnectRequest::new(name, TransportSpec::Http(HttpSpec::new(url))),
        Err(error) => panic!("{error}"),
    }
}

struct MemoryWriter {
    to_remote: mpsc::Sender<String>,
    shared: Arc<ScriptedPeer>,
}

impl MemoryWriter {
    fn lost() -> WriteError {
        WriteError::ended(
            Error::new(
                ErrorKind::ConnectionLost,
                "the scripted connection has ended",
            )
            .with_delivery(Delivery::NotSent),
        )
    }
}

#[async_trait]
impl WriteHalf for MemoryWriter {
    async fn write(&self, message: OnItsWay) -> std::result::Result<(), WriteError> {
        let permit = tokio::select! {
            biased;
            () = self.shared.closed.cancelled() => return Err(Self::lost()),
            permit = self.to_remote.reserve() => permit.map_err(|_| Self::lost())?,
        };
        // From here on nothing is waited for, so it cannot be dropped half-way.
        permit.send(message.depart());
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.shared.closed.cancel();
        Ok(())
    }

    fn abandon(&self) {
        self.shared.closed.cancel();
    }
}

struct MemoryReader {
    from_remote: mpsc::UnboundedReceiver<String>,
    shared: Arc<ScriptedPeer>,
}

#[async_trait]
impl ReadHalf for MemoryReader {
    async fn read(&mut self, frames: &mut Frames) -> Result<()> {
        let Some(first) = self.from_remote.recv().await else {
            let failure = lock(&self.shared.failure).clone();
            return Err(failure.unwrap_or_else(|| {
                Error::new(
                    ErrorKind::ConnectionLost,
                    "the scripted connection has ended",
                )
            }));
        };
        frames.read(first.as_bytes());
        while let Ok(next) = self.from_remote.try_recv() {
            frames.read(next.as_bytes());
        }
        Ok(())
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
        serde_json::from_str(&message).ok()
    }

    /// Says a message to the client.
    pub fn say(&self, message: Value) {
        self.say_text(message.to_string());
    }

    /// Says a text to the client, be it a message or not.
    pub fn say_text(&self, text: impl Into<String>) {
        let _ = self.to_client.send(text.into());
    }

    /// Answers a request.
    pub fn answer(&self, id: impl Into<Value>, result: Value) {
        self.say(json!({"jsonrpc": "2.0", "id": id.into(), "result": result}));
    }

    /// Answers a request with an error.
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
                    Outgoing::Message(message) => self.say(message),
                    Outgoing::Text(text) => self.say_text(text),
                    Outgoing::StopReading => reads = false,
                    // Its messages are whole or not there.
                    Outgoing::Die(_) | Outgoing::Torn(_) => {
                        let died = Error::new(ErrorKind::ConnectionLost, "the server died");
                        return self.fail(died);
                    }
                },
                Some(message) = self.sent.recv(), if reads => {
                    let message = serde_json::from_str(&message).unwrap_or_default();
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
