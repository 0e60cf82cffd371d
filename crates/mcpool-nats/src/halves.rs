//! The gateway's end of a session, as the two halves of a duplex.

use std::{sync::Arc, time::Duration};

use async_nats::{Message, StatusCode, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use mcpool_core::{Delivery, Error, ErrorKind, RequestId, Result, ServerName};
use mcpool_duplex::{Frames, Ids, Outgoing as OnItsWay, ReadHalf, WriteError, WriteHalf};
use tokio::{
    runtime::Handle,
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};

use crate::{
    calls::{Calls, NotTaken},
    clock::Stamps,
    head::{Head, Kind, VERSION},
    incoming::{Incoming, Taken},
    outgoing::{About, Outgoing, Stopped},
    reasons::{Notice, Reason},
    spread::Place,
};

/// How often a gateway says that it is there, while something is unanswered: so soon it learns that
/// nobody is there any more.
const BEAT: Duration = Duration::from_secs(1);

/// Every which beat is sent while nothing is unanswered: a worker must know who is gone.
const IDLE_BEATS: u32 = 30;

/// After how many beats a session that could not leave for a worker with fewer tries it again. From one
/// beat to the next no request begins in it then.
const BEATS_BETWEEN_TRIES: u32 = 30;

/// How long a worker may be silent while something is unanswered.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Frames that are read at once.
const MAX_BURST: usize = 64;

/// What both halves share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) server: ServerName,
    pub(crate) out: Arc<Outgoing>,
    pub(crate) runtime: Handle,
    /// Where the session is, when it is one of several.
    place: Option<Place>,
    calls: Calls,
}

impl Shared {
    pub(crate) fn new(
        server: ServerName,
        out: Arc<Outgoing>,
        runtime: Handle,
        place: Option<Place>,
    ) -> Arc<Self> {
        Arc::new(Self {
            server,
            out,
            runtime,
            place,
            calls: Calls::default(),
        })
    }

    /// The error of a message that was given to nobody.
    fn unsent(&self, error: Error) -> WriteError {
        match self.calls.is_over() {
            true => WriteError::closed(Delivery::NotSent),
            false => WriteError::alone(error.with_delivery(Delivery::NotSent)),
        }
    }

    /// The error of a message whose parts were not all sent. What has not come whole is not run.
    fn stopped(&self, why: Stopped) -> WriteError {
        match why {
            Stopped::Refused(notice) => {
                WriteError::alone(notice.error(&self.server, Delivery::Rejected))
            }
            Stopped::NoCredit => self.unsent(Error::new(
                ErrorKind::Timeout,
                "the worker did not take the parts of the message in time",
            )),
            Stopped::Carrier(error) => self.unsent(error),
        }
    }
}

/// A request among those that wait. Dropping it takes it out.
struct Entered<'a> {
    calls: &'a Calls,
    first: u64,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.calls.leave(self.first);
    }
}

/// The half that writes.
pub(crate) struct Writer(pub(crate) Arc<Shared>);

#[async_trait]
impl WriteHalf for Writer {
    async fn write(&self, message: OnItsWay) -> std::result::Result<(), WriteError> {
        let shared = &*self.0;
        let calls = &shared.calls;
        // While NATS is away nothing is given to it: what it buffers would go out later.
        shared.out.carrier().connected().await;
        let id = message.id();
        if id.is_some() && calls.is_draining() && !calls.is_over() {
            // It would be refused. It ends with the session, soon, and was not sent.
            std::future::pending::<()>().await;
        }
        if id.is_some() {
            calls.released().await;
        }
        let about = About {
            timeout: message.timeout(),
            answers: None,
        };
        let (text, departure) = message.split();
        let text = Bytes::from(text);
        // A message departs with the frame that makes it whole: before that nobody runs it.
        let depart = || departure.mark(std::str::from_utf8(&text).unwrap_or_default());
        let mut entered: Option<Entered<'_>> = None;
        let begins = |number, is_whole| {
            let may = match id {
                Some(id) => calls.enter(number, id, is_whole),
                None => !calls.is_over(),
            };
            if may && id.is_some() {
                entered = Some(Entered {
                    calls,
                    first: number,
                });
            }
            if may && is_whole {
                depart();
            }
            may
        };
        let begun = shared.out.begin(text.clone(), about, begins).await;
        let transfer = begun.map_err(|error| shared.unsent(error))?;
        if let Some(transfer) = transfer {
            let first = entered.as_ref().map(|entered| entered.first);
            let ends = |number| {
                let may = match first {
                    Some(first) => calls.complete(first, number),
                    None => !calls.is_over(),
                };
                if may {
                    depart();
                }
                may
            };
            let sent = transfer.rest(ends).await;
            sent.map_err(|why| shared.stopped(why))?;
        }
        if entered.is_some() {
            // What becomes of a request is the reading half's to say. Until then it is entered.
            std::future::pending::<()>().await;
        }
        Ok(())
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

/// The half that reads, and says that the gateway is there.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    subscriber: Subscriber,
    stamps: Arc<Stamps>,
    incoming: Incoming,
    limit: usize,
    beats: Interval,
    idle: u32,
    /// No request begins, so that the session can leave for another worker.
    leaving: bool,
    /// Beats before that is tried again.
    stays_for: u32,
    /// Since when the worker owes a word.
    owed: Option<Instant>,
}

/// Why a session has ended, and what that says of its requests.
struct Ended {
    reason: Error,
    not_taken: Option<NotTaken>,
}

impl From<Error> for Ended {
    fn from(reason: Error) -> Self {
        Self {
            reason,
            not_taken: None,
        }
    }
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
            leaving: false,
            stays_for: 0,
            owed: None,
        }
    }

    async fn beat(&mut self) -> Result<()> {
        let busy = self.shared.calls.is_busy();
        self.idle = if busy { 0 } else { self.idle + 1 };
        self.make_room()?;
        self.try_to_leave(busy);
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
            let said = self.shared.out.say(Head::new(Kind::Beat), Bytes::new());
            // One that finds no room is left out: what comes must be read.
            if let Ok(said) = timeout(BEAT, said).await {
                said?;
            }
        }
        Ok(())
    }

    /// Ends the session while nothing is unanswered, when another worker has fewer: the next one
    /// begins there.
    fn make_room(&self) -> Result<()> {
        let Some(place) = &self.shared.place else {
            return Ok(());
        };
        if !place.leave_for_another(|| self.shared.calls.end_idle()) {
            return Ok(());
        }
        let notice = Notice::new(Reason::Closed, "another worker has fewer sessions");
        let said = self.shared.out.say(Head::new(Kind::End), notice.body());
        // Where it does not go at once the worker misses the beats.
        let _ = said.now_or_never();
        Err(self.lost("the session goes to another worker, which has fewer"))
    }

    /// One that always has something under way begins nothing new for a beat: what runs may end in
    /// that time, and the session with it.
    fn try_to_leave(&mut self, busy: bool) {
        let Some(place) = &self.shared.place else {
            return;
        };
        if self.leaving {
            place.stay_on();
            self.shared.calls.release();
            self.leaving = false;
            self.stays_for = BEATS_BETWEEN_TRIES;
        } else if self.stays_for > 0 {
            self.stays_for -= 1;
        } else if busy && !self.shared.calls.is_draining() && place.begin_to_leave() {
            self.shared.calls.hold_new();
            self.leaving = true;
        }
    }

    fn lost(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::ConnectionLost, why).with_server(&self.shared.server)
    }

    /// Reads what is there, at least one frame or beat.
    async fn read_some(&mut self, frames: &mut Frames) -> std::result::Result<(), Ended> {
        let message = tokio::select! {
            message = self.subscriber.next() => message,
            _ = self.beats.tick() => return Ok(self.beat().await?),
            () = self.shared.calls.emptied(), if self.leaving => return Ok(self.make_room()?),
        };
        let Some(message) = message else {
            return Err(self.lost("the connection with NATS was closed").into());
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

    /// Takes one frame. An error ends the session.
    async fn take(
        &mut self,
        message: Message,
        frames: &mut Frames,
    ) -> std::result::Result<(), Ended> {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(self.nobody(&message));
        }
        let Some(head) = Head::read(message.headers.as_ref()) else {
            return Ok(());
        };
        if !VERSION.understands(head.version) {
            let reason = self.lost("the worker speaks another version of the wire");
            return Err(reason.into());
        }
        self.stamps.heard(head.stamp);
        self.owed = None;
        if head.kind == Kind::End && head.number == 0 {
            // The worker does not have this session any more.
            return Err(self.ended(&message.payload));
        }
        if let Err(broken) = self.incoming.count(&head) {
            return Err(self.broken(&broken.to_string()).into());
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
                    Err(broken) => return Err(self.broken(&broken.to_string()).into()),
                }
            }
            Kind::Credit => self.shared.out.credit(head.of, head.credit),
            Kind::Refused => self.refused(&head, &Notice::read(&message.payload), frames),
            Kind::Failed => {
                let notice = Notice::read(&message.payload);
                let delivery = match notice.answered {
                    true => Delivery::Answered,
                    false => Delivery::Unknown,
                };
                self.fail(frames, head.of, &notice, delivery);
            }
            Kind::End => return Err(self.ended(&message.payload)),
            _ => {}
        }
        Ok(())
    }

    fn fail(&self, frames: &mut Frames, first: u64, notice: &Notice, delivery: Delivery) {
        if let Some(id) = self.shared.calls.id(first) {
            frames.fail(id, notice.error(&self.shared.server, delivery));
        }
    }

    fn refused(&self, head: &Head, notice: &Notice, frames: &mut Frames) {
        if self.shared.out.refused(head.of, notice) {
            // Its sender says so.
            return;
        }
        if notice.reason == Reason::Draining {
            if let Some(id) = self.shared.calls.hold(head.of) {
                frames.returned(id);
            }
        } else {
            self.fail(frames, head.of, notice, Delivery::Rejected);
        }
    }

    /// The worker has ended the session.
    fn ended(&self, body: &[u8]) -> Ended {
        let notice = Notice::read(body);
        let error = notice.error(&self.shared.server, Delivery::Rejected);
        // It is the connection that has ended, whatever the reason's kind.
        Ended {
            reason: self.lost(error.message()),
            not_taken: notice.accepted.map(|after| NotTaken { after, error }),
        }
    }

    /// NATS had nobody for the frame of this number: the worker is gone. A worker that gets a later frame
    /// misses this one, and runs nothing.
    fn nobody(&self, message: &Message) -> Ended {
        let reason = self.lost("the worker is gone");
        let number = message.subject.rsplit('.').next();
        let number: Option<u64> = number.and_then(|number| number.parse().ok());
        let error = reason.clone().with_delivery(Delivery::NotSent);
        Ended {
            reason,
            not_taken: number.map(|number| NotTaken {
                after: number.saturating_sub(1),
                error,
            }),
        }
    }

    /// Something is missing: the worker learns that what it runs for this session is of no use.
    fn broken(&self, why: &str) -> Error {
        let notice = Notice::new(Reason::Gap, why);
        let said = self.shared.out.say(Head::new(Kind::End), notice.body());
        // A courtesy: where it does not go at once the worker misses the beats.
        let _ = said.now_or_never();
        self.lost(format!("the session with the worker is broken: {why}"))
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn read(&mut self, frames: &mut Frames) -> Result<()> {
        let Err(ended) = self.read_some(frames).await else {
            return Ok(());
        };
        // First what is known of single requests, then the end, which says less.
        for (id, error) in self.shared.calls.end(ended.not_taken.as_ref()) {
            frames.fail(id, error);
        }
        Err(ended.reason)
    }
}
