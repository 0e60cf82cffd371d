//! What one end of a session sends: numbered, and in parts where it is large.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use mcpool_core::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::timeout};

use crate::{
    carrier::Carrier,
    clock::{Stamps, WorkerClock},
    head::{Head, Kind},
    identity::Epoch,
    reasons::Notice,
};

/// How long a sender of parts waits for the next credit.
const CREDIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the frames go.
#[derive(Debug)]
pub(crate) enum To {
    /// From a gateway. NATS answers on the inbox, with the number of the frame as the last token.
    Worker {
        subject: String,
        inbox: String,
        stamps: Arc<Stamps>,
    },
    /// From a worker.
    Gateway {
        subject: String,
        clock: Arc<WorkerClock>,
    },
}

/// The sending side of one end of a session.
#[derive(Debug)]
pub(crate) struct Outgoing {
    carrier: Carrier,
    session: String,
    epoch: Epoch,
    to: To,
    /// The last number. Held while a frame is given to NATS, so that numbers are in its order.
    last: tokio::sync::Mutex<u64>,
    /// The messages that are sent in parts: how many parts may be sent.
    transfers: Mutex<HashMap<u64, watch::Sender<Allowed>>>,
}

#[derive(Debug, Clone)]
enum Allowed {
    Parts(u32),
    Refused(Notice),
}

impl Allowed {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// Why a message in parts was not sent to its end. It was not taken by the other side.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The receiver does not want it.
    Refused(Notice),
    /// The receiver gave no credit in time.
    NoCredit,
    /// NATS took it no more.
    Carrier(Error),
}

/// What goes with a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About {
    /// How long its caller waits at most.
    pub(crate) timeout: Option<Duration>,
    /// The request that it answers.
    pub(crate) answers: Option<u64>,
}

impl Outgoing {
    pub(crate) fn new(carrier: Carrier, session: String, epoch: Epoch, to: To) -> Self {
        Self {
            carrier,
            session,
            epoch,
            to,
            last: tokio::sync::Mutex::new(0),
            transfers: Mutex::default(),
        }
    }

    pub(crate) fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Sends a frame, once there is room for it. `departs` gets its number right before NATS has
    /// it, and says whether it may go. When the future is dropped before its end nothing was sent.
    pub(crate) async fn frame(
        &self,
        mut head: Head,
        body: Bytes,
        departs: impl FnOnce(u64) -> bool + Send,
    ) -> Result<u64> {
        let mut last = self.last.lock().await;
        let room = self.carrier.room_to_publish().await?;
        let number = last.saturating_add(1);
        head.session.clone_from(&self.session);
        head.number = number;
        head.epoch = self.epoch;
        let (subject, reply) = match &self.to {
            To::Worker {
                subject,
                inbox,
                stamps,
            } => {
                head.stamp = stamps.stamp();
                (subject.clone(), Some(format!("{inbox}.{number}")))
            }
            To::Gateway { subject, clock } => {
                head.stamp = clock.now();
                (subject.clone(), None)
            }
        };
        if !departs(number) {
            return Err(Error::new(ErrorKind::Closed, "the session has ended"));
        }
        room.publish(subject, reply, head.headers(), body)?;
        *last = number;
        Ok(number)
    }

    /// Sends a frame about something.
    pub(crate) async fn say(&self, head: Head, body: Bytes) -> Result<()> {
        self.frame(head, body, |_| true).await.map(drop)
    }

    /// Sends a message, or its first part: then the rest is to be sent by [`Transfer::rest`].
    /// `begins` gets the number and whether this is the whole message, right before it goes, and
    /// says whether it may.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        text: Bytes,
        about: About,
        begins: impl FnOnce(u64, bool) -> bool + Send,
    ) -> Result<Option<Transfer>> {
        let size = self.carrier.max_body();
        if text.len() <= size {
            let mut head = Head::new(Kind::Message);
            head.timeout = about.timeout;
            head.answers = about.answers;
            self.frame(head, text, |number| begins(number, true))
                .await?;
            return Ok(None);
        }
        let parts = u32::try_from(text.len().div_ceil(size)).unwrap_or(u32::MAX);
        let mut head = Head::new(Kind::Part);
        head.timeout = about.timeout;
        head.answers = about.answers;
        head.part = Some((0, parts));
        head.total = text.len() as u64;
        let (allow, allowed) = watch::channel(Allowed::Parts(1));
        let number = self
            .frame(head, text.slice(..size), |number| {
                let may = begins(number, false);
                if may {
                    self.transfers().insert(number, allow);
                }
                may
            })
            .await?;
        Ok(Some(Transfer {
            out: Arc::clone(self),
            number,
            checksum: Sha256::new_with_prefix(&text[..size]),
            text,
            size,
            parts,
            allowed,
            whole: false,
        }))
    }

    /// Sends a message to its end.
    pub(crate) async fn message(
        self: &Arc<Self>,
        text: Bytes,
        about: About,
    ) -> std::result::Result<(), Stopped> {
        match self.begin(text, about, |_, _| true).await {
            Ok(None) => Ok(()),
            Ok(Some(transfer)) => transfer.rest(|_| true).await,
            Err(error) => Err(Stopped::Carrier(error)),
        }
    }

    /// The receiver lets so many parts of this message be sent in all.
    pub(crate) fn credit(&self, number: u64, parts: u32) {
        if let Some(allow) = self.transfers().get(&number) {
            allow.send_if_modified(|allowed| match allowed {
                Allowed::Parts(before) if parts > *before => {
                    *before = parts;
                    true
                }
                _ => false,
            });
        }
    }

    /// The receiver does not want this message. Whether it is one that is being sent in parts.
    pub(crate) fn refused(&self, number: u64, notice: &Notice) -> bool {
        match self.transfers().get(&number) {
            Some(allow) => {
                allow.send_replace(Allowed::Refused(notice.clone()));
                true
            }
            None => false,
        }
    }

    fn transfers(&self) -> MutexGuard<'_, HashMap<u64, watch::Sender<Allowed>>> {
        self.transfers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message that is sent in parts. When it is dropped before its end, the receiver forgets it.
#[derive(Debug)]
pub(crate) struct Transfer {
    out: Arc<Outgoing>,
    number: u64,
    text: Bytes,
    size: usize,
    parts: u32,
    allowed: watch::Receiver<Allowed>,
    checksum: Sha256,
    whole: bool,
}

impl Transfer {
    /// Sends the parts after the first, as fast as the receiver lets them. `ends` gets the number
    /// of the last, right before it goes, and says whether it may.
    pub(crate) async fn rest(
        mut self,
        ends: impl FnOnce(u64) -> bool + Send,
    ) -> std::result::Result<(), Stopped> {
        let mut ends = Some(ends);
        for part in 1..self.parts {
            self.allowed(part).await?;
            let begin = self.size.saturating_mul(part as usize);
            let end = begin.saturating_add(self.size).min(self.text.len());
            let mut head = Head::new(Kind::Part).of(self.number);
            head.part = Some((part, self.parts));
            let body = self.text.slice(begin..end);
            self.checksum.update(&body);
            let is_last = part + 1 == self.parts;
            if is_last {
                head.checksum = Some(hex(self.checksum.clone()));
            }
            let ends = if is_last { ends.take() } else { None };
            let (out, first) = (&self.out, self.number);
            let departs = |number| {
                // From here on nobody reads what is allowed: a refusal is the request's.
                let allow = if is_last {
                    out.transfers().remove(&first)
                } else {
                    None
                };
                let is_refused = allow.is_some_and(|allow| allow.borrow().is_refusal());
                !is_refused && ends.is_none_or(|ends| ends(number))
            };
            if let Err(error) = out.frame(head, body, departs).await {
                return Err(match &*self.allowed.borrow() {
                    Allowed::Refused(notice) => Stopped::Refused(notice.clone()),
                    Allowed::Parts(_) => Stopped::Carrier(error),
                });
            }
        }
        self.whole = true;
        Ok(())
    }

    async fn allowed(&mut self, part: u32) -> std::result::Result<(), Stopped> {
        let enough = |allowed: &Allowed| match allowed {
            Allowed::Parts(parts) => *parts > part,
            Allowed::Refused(_) => true,
        };
        match timeout(CREDIT_TIMEOUT, self.allowed.wait_for(enough)).await {
            Ok(Ok(allowed)) => match &*allowed {
                Allowed::Parts(_) => Ok(()),
                Allowed::Refused(notice) => Err(Stopped::Refused(notice.clone())),
            },
            _ => Err(Stopped::NoCredit),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.out.transfers().remove(&self.number);
        let (false, Ok(runtime)) = (self.whole, tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (out, number) = (Arc::clone(&self.out), self.number);
        runtime.spawn(async move {
            // When it fails the session ends, and with it what the receiver holds.
            let _ = out
                .say(Head::new(Kind::Abandon).of(number), Bytes::new())
                .await;
        });
    }
}

/// A checksum as it stands in a head.
pub(crate) fn hex(checksum: Sha256) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in checksum.finalize() {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
