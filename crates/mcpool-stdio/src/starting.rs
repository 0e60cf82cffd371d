//! A start that may be given up. Starting a process blocks, so it happens on a thread of its own;
//! a caller that gives up waiting for it must not leave a process that lives a moment longer.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::{Error, ErrorKind, Result};

/// How long a drop waits for a start that cannot be called back any more. It takes a millisecond
/// or two, unless the machine is badly loaded; then the process is ended by its thread.
const PATIENCE: Duration = Duration::from_secs(1);

enum Stage<T> {
    /// Waits for a thread.
    Queued,
    Running,
    /// `None` once it was taken.
    Done(Option<Result<T>>),
    GivenUp,
}

struct SharedStart<T> {
    stage: Mutex<Stage<T>>,
    done: Condvar,
}

impl<T> SharedStart<T> {
    fn stage(&self) -> MutexGuard<'_, Stage<T>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the start up when it is dropped.
struct Waiting<T>(Arc<SharedStart<T>>);

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        let stage = self.0.stage();
        let (mut stage, _) = self
            .0
            .done
            .wait_timeout_while(stage, PATIENCE, |stage| matches!(stage, Stage::Running))
            .unwrap_or_else(PoisonError::into_inner);
        let left = std::mem::replace(&mut *stage, Stage::GivenUp);
        drop(stage);
        // A process that nobody took ends here.
        drop(left);
    }
}

/// Runs `start` on a thread for blocking work. Needs a runtime.
///
/// Dropping the future ends what was started before the drop returns, or sees to it that nothing
/// is started.
///
/// # Errors
/// Those of `start`; `Closed` when the runtime takes no more work.
pub(crate) async fn start<T: Send + 'static>(
    start: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let shared = Arc::new(SharedStart {
        stage: Mutex::new(Stage::Queued),
        done: Condvar::new(),
    });
    let waiting = Waiting(Arc::clone(&shared));
    let job = tokio::task::spawn_blocking(move || {
        {
            let mut stage = shared.stage();
            match *stage {
                Stage::Queued => *stage = Stage::Running,
                _ => return,
            }
        }
        let outcome = start();
        let mut stage = shared.stage();
        if matches!(*stage, Stage::Running) {
            *stage = Stage::Done(Some(outcome));
        }
        drop(stage);
        shared.done.notify_all();
    });
    let ended = job.await;
    let outcome = match &mut *waiting.0.stage() {
        Stage::Done(outcome) => outcome.take(),
        _ => None,
    };
    outcome.unwrap_or_else(|| {
        let error = Error::new(ErrorKind::Closed, "the runtime is shutting down");
        Err(match ended {
            Err(source) => error.with_source(source),
            Ok(()) => error,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        task::{Context, Waker},
    };

    use super::*;

    struct Process(Arc<AtomicBool>);

    impl Drop for Process {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_start_that_is_given_up_is_ended_before_the_drop_returns() {
        let ended = Arc::new(AtomicBool::new(false));
        let process = Process(Arc::clone(&ended));
        let (begun, begins) = mpsc::channel();
        let (go, may_go) = mpsc::channel();
        {
            let mut future = pin!(start(move || {
                begun.send(()).unwrap();
                may_go.recv().unwrap();
                Ok(process)
            }));
            let mut context = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut context).is_pending());
            begins.recv().unwrap();
            go.send(()).unwrap();
        }
        assert!(ended.load(Ordering::SeqCst));
    }

    #[test]
    fn a_start_that_waits_for_a_thread_is_called_back() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let (go, may_go) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || may_go.recv());
        {
            let mut future = pin!(start::<()>(|| panic!("it is started")));
            let mut context = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        go.send(()).unwrap();
        runtime.block_on(busy).unwrap().unwrap();
        // The thread has come to the start, and past it.
        runtime
            .block_on(tokio::task::spawn_blocking(|| ()))
            .unwrap();
    }
}
