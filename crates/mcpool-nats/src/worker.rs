//! A worker: a manager whose servers are served to a pool.

mod questions;
mod relay;
mod serving;
mod session;
mod shares;
mod soon;
mod standing;

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fmt,
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use mcpool_core::{Requester as _, Result, ServerName};
use mcpool_manager::ConnectionManager;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    carrier::Carrier,
    clock::WorkerClock,
    head::{Head, Kind, VERSION},
    identity::{Epoch, Identity, Sharing},
    kv::{FleetReport, Storage},
    subjects,
};

use serving::Serving;
pub(crate) use serving::can_serve;
pub(crate) use shares::Shares;

/// How long requests in flight may take when a worker goes, by default.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the servers of a manager to a pool.
///
/// The manager supervises them as it does for any application. A relayed request is sent to the
/// live connection and nowhere else: the worker neither waits for a server in its course nor sends
/// anything twice. That is the gateway's, which has the caller's deadline.
#[must_use]
pub struct Worker {
    carrier: Carrier,
    manager: ConnectionManager,
    shares: Shares,
    tenures: HashMap<ServerName, watch::Receiver<Option<Epoch>>>,
    drain: Duration,
}

impl Worker {
    /// A worker over this connection with NATS: its pool and its identity are the worker's. A server
    /// whose spec says that clients do not share it is [`Sharing::Each`], every other one
    /// [`Sharing::Many`]; it follows the spec.
    pub fn new(carrier: Carrier, manager: ConnectionManager) -> Self {
        Self {
            carrier,
            manager,
            shares: Shares::default(),
            tenures: HashMap::new(),
            drain: DRAIN_TIMEOUT,
        }
    }

    /// Sets how a server is shared, whatever its spec says. [`Sharing::One`] needs a
    /// [tenure](Self::with_tenure) as well: without one the server is served as long as the worker runs.
    pub fn with_sharing(mut self, server: ServerName, sharing: Sharing) -> Self {
        self.shares.set(server, sharing);
        self
    }

    /// Serves a server only while `tenure` holds an epoch, and in that epoch. When it changes, the
    /// sessions of the server end; when its sender goes, so does the tenure.
    pub fn with_tenure(
        mut self,
        server: ServerName,
        tenure: watch::Receiver<Option<Epoch>>,
    ) -> Self {
        self.tenures.insert(server, tenure);
        self
    }

    /// Sets how long requests in flight may take when the worker goes. Default 10 s.
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// What shows this worker and its servers in the pool's registry: to be run beside
    /// [`run`](Self::run). `place` is shown to people: a host's name, a zone. `storage` is for a
    /// registry that is not there yet.
    pub fn report(&self, place: &str, storage: Storage) -> FleetReport {
        FleetReport {
            carrier: self.carrier.clone(),
            manager: self.manager.clone(),
            shares: self.shares.clone(),
            tenures: self.tenures.clone(),
            place: place.to_owned(),
            storage,
        }
    }

    /// Serves until `stop`, then takes nothing new, lets what runs end, and ends every session.
    /// Servers that the manager gets later are served as well; those that it loses no longer are.
    /// The manager is left as it is.
    ///
    /// Dropping the future ends the sessions without a word: their gateways see it at the next
    /// request, or at the next beat.
    ///
    /// # Errors
    /// `Connect` when NATS takes no subscription.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let clock = Arc::new(WorkerClock::new());
        let drain = CancellationToken::new();
        let mut asked = self
            .carrier
            .subscribe(subjects::pool(self.carrier.pool()))
            .await?;
        let mut events = self.manager.events();
        let mut serving = JoinSet::new();
        let mut served: BTreeMap<ServerName, tokio::task::Id> = BTreeMap::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            for name in self.manager.names() {
                if let Entry::Vacant(free) = served.entry(name) {
                    // One that was removed since: its event is on its way.
                    let Ok(task) = self.serving(free.key(), &clock, &drain) else {
                        continue;
                    };
                    let task = serving.spawn(task.run());
                    free.insert(task.id());
                }
            }
            tokio::select! {
                () = &mut stop => break,
                Some(message) = asked.next() => self.discovered(&message).await,
                event = events.recv() => if event.is_none() { break },
                Some(ended) = serving.join_next_with_id() => {
                    let id = match &ended {
                        Ok((id, _)) => *id,
                        Err(error) => error.id(),
                    };
                    if let Ok((_, Err(error))) = ended {
                        tracing::warn!(%error, "a server is not served any more");
                    }
                    // One that the manager still has is served again.
                    served.retain(|_, task| *task != id);
                }
            }
        }
        drop(asked);
        drain.cancel();
        while serving.join_next().await.is_some() {}
        if let Err(error) = self.carrier.flush().await {
            // While NATS is away nobody hears that the worker goes.
            tracing::debug!(%error, "the last words of a worker did not get to NATS");
        }
        Ok(())
    }

    fn serving(
        &self,
        name: &ServerName,
        clock: &Arc<WorkerClock>,
        drain: &CancellationToken,
    ) -> Result<Serving> {
        let handle = self.manager.server(name.as_str())?;
        let tenure = match self.tenures.get(name) {
            Some(tenure) => tenure.clone(),
            None => always(),
        };
        Ok(Serving {
            carrier: self.carrier.clone(),
            name: handle.server().clone(),
            handle,
            shares: self.shares.clone(),
            tenure,
            clock: Arc::clone(clock),
            drain: drain.clone(),
            patience: self.drain,
        })
    }

    /// Answers `discover`.
    async fn discovered(&self, message: &async_nats::Message) {
        let Some(head) = Head::read(message.headers.as_ref()) else {
            return;
        };
        let Some(reply) = &message.reply else { return };
        if head.kind != Kind::Discover || !VERSION.understands(head.version) {
            return;
        }
        let mut servers = BTreeMap::new();
        for name in self.manager.names() {
            let Ok(server) = self.manager.server(name.as_str()) else {
                continue;
            };
            let Ok(status) = server.status() else {
                continue;
            };
            let served = ServedServer {
                state: status.state.as_str().to_owned(),
                sharing: self.shares.of(&server),
            };
            servers.insert(name, served);
        }
        let body = Inventory {
            worker: self.carrier.identity().clone(),
            servers,
        };
        let Ok(body) = serde_json::to_vec(&body) else {
            return;
        };
        let headers = Head::new(Kind::Workers).headers();
        let sent = self
            .carrier
            .publish(reply.to_string(), None, headers, body.into());
        if let Err(error) = sent.await {
            tracing::debug!(%error, "an answer to `discover` could not be sent");
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("carrier", &self.carrier)
            .finish_non_exhaustive()
    }
}

/// The tenure of a server without a lease: it never ends.
fn always() -> watch::Receiver<Option<Epoch>> {
    let (sender, tenure) = watch::channel(Some(Epoch::NONE));
    tokio::spawn(async move { sender.closed().await });
    tenure
}

/// What one worker has: the body of `workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inventory {
    /// The worker.
    pub worker: Identity,
    /// Its servers.
    pub servers: BTreeMap<ServerName, ServedServer>,
}

impl Inventory {
    /// Leaves out all servers but the first so many, by their names.
    pub(crate) fn keep(&mut self, most: usize) {
        if let Some(name) = self.servers.keys().nth(most).cloned() {
            tracing::debug!(worker = %self.worker, most, "it has too many servers; the rest is left out");
            self.servers.split_off(&name);
        }
    }
}

/// One server of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServedServer {
    /// Its state at the worker, by the word of `StateKind`.
    pub state: String,
    /// How it is shared.
    #[serde(default)]
    pub sharing: Sharing,
}
