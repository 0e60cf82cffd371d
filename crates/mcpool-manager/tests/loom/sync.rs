//! What the crate's own module of this name has, on loom's: of tokio's primitives what is used.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use loom::sync::Mutex;
pub(crate) use loom::sync::atomic;

/// As tokio's, for one that waits at a time: a notice that nobody waits for is kept.
pub(crate) struct Notify(Mutex<Notice>);

#[derive(Default)]
struct Notice {
    given: bool,
    waiting: Option<Waker>,
}

pub(crate) struct Notified<'a>(&'a Notify);

impl Notify {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Notice::default()))
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified(self)
    }

    pub(crate) fn notify_one(&self) {
        let waiting = {
            let mut notice = self.0.lock().unwrap();
            notice.given = true;
            notice.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    pub(crate) fn notify_waiters(&self) {
        self.notify_one();
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut notice = self.0.0.lock().unwrap();
        if std::mem::take(&mut notice.given) {
            return Poll::Ready(());
        }
        notice.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// As tokio's, but who waits is served in any order.
pub(crate) struct Semaphore(Mutex<Permits>);

struct Permits {
    free: usize,
    waiting: VecDeque<Waker>,
}

pub(crate) struct SemaphorePermit<'a>(&'a Semaphore);

struct Acquire<'a>(&'a Semaphore);

impl Semaphore {
    pub(crate) fn new(free: usize) -> Self {
        Self(Mutex::new(Permits {
            free,
            waiting: VecDeque::new(),
        }))
    }

    pub(crate) async fn acquire(&self) -> Result<SemaphorePermit<'_>, Infallible> {
        Ok(Acquire(self).await)
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = SemaphorePermit<'a>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut permits = self.0.0.lock().unwrap();
        if permits.free > 0 {
            permits.free -= 1;
            return Poll::Ready(SemaphorePermit(self.0));
        }
        permits.waiting.push_back(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        let waiting = {
            let mut permits = self.0.0.lock().unwrap();
            permits.free += 1;
            std::mem::take(&mut permits.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}
