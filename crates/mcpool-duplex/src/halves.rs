//! What a transport author writes: a half that writes messages and a half that reads them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_core::{Delivery, Error, ErrorKind, RequestId, Result, TransportMonitor};

use crate::{departure::Departure, frame::Frames, monitor::DuplexMonitor};

/// The half that writes.
///
/// Rules, which the contract suite of `mcpool-testkit` checks:
///
/// - **The bytes of a message belong to the connection before the first is written.** The future
///   of [`write`](Self::write) may be dropped at any time. A message of which nothing was written
///   is then never written; any other is finished by somebody else: a queue, a task.
/// - **Before a byte may go out, the message [departs](Outgoing::depart)**, at the latest under
///   the lock under which the byte is written. Once the future was dropped it departs no more.
/// - **Writes run side by side.** One that is stuck holds up none that its carrier could take.
///
/// [`LineWriter`](crate::lines::LineWriter) keeps them for whatever is a stream of bytes.
#[async_trait]
pub trait WriteHalf: Send + Sync {
    /// Writes a message, whole, and waits until the connection has taken it. The future of one that
    /// [awaits an answer](Outgoing::awaits_answer) need not be woken for that: its caller is woken
    /// by the answer. It is woken when the message can no longer be written.
    ///
    /// # Errors
    /// Whether this message failed alone, or the connection with it; the delivery says what is
    /// known of this message.
    async fn write(&self, message: Outgoing) -> std::result::Result<(), WriteError>;

    /// Ends the connection in the orderly way of its kind. Called once, while the other half is
    /// still being read. It is given the total of the shutdown policy, and then abandoned.
    ///
    /// # Errors
    /// When the end was not orderly.
    async fn close(&self) -> Result<()> {
        Ok(())
    }

    /// Releases what it holds of the operating system, at once, with no runtime running as well:
    /// the last reference to the transport is gone. The default does nothing, since most halves
    /// are released by being dropped, which happens right after.
    fn abandon(&self) {}

    /// The monitor of the whole transport. Called once, with one that counts messages and knows
    /// why the connection ended; a half that knows more wraps it.
    fn monitor(&self, counts: Arc<DuplexMonitor>) -> Arc<dyn TransportMonitor> {
        counts
    }
}

/// The half that reads.
#[async_trait]
pub trait ReadHalf: Send {
    /// Waits for something and puts all that is there into `frames`: several messages a call cost
    /// less than one. It may put nothing; it is called again.
    ///
    /// The future may be dropped and the method called again: what was put stays put, what was
    /// not is not lost.
    ///
    /// # Errors
    /// Why the connection has ended, after what came before was put. A reason that takes time to
    /// find out, such as how a process ended, may be waited for: 200 ms, and longer only while it
    /// is sure to come. It is not called again.
    async fn read(&mut self, frames: &mut Frames) -> Result<()>;
}

/// A message on its way out: one line of JSON without a line end.
#[derive(Debug)]
pub struct Outgoing {
    text: String,
    departure: Departure,
    id: Option<RequestId>,
    in_company: bool,
    timeout: Option<Duration>,
}

impl Outgoing {
    /// A message that nobody follows, for tests of a half.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self::followed(text.into(), Departure::default())
    }

    pub(crate) fn followed(text: String, departure: Departure) -> Self {
        Self {
            text,
            departure,
            id: None,
            in_company: false,
            timeout: None,
        }
    }

    pub(crate) fn awaiting_answer(
        mut self,
        id: RequestId,
        in_company: bool,
        timeout: Option<Duration>,
    ) -> Self {
        self.id = Some(id);
        self.in_company = in_company;
        self.timeout = timeout;
        self
    }

    /// How long the caller of a request waits for its answer at most, where that is known.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether other requests wait for their answers as well. Then more messages are likely to
    /// come in this moment, and to write them together costs less than one by one.
    #[must_use]
    pub fn in_company(&self) -> bool {
        self.in_company
    }

    /// Whether it is a request. How long a request may take is its caller's to bound; any other
    /// message should be bounded by the half, where a server can keep it waiting for ever.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        self.id.is_some()
    }

    /// The id of a request, for a half that learns by other ways than an answer what became of it:
    /// see [`Frames::fail`].
    #[must_use]
    pub fn id(&self) -> Option<RequestId> {
        self.id
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the text in order to write it: from here on it counts as sent.
    #[must_use]
    pub fn depart(self) -> String {
        self.departure.mark(&self.text);
        self.text
    }

    /// Takes it apart, for a half that finds out later whether a byte can be written.
    #[must_use]
    pub fn split(self) -> (String, Departure) {
        (self.text, self.departure)
    }
}

/// Why a message was not written.
#[derive(Debug)]
pub struct WriteError {
    pub(crate) error: Error,
    pub(crate) ended: bool,
}

impl WriteError {
    /// This message failed, and says nothing of the others: an HTTP status, a timeout.
    #[must_use]
    pub fn alone(error: Error) -> Self {
        Self {
            error,
            ended: false,
        }
    }

    /// The connection takes no messages any more. What the other half says of its end counts
    /// more than this error; it is waited for, at most 200 ms.
    #[must_use]
    pub fn ended(error: Error) -> Self {
        Self { error, ended: true }
    }

    /// The connection is closed from our side, or its process is gone.
    #[must_use]
    pub fn closed(delivery: Delivery) -> Self {
        Self::ended(
            Error::new(ErrorKind::Closed, "the connection is closed").with_delivery(delivery),
        )
    }

    /// The error.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Whether the connection takes no messages any more.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.ended
    }
}
