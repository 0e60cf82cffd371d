//! The end of a message, in every order of events (loom).
#![allow(clippy::unwrap_used, missing_docs)]

mod sync {
    use std::task::Waker;

    pub(crate) use loom::sync::atomic;

    /// As that of `futures`, on loom's.
    #[derive(Debug)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self(loom::future::AtomicWaker::new())
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }
}

#[path = "../src/ending.rs"]
mod ending;

use std::future::poll_fn;

use ending::Ending;
use loom::{future::block_on, sync::Arc, thread};

#[test]
fn who_waits_for_the_end_is_woken() {
    loom::model(|| {
        let ending = Arc::new(Ending::new());
        let writer = {
            let ending = Arc::clone(&ending);
            thread::spawn(move || ending.end(true))
        };
        // It hangs, which loom tells, where the wake gets lost.
        block_on(poll_fn(|cx| ending.poll(cx)));
        writer.join().unwrap();
    });
}

#[test]
fn who_looks_after_the_end_sees_it_though_nobody_is_woken() {
    loom::model(|| {
        let ending = Arc::new(Ending::new());
        let writer = {
            let ending = Arc::clone(&ending);
            thread::spawn(move || ending.end(false))
        };
        writer.join().unwrap();
        block_on(poll_fn(|cx| ending.poll(cx)));
    });
}
