//! A future that is polled again at once when it is woken while it is polled.
//!
//! A connection runs its handler inside itself, so each step from one to the other wakes the task
//! that is running. The runtime takes that for a task that yields: it puts it at the end of its
//! queue and wakes another worker to help, which costs more than the step.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

/// Polls in a row, before other tasks have their turn.
const POLLS_IN_A_ROW: usize = 8;

/// Runs the future. Dropping it drops the future.
pub(super) async fn eagerly<F: Future + Unpin>(mut future: F) -> F::Output {
    let gate = Arc::new(Gate::default());
    let waker = Waker::from(Arc::clone(&gate));
    poll_fn(|task| gate.poll(&waker, Pin::new(&mut future), task)).await
}

/// Stands between the future and its task.
#[derive(Default)]
struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    is_polled: bool,
    /// Woken while it was polled.
    is_woken: bool,
    task: Option<Waker>,
}

impl Gate {
    fn poll<F: Future>(
        &self,
        waker: &Waker,
        mut future: Pin<&mut F>,
        task: &Context<'_>,
    ) -> Poll<F::Output> {
        for _ in 0..POLLS_IN_A_ROW {
            self.begin(task.waker());
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if !self.end() {
                return Poll::Pending;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    fn begin(&self, task: &Waker) {
        let mut state = self.state();
        state.is_polled = true;
        state.is_woken = false;
        match &mut state.task {
            Some(known) => known.clone_from(task),
            None => state.task = Some(task.clone()),
        }
    }

    /// Whether it was woken meanwhile. From now on its task is woken.
    fn end(&self) -> bool {
        let mut state = self.state();
        state.is_polled = false;
        state.is_woken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state();
        if state.is_polled {
            state.is_woken = true;
            return;
        }
        let task = state.task.clone();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Wakes itself in each of its first polls, and keeps the last waker that it was given.
    fn waking_itself<'a>(
        times: usize,
        polls: &'a mut usize,
        kept: &'a Mutex<Option<Waker>>,
    ) -> impl Future<Output = ()> + Unpin + 'a {
        poll_fn(move |cx| {
            *polls += 1;
            *kept.lock().unwrap() = Some(cx.waker().clone());
            if *polls <= times {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
    }

    /// Polls once, and says how often it was polled inside and how often its task was woken, then
    /// and by a wake that comes later.
    fn polled(times: usize) -> (usize, usize, usize) {
        let (count, kept) = (Arc::new(Count::default()), Mutex::new(None::<Waker>));
        let waker = Waker::from(Arc::clone(&count));
        let mut polls = 0;
        {
            let mut future = pin!(eagerly(waking_itself(times, &mut polls, &kept)));
            let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending());
        }
        let meanwhile = count.0.load(Ordering::SeqCst);
        let kept = kept.into_inner().unwrap().unwrap();
        kept.wake();
        let later = count.0.load(Ordering::SeqCst) - meanwhile;
        (polls, meanwhile, later)
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_its_task_is_not_woken() {
        assert_eq!(polled(0), (1, 0, 1));
        assert_eq!(polled(3), (4, 0, 1));
        assert_eq!(polled(POLLS_IN_A_ROW - 1), (POLLS_IN_A_ROW, 0, 1));
    }

    #[test]
    fn what_wakes_itself_without_end_gives_way() {
        assert_eq!(polled(usize::MAX), (POLLS_IN_A_ROW, 1, 1));
    }
}
