//! The moment at which a message is no longer only ours.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mcpool_core::{Delivery, RequestSink};

use crate::wire::{Wire, guarded};

/// Is told when a message departs: from then on a byte of it may have been written.
///
/// A half marks it under the lock under which it writes and under which the drop of the write's
/// future withdraws what was not written. So whoever has dropped that future reads a final value.
#[derive(Clone, Debug, Default)]
pub struct Departure(Arc<Ticket>);

#[derive(Default)]
struct Ticket {
    departed: AtomicBool,
    sink: Option<Arc<dyn RequestSink>>,
    wire: Option<Arc<Wire>>,
}

impl Departure {
    pub(crate) fn new(wire: &Arc<Wire>, sink: Option<Arc<dyn RequestSink>>) -> Self {
        Self(Arc::new(Ticket {
            departed: AtomicBool::new(false),
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

    /// Whether it has departed.
    #[must_use]
    pub fn has_departed(&self) -> bool {
        self.0.departed.load(Ordering::Acquire)
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

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("departed", &self.departed)
            .finish_non_exhaustive()
    }
}
