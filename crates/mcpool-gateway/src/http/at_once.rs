//! Polls a future again at once when it has woken itself.
//!
//! A connection of hyper wakes itself while it is polled, once for a request with a body. To a
//! runtime with several threads that is a task that yields: it wakes another thread, which finds
//! nothing to do or takes the work of this one. One thread that waits for another is most of what
//! a call costs when there is one at a time.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

/// Polls in one go. The runtime decides after that what comes next.
const MAX_POLLS: usize = 8;

/// A future that is polled again at once when it has woken itself.
pub(super) struct AtOnce<F> {
    inner: F,
    wakes: Arc<Wakes>,
    waker: Waker,
}

/// What is known of wakes. Wakes come from any thread.
struct Wakes(Mutex<State>);

enum State {
    /// It is being polled. A wake is remembered.
    Polled { again: bool },
    /// It waits, and this is who is woken, once.
    Waits(Option<Waker>),
}

impl<F: Future + Unpin> AtOnce<F> {
    pub(super) fn new(inner: F) -> Self {
        let wakes = Arc::new(Wakes(Mutex::new(State::Waits(None))));
        Self {
            inner,
            waker: Arc::clone(&wakes).into(),
            wakes,
        }
    }

    pub(super) fn inner(&mut self) -> &mut F {
        &mut self.inner
    }
}

impl<F: Future + Unpin> Future for AtOnce<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        for _ in 0..MAX_POLLS {
            let polled = State::Polled { again: false };
            // A waker that is dropped may do anything as well.
            let before = std::mem::replace(&mut *this.wakes.state(), polled);
            drop(before);
            let ours = &mut Context::from_waker(&this.waker);
            if let Poll::Ready(output) = Pin::new(&mut this.inner).poll(ours) {
                return Poll::Ready(output);
            }
            let mut state = this.wakes.state();
            if !matches!(*state, State::Polled { again: true }) {
                *state = State::Waits(Some(context.waker().clone()));
                return Poll::Pending;
            }
        }
        *this.wakes.state() = State::Waits(None);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wakes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state();
        match &mut *state {
            State::Polled { again } => *again = true,
            State::Waits(waker) => {
                let waiting = waker.take();
                // A waker may do anything, so the lock is free by then.
                drop(state);
                if let Some(waker) = waiting {
                    waker.wake();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counted {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn what_wakes_itself_is_polled_again_without_a_wake() {
        let outer = Arc::new(Counted::default());
        let waker = Waker::from(Arc::clone(&outer));
        let mut polls = 0;
        let mut future = AtOnce::new(poll_fn(|context| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_ready());
        drop(future);
        assert_eq!((polls, outer.count()), (3, 0));
    }

    #[test]
    fn what_never_stops_waking_itself_lets_others_run() {
        let outer = Arc::new(Counted::default());
        let waker = Waker::from(Arc::clone(&outer));
        let mut polls = 0;
        let mut future = AtOnce::new(poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(future);
        assert_eq!((polls, outer.count()), (MAX_POLLS, 1));
    }

    #[test]
    fn a_wake_from_outside_reaches_the_last_poller_once() {
        let (first, second) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
        let mut kept = None;
        let mut future = AtOnce::new(poll_fn(|context| {
            kept = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        for outer in [&first, &second] {
            let waker = Waker::from(Arc::clone(outer));
            let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(future);
        let kept = kept.expect("it was polled");
        kept.wake_by_ref();
        kept.wake();
        assert_eq!((first.count(), second.count()), (0, 1));
    }
}
