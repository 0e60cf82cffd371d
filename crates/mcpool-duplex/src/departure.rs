//! The moment at which a message is no longer only ours.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use mcpool_core::{Delivery, RequestSink};

use crate::{
    ending::Ending,
    sync::atomic::{AtomicBool, Ordering},
    wire::{Wire, guarded},
};

/// Called when a message departs: from then on a byte of it may have been written.
///
/// A half marks it under the lock under which it writes and under which the drop of the write's
/// future withdraws what was not written. So a caller that has dropped that future reads a final value.
#[derive(Clone, Debug)]
pub struct Departure(Arc<Ticket>);

struct Ticket {
    departed: AtomicBool,
    ending: Ending,
    sink: Option<Arc<dyn RequestSink>>,
    wire: Option<Arc<Wire>>,
}

impl Departure {
    pub(crate) fn new(wire: &Arc<Wire>, sink: Option<Arc<dyn RequestSink>>) -> Self {
        Self(Arc::new(Ticket {
            departed: AtomicBool::new(false),
            ending: Ending::new(),
            sink,
            wire: Some(Arc::clone(wire)),
        }))
    }

    /// The message departs; `text` is what is written, without a line end. Marking it again does
    /// nothing.
    pub fn mark(&self, text: &str) {
        if self.0.departed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(wire) = &self.0.wire {
            if let Some(sink) = &self.0.sink {
                guarded(wire, || sink.sent());
            }
            wire.sent(text);
        }
    }

    /// It was refused by the other side: it counts as not sent.
    pub(crate) fn come_back(&self) {
        if self.0.departed.swap(false, Ordering::AcqRel)
            && let (Some(wire), Some(sink)) = (&self.0.wire, &self.0.sink)
        {
            guarded(wire, || sink.returned());
        }
    }

    /// Whether it has departed.
    #[must_use]
    pub fn has_departed(&self) -> bool {
        self.0.departed.load(Ordering::Acquire)
    }

    /// Nothing more is done about the message: it was written whole, or the stream has ended.
    /// A caller that waits for that is woken, if wanted.
    pub(crate) fn end(&self, wake: bool) {
        self.0.ending.end(wake);
    }

    /// Waits for the end of the message. Only the last that polls is woken.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.ending.poll(cx)
    }

    /// What is known of the delivery when no answer has come: not sent until it departed.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        if self.has_departed() {
            Delivery::Unknown
        } else {
            Delivery::NotSent
        }
    }
}

impl Default for Departure {
    /// One that nobody follows.
    fn default() -> Self {
        Self(Arc::new(Ticket {
            departed: AtomicBool::new(false),
            ending: Ending::new(),
            sink: None,
            wire: None,
        }))
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("departed", &self.departed)
            .finish_non_exhaustive()
    }
}
