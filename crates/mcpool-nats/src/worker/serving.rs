//! One server of a worker: where it listens, and its sessions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use mcpool_core::{Client, ConnectOptions, ServerName, StateKind};
use mcpool_manager::ServerHandle;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shares,
    questions::OfSession,
    relay::Relay,
    session::{FRAME_QUEUE, Order, Session},
    standing::Standing,
};
use crate::{
    carrier::Carrier,
    clock::WorkerClock,
    connector::{self, Opened},
    head::{Head, Kind, VERSION},
    identity::{Epoch, Sharing},
    incoming::Incoming,
    outgoing::{Outgoing, To},
    reasons::{Notice, Reason},
    subjects,
};

/// Sessions with one server at once.
const MAX_SESSIONS: usize = 4_096;

/// How long the opening of a session waits for its server.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long NATS may take to hand over what came to a subscription before its end.
const REST_TIMEOUT: Duration = Duration::from_secs(2);

/// How often sessions that have ended are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// One server that is served.
pub(super) struct Serving {
    pub(super) carrier: Carrier,
    pub(super) handle: ServerHandle,
    pub(super) name: ServerName,
    pub(super) shares: Shares,
    pub(super) tenure: watch::Receiver<Option<Epoch>>,
    pub(super) clock: Arc<WorkerClock>,
    /// Nothing new is taken.
    pub(super) drain: CancellationToken,
    /// When what runs is ended in any case, once it drains.
    pub(super) patience: Duration,
}

/// A session as its server sees it.
struct Open {
    frames: mpsc::Sender<(Head, Message)>,
    order: watch::Sender<Order>,
}

/// What became of an opening.
type Ready = Result<(Head, Message, Connected), (Head, Message, Notice)>;

/// The connection that a session is to have.
struct Connected {
    client: Arc<dyn Client>,
    sharing: Sharing,
    /// Who answers what the server asks by itself, where the connection is the session's own.
    own: Option<Arc<OfSession>>,
}

/// What changes while it is served.
struct Sessions {
    open: HashMap<String, Open>,
    running: JoinSet<()>,
    opening: JoinSet<Ready>,
    /// What still came to a subscription that has ended is refused.
    refusing: JoinSet<()>,
    /// The connection that sessions share, and what they have set up there.
    standing: Option<Arc<Standing>>,
}

impl Serving {
    /// Serves until it has drained.
    pub(super) async fn run(mut self) -> mcpool_core::Result<()> {
        let identity = self.carrier.identity();
        let own = subjects::instance(self.carrier.pool(), &self.name, identity);
        let mut own = self.carrier.subscribe(own).await?;
        let mut group: Option<Subscriber> = None;
        let mut state = self.handle.watch()?;
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut epoch = *self.tenure.borrow_and_update();
        let mut has_tenure = true;
        let mut sessions = Sessions {
            open: HashMap::new(),
            running: JoinSet::new(),
            opening: JoinSet::new(),
            refusing: JoinSet::new(),
            standing: None,
        };
        loop {
            let serves = epoch.is_some() && can_serve(state.borrow_and_update().kind());
            if serves && group.is_none() {
                let subject = subjects::server(self.carrier.pool(), &self.name);
                group = Some(self.carrier.queue_subscribe(subject).await?);
            } else if !serves && let Some(group) = group.take() {
                // Others of the group get what is opened from now on.
                let notice = Notice::new(Reason::NotReady, "the server is not connected");
                sessions.refusing.spawn(self.refuser().rest(group, notice));
            }
            tokio::select! {
                Some(message) = next(&mut group) => self.take(message, epoch, &mut sessions).await,
                message = own.next() => match message {
                    Some(message) => self.take(message, epoch, &mut sessions).await,
                    None => return Ok(()),
                },
                Some(Ok(ready)) = sessions.opening.join_next() => {
                    self.opened(ready, epoch, &mut sessions).await;
                }
                changed = self.tenure.changed(), if has_tenure => {
                    has_tenure = changed.is_ok();
                    epoch = self.tenure.borrow_and_update().filter(|_| has_tenure);
                    let notice = Notice::new(Reason::Epoch, "the lease is another's");
                    sessions.order(&Order::End(notice));
                }
                changed = state.changed() => if changed.is_err() {
                    // Removed, or replaced by another spec: a new handle sees the new one.
                    match self.handle.watch() {
                        Ok(newer) => state = newer,
                        Err(_) => {
                            let notice = Notice::new(Reason::UnknownServer, "it was removed");
                            sessions.order(&Order::End(notice));
                            sessions.ended().await;
                            return Ok(());
                        }
                    }
                },
                _ = sweep.tick() => sessions.sweep(),
                () = self.drain.cancelled() => break,
            }
        }
        if let Some(group) = group {
            let notice = Notice::draining();
            sessions.refusing.spawn(self.refuser().rest(group, notice));
        }
        self.drained(own, epoch, sessions).await;
        Ok(())
    }

    /// Takes nothing new, lets what runs end, and ends.
    async fn drained(&self, mut own: Subscriber, epoch: Option<Epoch>, mut sessions: Sessions) {
        sessions.order(&Order::Drain);
        while let Some(ready) = sessions.opening.join_next().await {
            // They have seen the drain, or were ready in this moment.
            let Ok(Ok((head, message, _)) | Err((head, message, _))) = ready else {
                continue;
            };
            let notice = Notice::draining();
            self.refuse(&head, &message, &notice).await;
        }
        let until = Instant::now() + self.patience;
        loop {
            tokio::select! {
                ended = timeout_at(until, sessions.running.join_next()) => match ended {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => {
                        let text = "the worker goes, and waits no longer";
                        sessions.order(&Order::End(Notice::new(Reason::Draining, text)));
                        sessions.ended().await;
                        break;
                    }
                },
                Some(message) = own.next() => {
                    self.take_draining(message, epoch, &mut sessions).await;
                }
            }
        }
        let notice = Notice::draining();
        sessions.refusing.spawn(self.refuser().rest(own, notice));
        while sessions.refusing.join_next().await.is_some() {}
    }

    async fn take_draining(&self, message: Message, epoch: Option<Epoch>, sessions: &mut Sessions) {
        match Head::read(message.headers.as_ref()) {
            Some(head) if matches!(head.kind, Kind::Open | Kind::Probe) => {
                let notice = Notice::draining();
                self.refuse(&head, &message, &notice).await;
            }
            _ => self.take(message, epoch, sessions).await,
        }
    }

    async fn take(&self, message: Message, epoch: Option<Epoch>, sessions: &mut Sessions) {
        let Some(head) = Head::read(message.headers.as_ref()) else {
            return;
        };
        if !VERSION.understands(head.version) {
            let text = format!("this worker speaks version {VERSION}, not {}", head.version);
            let notice = Notice::new(Reason::Version, text);
            return self.refuse(&head, &message, &notice).await;
        }
        match head.kind {
            Kind::Probe | Kind::Open if epoch.is_none() => {
                let notice = Notice::new(Reason::Epoch, "this worker has no lease of the server");
                self.refuse(&head, &message, &notice).await;
            }
            Kind::Probe => self.probed(head, message).await,
            Kind::Open => self.open(head, message, sessions).await,
            _ => self.pass(head, message, sessions).await,
        }
    }

    /// Hands a frame to its session.
    async fn pass(&self, head: Head, message: Message, sessions: &mut Sessions) {
        let notice = match sessions.open.get(&head.session) {
            None => Notice::new(Reason::UnknownSession, "there is no such session"),
            Some(open) => match open.frames.try_send((head.clone(), message.clone())) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let notice = Notice::new(Reason::Busy, "too many frames wait");
                    // It stays listed: its own last word says how far it came.
                    open.order.send_replace(Order::End(notice));
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    sessions.open.remove(&head.session);
                    Notice::new(Reason::UnknownSession, "the session has ended")
                }
            },
        };
        // The gateway's end of it ends too, and takes this as a word about each frame.
        self.refuse(&head, &message, &notice).await;
    }

    async fn probed(&self, head: Head, message: Message) {
        let Ok(client) = self.handle.client() else {
            let notice = Notice::new(Reason::NotReady, "the server is not connected");
            return self.refuse(&head, &message, &notice).await;
        };
        let carrier = self.carrier.clone();
        tokio::spawn(async move {
            let (kind, body) = match client.probe(PROBE_TIMEOUT).await {
                Ok(_) => (Kind::Alive, Bytes::new()),
                Err(error) => {
                    let notice = Notice::new(Reason::NotReady, error.message());
                    (Kind::Refused, notice.body())
                }
            };
            if let Some(reply) = message.reply {
                let headers = Head::new(kind).headers();
                let _ = carrier
                    .publish(reply.to_string(), None, headers, body)
                    .await;
            }
        });
    }

    /// Waits for the server, beside what else goes on.
    async fn open(&self, head: Head, message: Message, sessions: &mut Sessions) {
        let count = sessions.open.len() + sessions.opening.len();
        if count >= MAX_SESSIONS || sessions.open.contains_key(&head.session) {
            let notice = Notice::new(Reason::Busy, "there are too many sessions");
            return self.refuse(&head, &message, &notice).await;
        }
        let sharing = self.shares.of(&self.handle);
        let (handle, drain) = (self.handle.clone(), self.drain.clone());
        sessions.opening.spawn(async move {
            let client = async {
                if sharing != Sharing::Each {
                    return Ok((handle.ready_client(READY_TIMEOUT).await?, None));
                }
                let own = connector::Open::declared(&message.payload).map(OfSession::new);
                let mut options = ConnectOptions::new();
                if let Some(own) = own.clone() {
                    options = options.with_handler(own);
                }
                let client = handle.own_client(&options).await?;
                Ok((client, own))
            };
            let client: mcpool_core::Result<_> = tokio::select! {
                client = client => client,
                () = drain.cancelled() => {
                    let notice = Notice::draining();
                    return Err((head, message, notice));
                }
            };
            match client {
                Ok((client, own)) => {
                    let connected = Connected {
                        client,
                        sharing,
                        own,
                    };
                    Ok((head, message, connected))
                }
                Err(error) => {
                    let notice = Notice::new(Reason::NotReady, error.message());
                    Err((head, message, notice))
                }
            }
        });
    }

    async fn opened(&self, ready: Ready, epoch: Option<Epoch>, sessions: &mut Sessions) {
        let (head, message, connected) = match ready {
            Ok(ready) => ready,
            Err((head, message, notice)) => return self.refuse(&head, &message, &notice).await,
        };
        let Connected {
            client,
            sharing,
            own,
        } = connected;
        let Some(epoch) = epoch else {
            let notice = Notice::new(Reason::Epoch, "the lease went to another");
            return self.refuse(&head, &message, &notice).await;
        };
        let Some(reply) = &message.reply else {
            return;
        };
        let inbox = reply
            .rsplit_once('.')
            .map_or(reply.as_str(), |(inbox, _)| inbox);
        let to = To::Gateway {
            subject: format!("{inbox}.r"),
            clock: Arc::clone(&self.clock),
        };
        let out = Outgoing::new(self.carrier.clone(), head.session.clone(), epoch, to);
        let out = Arc::new(out);
        let owns_client = sharing == Sharing::Each;
        let standing = sessions.standing(client, owns_client);
        let Ok(spec) = self.handle.spec() else {
            return;
        };
        let limit = spec.policy.limits.max_message_bytes;
        let (frames, queue) = mpsc::channel(FRAME_QUEUE);
        let (order, orders) = watch::channel(Order::None);
        let permits = move |tool: &str| spec.tools.permits(tool);
        let session = Session {
            server: self.name.clone(),
            name: head.session.clone(),
            incoming: Incoming::new(Arc::clone(&out), limit),
            epoch,
            clock: Arc::clone(&self.clock),
            relay: Relay::new(
                head.session.clone(),
                Arc::clone(&out),
                Arc::clone(&standing),
                own,
                permits,
            ),
            standing,
            out: Arc::clone(&out),
            frames: queue,
            order: orders,
            owns_client,
        };
        let opened = Opened {
            worker: self.carrier.identity().clone(),
            instance: self.carrier.identity().clone(),
            epoch,
            sharing,
        };
        // Plain names and numbers can always be JSON.
        let body = serde_json::to_vec(&opened).unwrap_or_default();
        // It is there before its gateway hears of it.
        sessions.open.insert(head.session, Open { frames, order });
        sessions.running.spawn(async move {
            if out.say(Head::new(Kind::Opened), body.into()).await.is_ok() {
                session.run().await;
            }
        });
    }

    async fn refuse(&self, head: &Head, message: &Message, notice: &Notice) {
        self.refuser().refuse(head, message, notice).await;
    }

    fn refuser(&self) -> Refuser {
        Refuser {
            carrier: self.carrier.clone(),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Refuses what comes for no session.
struct Refuser {
    carrier: Carrier,
    clock: Arc<WorkerClock>,
}

impl Refuser {
    /// Ends a subscription, and refuses the openings that still came to it: who sent them asks
    /// another worker, and does not wait for this one.
    async fn rest(self, mut subscriber: Subscriber, notice: Notice) {
        if subscriber.drain().await.is_err() {
            return;
        }
        let until = Instant::now() + REST_TIMEOUT;
        while let Ok(Some(message)) = timeout_at(until, subscriber.next()).await {
            if let Some(head) = Head::read(message.headers.as_ref()) {
                self.refuse(&head, &message, &notice).await;
            }
        }
    }

    /// Refuses what a frame asks, outside of the numbers of any session.
    async fn refuse(&self, head: &Head, message: &Message, notice: &Notice) {
        let Some(reply) = &message.reply else {
            return;
        };
        let (subject, kind) = match head.kind {
            Kind::Open | Kind::Probe => (reply.to_string(), Kind::Refused),
            // No session, so no numbers: the end of what the gateway believes to have.
            _ => (reply.to_string(), Kind::End),
        };
        let mut answer = Head::new(kind).of(head.number);
        answer.session.clone_from(&head.session);
        answer.stamp = self.clock.now();
        let notice = match kind {
            Kind::End => notice.clone().accepted(head.number.saturating_sub(1)),
            _ => notice.clone(),
        };
        let refused = self
            .carrier
            .publish(subject, None, answer.headers(), notice.body());
        if let Err(error) = refused.await {
            tracing::debug!(%error, "a refusal could not be sent");
        }
    }
}

/// How long a server may take to show that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Sessions {
    fn order(&self, order: &Order) {
        for open in self.open.values() {
            open.order.send_if_modified(|before| {
                // An end stays one.
                let changes = !matches!(before, Order::End(_));
                if changes {
                    before.clone_from(order);
                }
                changes
            });
        }
    }

    fn sweep(&mut self) {
        self.open.retain(|_, open| !open.frames.is_closed());
        while self.running.try_join_next().is_some() {}
    }

    async fn ended(&mut self) {
        while self.running.join_next().await.is_some() {}
    }

    /// What is set up at this connection.
    fn standing(&mut self, client: Arc<dyn Client>, own: bool) -> Arc<Standing> {
        if own {
            return Standing::new(client);
        }
        match &self.standing {
            Some(standing) if Arc::ptr_eq(&standing.client, &client) => Arc::clone(standing),
            _ => {
                let standing = Standing::new(client);
                self.standing = Some(Arc::clone(&standing));
                standing
            }
        }
    }
}

/// Whether a server in this state is worth a session: it is connected, or is about to be.
pub(crate) fn can_serve(state: StateKind) -> bool {
    matches!(
        state,
        StateKind::Ready | StateKind::Idle | StateKind::Connecting
    )
}

async fn next(group: &mut Option<Subscriber>) -> Option<Message> {
    match group {
        Some(group) => group.next().await,
        None => std::future::pending().await,
    }
}
