//! The gateway's end of a session, as the two halves of a duplex.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Message, StatusCode, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use mcpool_core::{Delivery, Error, ErrorKind, RequestId, Result, ServerName};
use mcpool_duplex::{Frames, Ids, Outgoing as OnItsWay, ReadHalf, WriteError, WriteHalf};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};

use crate::{
    clock::Stamps,
    head::{Head, Kind, VERSION},
    incoming::{Incoming, Taken},
    outgoing::{About, Outgoing, Stopped},
    reasons::{Notice, Reason},
};

/// How often a gateway says that it is there, while something is unanswered.
const BEAT: Duration = Duration::from_secs(2);

/// Every which beat is sent while nothing is unanswered: a worker must know who is gone.
const IDLE_BEATS: u32 = 15;

/// How long a worker may be silent while something is unanswered.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of a session waits for what else arrives of its failure, and for requests
/// that know more of themselves to say so.
const GATHER: Duration = Duration::from_millis(200);

/// Frames that are read at once.
const MAX_BURST: usize = 64;

/// What both halves share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) server: ServerName,
    pub(crate) out: Arc<Outgoing>,
    pub(crate) runtime: Handle,
    calls: Mutex<HashMap<u64, Call>>,
    /// The worker goes: nothing new is sent to it.
    draining: AtomicBool,
    /// The session has ended: nothing is sent any more.
    over: AtomicBool,
    /// A request that had failed has said so.
    settled: Notify,
}

/// A request that waits. Without a sender it has failed, and has not yet said so.
#[derive(Debug)]
struct Call(Option<oneshot::Sender<Error>>);

impl Shared {
    pub(crate) fn new(server: ServerName, out: Arc<Outgoing>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            server,
            out,
            runtime,
            calls: Mutex::default(),
            draining: AtomicBool::new(false),
            over: AtomicBool::new(false),
            settled: Notify::new(),
        })
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<u64, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request departs under this number.
    fn enter(&self, number: u64, sender: oneshot::Sender<Error>) -> Entered<'_> {
        self.calls().insert(number, Call(Some(sender)));
        Entered {
            shared: self,
            number,
        }
    }

    /// Fails the request that began with this number.
    fn fail(&self, number: u64, error: Error) {
        let sender = self.calls().get_mut(&number).and_then(|call| call.0.take());
        if let Some(sender) = sender {
            let _ = sender.send(error);
        }
    }

    /// Fails all that began after this number: the worker has not taken them and will not.
    fn refuse_after(&self, accepted: u64, notice: &Notice) {
        let mut later = Vec::new();
        for (number, call) in self.calls().iter_mut() {
            if *number > accepted {
                later.extend(call.0.take());
            }
        }
        for sender in later {
            let _ = sender.send(notice.error(&self.server, Delivery::Rejected));
        }
    }

    fn is_busy(&self) -> bool {
        !self.calls().is_empty()
    }

    /// Waits until those that have failed have said so, at most for a moment.
    async fn settle(&self) {
        let all = async {
            loop {
                let settled = self.settled.notified();
                if self.calls().values().all(|call| call.0.is_some()) {
                    return;
                }
                settled.await;
            }
        };
        let _ = timeout(GATHER, all).await;
    }
}

/// A request among those that wait. Dropping it takes it out.
struct Entered<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.shared.calls().remove(&self.number);
        self.shared.settled.notify_waiters();
    }
}

/// The half that writes.
pub(crate) struct Writer(pub(crate) Arc<Shared>);

#[async_trait]
impl WriteHalf for Writer {
    async fn write(&self, message: OnItsWay) -> std::result::Result<(), WriteError> {
        let shared = &*self.0;
        // While NATS is away nothing is given to it: what it buffers would go out later.
        shared.out.carrier().connected().await;
        if shared.over.load(Ordering::Acquire) {
            return Err(WriteError::closed(Delivery::NotSent));
        }
        if shared.draining.load(Ordering::Acquire) {
            // The session ends soon, and this was not sent.
            std::future::pending::<()>().await;
        }
        let awaits = message.awaits_answer();
        let about = About {
            timeout: message.timeout(),
            answers: None,
        };
        let (text, departure) = message.split();
        let text = Bytes::from(text);
        let (sender, failure) = oneshot::channel();
        let mut entered = None;
        let departs = |number| {
            departure.mark(std::str::from_utf8(&text).unwrap_or_default());
            if awaits {
                entered = Some(shared.enter(number, sender));
            }
        };
        let begun = shared.out.begin(text.clone(), about, departs).await;
        let transfer = begun.map_err(|error| {
            // It was given to nobody.
            WriteError::alone(error.with_delivery(Delivery::NotSent))
        })?;
        if !awaits {
            return match transfer {
                None => Ok(()),
                Some(transfer) => transfer.rest().await.map_err(|why| stopped(shared, why)),
            };
        }
        let rest = async {
            if let Some(transfer) = transfer
                && let Err(why) = transfer.rest().await
            {
                return stopped(shared, why);
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            Ok(error) = failure => Err(WriteError::alone(error)),
            failed = rest => Err(failed),
        }
    }

    async fn close(&self) -> Result<()> {
        let notice = Notice::new(Reason::Closed, "the gateway has closed the session");
        if self.0.out.carrier().is_connected() {
            self.0.out.say(Head::new(Kind::End), notice.body()).await?;
            self.0.out.carrier().flush().await?;
        }
        Ok(())
    }

    fn abandon(&self) {
        let out = Arc::clone(&self.0.out);
        // On a runtime that has ended this does nothing; the worker misses the beat.
        self.0.runtime.spawn(async move {
            let notice = Notice::new(Reason::Closed, "the gateway has dropped the session");
            if out.carrier().is_connected() {
                let _ = out.say(Head::new(Kind::End), notice.body()).await;
                // The connection may end with this very session.
                let _ = out.carrier().flush().await;
            }
        });
    }
}

/// The error of a message whose parts were not all sent. What has not come whole is not run.
fn stopped(shared: &Shared, why: Stopped) -> WriteError {
    let error = match why {
        Stopped::Refused(notice) => notice.error(&shared.server, Delivery::Rejected),
        Stopped::NoCredit => Error::new(
            ErrorKind::Timeout,
            "the worker did not take the parts of the message in time",
        )
        .with_delivery(Delivery::NotSent),
        Stopped::Carrier(error) => error.with_delivery(Delivery::NotSent),
    };
    WriteError::alone(error)
}

/// The half that reads, and says that the gateway is there.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    subscriber: Subscriber,
    stamps: Arc<Stamps>,
    incoming: Incoming,
    limit: usize,
    beats: Interval,
    idle: u32,
    /// Requests that a worker has refused because it goes.
    held: Vec<u64>,
    /// Since when the worker owes a word.
    owed: Option<Instant>,
}

impl Reader {
    pub(crate) fn new(
        shared: Arc<Shared>,
        subscriber: Subscriber,
        stamps: Arc<Stamps>,
        incoming: Incoming,
        limit: usize,
    ) -> Self {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.reset();
        Self {
            shared,
            subscriber,
            stamps,
            incoming,
            limit,
            beats,
            idle: 0,
            held: Vec::new(),
            owed: None,
        }
    }

    async fn beat(&mut self) -> Result<()> {
        let busy = self.shared.is_busy();
        self.idle = if busy { 0 } else { self.idle + 1 };
        if !busy {
            self.owed = None;
            if self.idle < IDLE_BEATS {
                return Ok(());
            }
            self.idle = 0;
        } else if self.owed.get_or_insert_with(Instant::now).elapsed() > SILENCE_TIMEOUT {
            return Err(self.lost("the worker, or NATS, says nothing any more"));
        }
        if self.shared.out.carrier().is_connected() {
            self.shared
                .out
                .say(Head::new(Kind::Beat), Bytes::new())
                .await?;
        }
        Ok(())
    }

    fn lost(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::ConnectionLost, why).with_server(&self.shared.server)
    }

    /// Takes one frame. An error ends the session.
    async fn take(&mut self, message: Message, frames: &mut Frames) -> Result<()> {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(self.nobody(&message).await);
        }
        let Some(head) = Head::read(message.headers.as_ref()) else {
            return Ok(());
        };
        if !VERSION.understands(head.version) {
            return Err(self.lost("the worker speaks another version of the wire"));
        }
        self.stamps.heard(head.stamp);
        self.owed = None;
        if head.kind == Kind::End && head.number == 0 {
            // The worker does not have this session any more.
            return Err(self.ended(&message.payload).await);
        }
        if let Err(broken) = self.incoming.count(&head) {
            return Err(self.broken(&broken.to_string()).await);
        }
        match head.kind {
            Kind::Message | Kind::Part | Kind::Abandon => {
                match self.incoming.take(head, message.payload).await {
                    Ok(Taken::Whole(whole)) => frames.read(&whole.text),
                    Ok(Taken::TooLarge(head)) => {
                        let answers = head.answers.map(RequestId::new);
                        let mut ids = Ids::default();
                        ids.answers.extend(answers);
                        frames.oversized(ids, self.limit);
                    }
                    Ok(Taken::Part) => {}
                    Err(broken) => return Err(self.broken(&broken.to_string()).await),
                }
            }
            Kind::Credit => self.shared.out.credit(head.of, head.credit),
            Kind::Refused => self.refused(&head, &Notice::read(&message.payload)),
            Kind::Failed => {
                let notice = Notice::read(&message.payload);
                let delivery = match notice.answered {
                    true => Delivery::Answered,
                    false => Delivery::Unknown,
                };
                let error = notice.error(&self.shared.server, delivery);
                self.shared.fail(head.of, error);
            }
            Kind::End => return Err(self.ended(&message.payload).await),
            _ => {}
        }
        Ok(())
    }

    /// The worker has ended the session.
    async fn ended(&self, body: &[u8]) -> Error {
        let notice = Notice::read(body);
        self.shared.over.store(true, Ordering::Release);
        if let Some(accepted) = notice.accepted {
            self.shared.refuse_after(accepted, &notice);
        }
        for number in &self.held {
            let error = notice.error(&self.shared.server, Delivery::Rejected);
            self.shared.fail(*number, error);
        }
        self.shared.settle().await;
        // What departed in this moment was not taken either.
        if let Some(accepted) = notice.accepted {
            self.shared.refuse_after(accepted, &notice);
            self.shared.settle().await;
        }
        let error = notice.error(&self.shared.server, Delivery::Unknown);
        // It is the connection that has ended, whatever the reason's kind.
        self.lost(error.message())
    }

    fn refused(&mut self, head: &Head, notice: &Notice) {
        if self.shared.out.refused(head.of, notice) {
            return;
        }
        if notice.reason == Reason::Draining {
            // Sent again at once it would find the same worker: it fails with the session, of
            // which it is not the last.
            self.shared.draining.store(true, Ordering::Release);
            self.held.push(head.of);
            return;
        }
        let error = notice.error(&self.shared.server, Delivery::Rejected);
        self.shared.fail(head.of, error);
    }

    /// Nobody has taken the frame of this number: the worker is gone. The same is on its way for
    /// what was sent right after it.
    async fn nobody(&mut self, first: &Message) -> Error {
        let until = Instant::now() + GATHER;
        self.shared.over.store(true, Ordering::Release);
        self.not_sent(first);
        while let Ok(Some(message)) = tokio::time::timeout_at(until, self.subscriber.next()).await {
            if message.status == Some(StatusCode::NO_RESPONDERS) {
                self.not_sent(&message);
            }
        }
        self.shared.settle().await;
        self.lost("the worker is gone")
    }

    fn not_sent(&self, message: &Message) {
        let number = message.subject.rsplit('.').next();
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            let error = self.lost("the worker is gone");
            self.shared
                .fail(number, error.with_delivery(Delivery::NotSent));
        }
    }

    /// Something is missing: the worker learns that what it runs for this session is of no use.
    async fn broken(&self, why: &str) -> Error {
        let notice = Notice::new(Reason::Gap, why);
        self.shared.over.store(true, Ordering::Release);
        let told = self.shared.out.say(Head::new(Kind::End), notice.body());
        let _ = timeout(GATHER, told).await;
        self.lost(format!("the session with the worker is broken: {why}"))
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn read(&mut self, frames: &mut Frames) -> Result<()> {
        let message = tokio::select! {
            message = self.subscriber.next() => message,
            _ = self.beats.tick() => return self.beat().await,
        };
        let Some(message) = message else {
            return Err(self.lost("the connection with NATS was closed"));
        };
        self.take(message, frames).await?;
        for _ in 0..MAX_BURST {
            let Some(Some(message)) = self.subscriber.next().now_or_never() else {
                break;
            };
            self.take(message, frames).await?;
        }
        Ok(())
    }
}
