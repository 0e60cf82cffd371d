//! Leases at work: takes them, renews them, starts and ends what they are for.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use mcpool_core::{Error, ErrorKind, Result, ServerName};
use mcpool_manager::ServerHandle;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    carrier::Carrier,
    clock::WorkerClock,
    identity::{Epoch, random_token},
    subjects::token,
};

use super::{
    bucket::{Bucket, Held, Storage, Written},
    lease::{Lease, Next, Terms},
};

/// The longest sleep: the machine's clock is read again, which has counted its sleep.
const LOOK: Duration = Duration::from_millis(500);

/// The pause before a watch that ended is made again.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// How long what was killed may take to be gone.
const KILL_ROOM: Duration = Duration::from_secs(1);

/// What a lease is for: it runs while the lease is owned, and at no other time.
#[async_trait]
pub trait Tenant: Send + Sync {
    /// The lease is owned now: start. Not waited for longer than the lease allows.
    async fn start(&self, epoch: Epoch) -> Result<()>;

    /// End, and give back when nothing runs any more.
    async fn end(&self);

    /// How long that takes at most. It must fit into the margin of the lease.
    fn end_within(&self) -> Duration;

    /// A write that takes or renews the lease is sent after this. By default nothing happens.
    ///
    /// With [`renewed`](Self::renewed) it is for what ends the tenant in place of a process that
    /// is stopped (SIGSTOP): a deadline in another process, on a clock that both have.
    fn renewing(&self) {}

    /// That write is there: the tenant may live for so long from the moment of
    /// [`renewing`](Self::renewing), and must be dead then. By default nothing happens.
    ///
    /// Both are called in the task of the lease: they must not block.
    fn renewed(&self, life: Duration) {
        let _ = life;
    }
}

/// A server of a manager runs while its lease is owned. Add it to the manager switched off.
#[async_trait]
impl Tenant for ServerHandle {
    async fn start(&self, _: Epoch) -> Result<()> {
        self.enable().await
    }

    async fn end(&self) {
        // What is left to fail: the server was removed, or the manager was shut down.
        if let Err(error) = self.disable().await {
            tracing::debug!(%error, "a server whose lease ends is not there any more");
        }
    }

    /// `shutdown.total` of its policy, and what the kernel needs for what was killed.
    fn end_within(&self) -> Duration {
        let total = self.spec().map(|spec| spec.policy.shutdown.total);
        total.unwrap_or_default().saturating_add(KILL_ROOM)
    }
}

/// The leases of one process in its pool.
#[derive(Debug, Clone)]
pub struct Leases(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    carrier: Carrier,
    bucket: Bucket,
    clock: WorkerClock,
    incarnation: String,
    /// Who waits for news of a key.
    readers: Mutex<HashMap<String, watch::Sender<Option<Held>>>>,
    _watching: DropGuard,
}

impl Shared {
    fn now(&self) -> Duration {
        Duration::from_millis(self.clock.now())
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Option<Held>>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leases {
    /// Opens the pool's bucket of leases.
    ///
    /// # Errors
    /// `Connect` when JetStream is not there, or does not let this identity use the bucket.
    pub async fn open(carrier: &Carrier, storage: Storage) -> Result<Self> {
        let bucket = Bucket::open(carrier, "leases", storage, Duration::ZERO).await?;
        let ended = CancellationToken::new();
        let shared = Arc::new(Shared {
            carrier: carrier.clone(),
            bucket: bucket.clone(),
            clock: WorkerClock::new(),
            incarnation: random_token(),
            readers: Mutex::default(),
            _watching: ended.clone().drop_guard(),
        });
        let readers = Arc::downgrade(&shared);
        let watching = async move {
            loop {
                if let Ok(mut watch) = bucket.watch_many(&[">"]).await {
                    while let Some(Ok(entry)) = watch.next().await {
                        let Some(shared) = readers.upgrade() else {
                            return;
                        };
                        let is_put = entry.operation == async_nats::jetstream::kv::Operation::Put;
                        let held = Held {
                            revision: entry.revision,
                            value: is_put.then_some(entry.value),
                        };
                        if let Some(reader) = shared.readers().get(&entry.key) {
                            reader.send_replace(Some(held));
                        }
                    }
                }
                tokio::time::sleep(WATCH_PAUSE).await;
            }
        };
        tokio::spawn(async move { ended.run_until_cancelled(watching).await });
        Ok(Self(shared))
    }

    /// Takes part in the lease of a server: waits for it, and whenever it is owned, starts the
    /// tenant. One call for each server in a process.
    ///
    /// # Errors
    /// `InvalidArgument` for a tenant that may take longer to end than the margin of the terms:
    /// for a server of a manager `shutdown.total` is to be set, by default to at most 2 s.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn hold(
        &self,
        server: &ServerName,
        terms: Terms,
        tenant: Arc<dyn Tenant>,
    ) -> Result<Tenure> {
        if tenant.end_within() > terms.margin() {
            let message = "a server with a lease must end within the margin of the lease";
            return Err(Error::new(ErrorKind::InvalidArgument, message).with_server(server));
        }
        let (epoch, receiver) = watch::channel(None);
        let (news, seen) = watch::channel(None);
        let key = token(server);
        self.0.readers().insert(key.clone(), news);
        let stop = CancellationToken::new();
        let (paused, pauses) = watch::channel(false);
        let (rests, resting) = watch::channel(false);
        let holding = Holding {
            lease: Lease::new(
                terms,
                self.0.carrier.identity().clone(),
                self.0.incarnation.clone(),
            ),
            shared: Arc::clone(&self.0),
            key,
            terms,
            tenant,
            epoch,
            seen,
            pauses,
            rests,
            stop: stop.clone(),
        };
        Ok(Tenure {
            task: tokio::spawn(holding.run()),
            epoch: receiver,
            paused,
            resting,
            stop: stop.drop_guard(),
        })
    }
}

/// A process's part in a lease.
///
/// Dropping it ends the tenant and releases the lease, in the background, while the runtime runs.
#[must_use = "dropping it ends the tenant and gives the lease up"]
pub struct Tenure {
    epoch: watch::Receiver<Option<Epoch>>,
    paused: watch::Sender<bool>,
    resting: watch::Receiver<bool>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Tenure {
    /// The epoch while the lease is owned and its tenant runs, now and as it changes.
    #[must_use]
    pub fn epoch(&self) -> watch::Receiver<Option<Epoch>> {
        self.epoch.clone()
    }

    /// Ends the tenant, waits for that, releases the lease, and takes no part in it until
    /// [`resume`](Self::resume): for a tenant that is to change, or is not there for a while.
    ///
    /// Dropping the future stops the waiting alone.
    pub async fn suspend(&self) {
        self.paused.send_replace(true);
        // What is left to fail: the tenant panicked. Its lease runs out.
        let _ = self.resting.clone().wait_for(|resting| *resting).await;
    }

    /// Takes part in the lease again. Without a [`suspend`](Self::suspend) before it does nothing.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Ends the tenant, waits for that, and releases the lease, so that another need not wait
    /// for it to run out.
    ///
    /// Dropping the future leaves that to the background.
    pub async fn close(self) {
        drop(self.stop);
        // What is left to fail: the tenant panicked. Its lease runs out.
        let _ = self.task.await;
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure")
            .field("epoch", &*self.epoch.borrow())
            .finish_non_exhaustive()
    }
}

/// The task of one lease.
struct Holding {
    shared: Arc<Shared>,
    key: String,
    terms: Terms,
    lease: Lease,
    tenant: Arc<dyn Tenant>,
    epoch: watch::Sender<Option<Epoch>>,
    seen: watch::Receiver<Option<Held>>,
    pauses: watch::Receiver<bool>,
    rests: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Holding {
    async fn run(mut self) {
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            if *self.pauses.borrow_and_update() {
                self.end().await;
                self.rests.send_replace(true);
                let resumed = self.pauses.wait_for(|paused| !*paused);
                // Its sender goes with the token.
                let _ = stop.run_until_cancelled(resumed).await;
                self.rests.send_replace(false);
                continue;
            }
            match self.lease.next(self.shared.now()) {
                Next::Read => self.read().await,
                Next::Write { expected, write } => self.write(expected, write).await,
                Next::Until(moment) => self.until(moment).await,
                Next::End => {
                    tracing::warn!(server = self.key, "the lease was lost: its server is ended");
                    self.end().await;
                }
            }
        }
        self.end().await;
        self.shared.readers().remove(&self.key);
    }

    async fn read(&mut self) {
        let stop = self.stop.clone();
        let read = stop.run_until_cancelled(self.shared.bucket.read(&self.key));
        let read = read.await;
        let now = self.shared.now();
        match read {
            Some(Ok(held)) => self.lease.saw(now, &held),
            Some(Err(error)) => {
                tracing::debug!(server = self.key, %error, "the lease cannot be read");
                self.lease.unread(now);
            }
            None => {}
        }
    }

    async fn write(&mut self, expected: u64, write: u64) {
        let value = self.lease.record(write, false);
        let sent = self.shared.now();
        self.tenant.renewing();
        // Not given up in its midst: what it did would not be known.
        let written = self.shared.bucket.write(&self.key, value.into(), expected);
        let outcome = written.await;
        if let Written::Unknown(why) = &outcome {
            tracing::debug!(
                server = self.key,
                why,
                "a write of the lease has no outcome"
            );
        }
        self.lease.wrote(self.shared.now(), write, sent, &outcome);
        let owned = self.lease.epoch().map(Epoch::new);
        if owned.is_some() && matches!(outcome, Written::At(_)) {
            self.tenant.renewed(self.terms.dead_after());
        }
        if owned.is_some() && *self.epoch.borrow() != owned {
            self.begin(owned).await;
        }
    }

    async fn begin(&mut self, epoch: Option<Epoch>) {
        tracing::info!(server = self.key, ?epoch, "the lease is owned");
        let started = self.tenant.start(epoch.unwrap_or_default());
        match tokio::time::timeout(self.terms.margin(), started).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(server = self.key, %error, "the server of a lease does not start");
            }
            Err(_) => tracing::warn!(server = self.key, "the server of a lease starts slowly"),
        }
        self.epoch.send_replace(epoch);
    }

    async fn until(&mut self, moment: Duration) {
        let wait = moment.saturating_sub(self.shared.now()).min(LOOK);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
            Ok(()) = self.pauses.changed() => {}
            Ok(()) = self.seen.changed() => {
                let held = self.seen.borrow_and_update().clone();
                if let Some(held) = held {
                    self.lease.saw(self.shared.now(), &held);
                }
            }
        }
    }

    /// Ends the tenant, and releases the lease if it is still owned.
    async fn end(&mut self) {
        self.epoch.send_replace(None);
        if self.lease.dead_at().is_none() {
            return;
        }
        self.tenant.end().await;
        let value = self.lease.record(0, true);
        if let Some(revision) = self.lease.ended() {
            let released = self.shared.bucket.write(&self.key, value.into(), revision);
            if let Written::Unknown(why) = released.await {
                tracing::debug!(
                    server = self.key,
                    why,
                    "the lease was not released: it runs out"
                );
            }
        }
    }
}
