//! A task whose work can be ended from outside, with no runtime running as well.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_core::future::BoxFuture;
use tokio::{runtime::Handle, task::AbortHandle};

/// A task that a runtime drives. Aborting a task only asks its runtime to drop it, which a runtime
/// that nobody drives never does; here [`stop`](Task::stop) drops what the task holds.
#[derive(Clone)]
pub(crate) struct Task {
    work: Arc<Work>,
    abort: AbortHandle,
}

struct Work(Mutex<Option<BoxFuture<'static, ()>>>);

impl Work {
    /// Ends the work, unless it is being polled right now.
    fn end(&self) {
        if let Ok(mut slot) = self.0.try_lock() {
            let work = slot.take();
            drop(slot);
            drop(work);
        }
    }
}

/// What the runtime holds of it.
struct Driven(Arc<Work>);

impl Future for Driven {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(work) = slot.as_mut() else {
            return Poll::Ready(());
        };
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            let work = slot.take();
            drop(slot);
            drop(work);
        }
        polled
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // The runtime is going down, or the task was aborted, or it panicked.
        self.0.end();
    }
}

impl Task {
    /// Begins the work. When the runtime is going down, it is dropped at once.
    pub(crate) fn spawn(runtime: &Handle, work: BoxFuture<'static, ()>) -> Self {
        let work = Arc::new(Work(Mutex::new(Some(work))));
        let abort = runtime.spawn(Driven(Arc::clone(&work))).abort_handle();
        Self { work, abort }
    }

    /// Ends the work and drops what it holds. Only while another thread polls it, or when it is
    /// what calls this, is the drop left to its runtime.
    pub(crate) fn stop(&self) {
        self.abort.abort();
        self.work.end();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn work() -> (BoxFuture<'static, ()>, Arc<()>) {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let work = async move {
            std::future::pending::<()>().await;
            drop(inside);
        };
        (work.boxed(), held)
    }

    #[test]
    fn what_it_holds_is_dropped_though_nobody_drives_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (work, held) = work();
        let task = Task::spawn(runtime.handle(), work);
        task.stop();
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn what_it_holds_is_dropped_with_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (work, held) = work();
        let _task = Task::spawn(runtime.handle(), work);
        drop(runtime);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_panic_drops_what_it_holds() {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let work = async move {
            let _inside = inside;
            tokio::task::yield_now().await;
            panic!("as planned");
        };
        let task = Task::spawn(&Handle::current(), work.boxed());
        while !task.abort.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
