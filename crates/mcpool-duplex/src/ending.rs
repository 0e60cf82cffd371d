//! The end of the writing of a message, and who waits for it. `tests/loom.rs` compiles this file
//! with the atomics of loom and tries every order of events.

use std::task::{Context, Poll};

use crate::sync::{
    AtomicWaker,
    atomic::{AtomicBool, Ordering},
};

/// It was written whole, or never will be.
#[derive(Debug)]
pub(crate) struct Ending {
    over: AtomicBool,
    waiting: AtomicWaker,
}

impl Ending {
    pub(crate) fn new() -> Self {
        Self {
            over: AtomicBool::new(false),
            waiting: AtomicWaker::new(),
        }
    }

    /// It is over. A caller that waits for that is woken, if wanted.
    pub(crate) fn end(&self, wake: bool) {
        self.over.store(true, Ordering::Release);
        if wake {
            self.waiting.wake();
        }
    }

    /// Waits for it. Only the last that polls is woken.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waiting.register(cx.waker());
        // It may have ended before the waker was there.
        if self.over.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
