//! What one end of a session receives: nothing is missing, and parts become messages.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    carrier::MAX_ASSEMBLED_KIB,
    head::{Head, Kind},
    outgoing::{Outgoing, hex},
    reasons::{Notice, Reason},
};

/// Messages that may come in parts at once, in one session.
const MAX_PARTIAL: usize = 16;

/// How many parts ahead of what was taken a sender may be.
const WINDOW: u32 = 8;

/// The receiving side of one end of a session.
#[derive(Debug)]
pub(crate) struct Incoming {
    out: Arc<Outgoing>,
    /// The last number that was taken.
    accepted: u64,
    /// The largest message, in bytes.
    limit: usize,
    partial: HashMap<u64, Partial>,
}

/// A message of which not all has come.
#[derive(Debug)]
struct Partial {
    first: Head,
    parts: u32,
    taken: u32,
    text: Vec<u8>,
    checksum: Sha256,
    /// Waits for room, then holds it.
    _room: AbortOnDropHandle<Option<OwnedSemaphorePermit>>,
}

/// A whole message.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The number with which it began.
    pub(crate) number: u64,
    /// The head with which it began, with the stamp of its end.
    pub(crate) head: Head,
    pub(crate) text: Bytes,
}

/// What a frame of a message was.
#[derive(Debug)]
pub(crate) enum Taken {
    /// There is more to come.
    Part,
    Whole(Whole),
    /// The message is over the limit, and was refused.
    TooLarge(Head),
}

/// Why nothing further can be taken in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A frame is missing.
    Gap { expected: u64, came: u64 },
    /// Parts do not fit together.
    Parts(&'static str),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gap { expected, came } => {
                write!(f, "frame {expected} is missing, frame {came} came")
            }
            Self::Parts(why) => f.write_str(why),
        }
    }
}

impl Incoming {
    pub(crate) fn new(out: Arc<Outgoing>, limit: usize) -> Self {
        Self {
            out,
            accepted: 0,
            limit,
            partial: HashMap::new(),
        }
    }

    /// The last number that was taken.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Counts a frame.
    pub(crate) fn count(&mut self, head: &Head) -> Result<(), Broken> {
        let expected = self.accepted.saturating_add(1);
        if head.number != expected {
            return Err(Broken::Gap {
                expected,
                came: head.number,
            });
        }
        self.accepted = expected;
        Ok(())
    }

    /// Takes a frame that was counted: `message`, `part` or `abandon`.
    pub(crate) async fn take(&mut self, head: Head, body: Bytes) -> Result<Taken, Broken> {
        match head.kind {
            Kind::Message if body.len() > self.limit => {
                self.refuse(head.number).await;
                Ok(Taken::TooLarge(head))
            }
            Kind::Message => Ok(Taken::Whole(Whole {
                number: head.number,
                head,
                text: body,
            })),
            Kind::Abandon => {
                self.partial.remove(&head.of);
                Ok(Taken::Part)
            }
            _ => match head.part {
                Some((0, parts)) => self.first(head, parts, &body).await,
                Some((part, _)) => self.next(head, part, &body).await,
                None => Err(Broken::Parts("a part without a number came")),
            },
        }
    }

    async fn first(&mut self, head: Head, parts: u32, body: &[u8]) -> Result<Taken, Broken> {
        let kib = u32::try_from(head.total.div_ceil(1024)).unwrap_or(u32::MAX);
        if head.total > self.limit as u64 || kib > MAX_ASSEMBLED_KIB {
            self.refuse(head.number).await;
            return Ok(Taken::TooLarge(head));
        }
        if parts < 2 || body.len() as u64 >= head.total {
            return Err(Broken::Parts("a first part is not the first of several"));
        }
        if self.partial.len() >= MAX_PARTIAL {
            let notice = Notice::new(Reason::Busy, "too many messages come in parts at once");
            self.tell(Head::new(Kind::Refused).of(head.number), notice.body())
                .await;
            return Ok(Taken::Part);
        }
        let (out, number) = (Arc::clone(&self.out), head.number);
        let room = tokio::spawn(async move {
            let room = Arc::clone(out.carrier().room());
            // Fails only when the semaphore is closed, which nobody does.
            let permit = room.acquire_many_owned(kib).await.ok();
            let mut credit = Head::new(Kind::Credit).of(number);
            credit.credit = 1 + WINDOW;
            // Its failure is the session's, which its sender and the beat find.
            let _ = out.say(credit, Bytes::new()).await;
            permit
        });
        let partial = Partial {
            parts,
            taken: 1,
            text: body.to_vec(),
            checksum: Sha256::new_with_prefix(body),
            first: head,
            _room: AbortOnDropHandle::new(room),
        };
        self.partial.insert(number, partial);
        Ok(Taken::Part)
    }

    async fn next(&mut self, head: Head, part: u32, body: &[u8]) -> Result<Taken, Broken> {
        let Some(partial) = self.partial.get_mut(&head.of) else {
            // Of a message that was refused while it was on its way.
            return Ok(Taken::Part);
        };
        if part != partial.taken {
            return Err(Broken::Parts("the parts of a message are not in order"));
        }
        if (partial.text.len() + body.len()) as u64 > partial.first.total {
            return Err(Broken::Parts("a message is longer than was said"));
        }
        partial.text.extend_from_slice(body);
        partial.checksum.update(body);
        partial.taken += 1;
        if partial.taken < partial.parts {
            if partial.taken.is_multiple_of(WINDOW / 2) {
                let mut credit = Head::new(Kind::Credit).of(head.of);
                credit.credit = partial.taken.saturating_add(WINDOW);
                self.tell(credit, Bytes::new()).await;
            }
            return Ok(Taken::Part);
        }
        let Some(partial) = self.partial.remove(&head.of) else {
            return Ok(Taken::Part);
        };
        if partial.text.len() as u64 != partial.first.total {
            return Err(Broken::Parts("a message is shorter than was said"));
        }
        if head.checksum.as_deref() != Some(&*hex(partial.checksum)) {
            return Err(Broken::Parts("the checksum of a message does not match"));
        }
        let mut first = partial.first;
        first.stamp = head.stamp;
        Ok(Taken::Whole(Whole {
            number: head.of,
            head: first,
            text: partial.text.into(),
        }))
    }

    async fn refuse(&self, number: u64) {
        let message = format!("the message is over the limit of {} bytes", self.limit);
        let notice = Notice::new(Reason::TooLarge, message);
        self.tell(Head::new(Kind::Refused).of(number), notice.body())
            .await;
    }

    async fn tell(&self, head: Head, body: Bytes) {
        // Its failure is the session's, which its sender and the beat find.
        let _ = self.out.say(head, body).await;
    }
}
