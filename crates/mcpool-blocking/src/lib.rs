//! The connection manager for programs without an async runtime.
//!
//! A [`BlockingManager`] has a runtime of its own, on threads of its own. [`run`](BlockingManager::run)
//! hands asynchronous work to it, any verb of the manager or of a server, and waits on a plain
//! channel: so it may be called from any thread, also from inside an application's own tokio
//! runtime, where it blocks the thread but does not panic.
//!
//! ```
//! # use std::sync::Arc;
//! # use mcpool_testkit::FakeFactory;
//! use std::time::Duration;
//! use mcpool_blocking::{BlockingManager, CancelToken};
//! use mcpool_core::{ErrorKind, ServerSpec, StdioSpec};
//! use mcpool_manager::Refresh;
//!
//! # fn main() -> mcpool_core::Result<()> {
//! # let factory = Arc::new(FakeFactory::new());
//! let pool = BlockingManager::new(factory)?;
//! let specs = vec![ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?];
//! pool.try_run(|manager| async move { manager.start(specs).await })?.all_connected()?;
//! let tools = pool.run(|manager| async move { manager.tools(Refresh::IfStale).await })?;
//! assert_eq!(tools.len(), 1);
//!
//! // Bounded in time, and cancelled by another thread.
//! let cancel = CancelToken::new();
//! let hurried = pool.with_timeout(Duration::from_secs(5)).with_cancel(cancel.clone());
//! hurried.try_run(|manager| async move { manager.call("files__echo", ()).await })?;
//! hurried.with_server("files", |files| async move { files.health_check().await })?;
//! std::thread::spawn(move || cancel.cancel());
//! let endless = hurried.run(|_| std::future::pending::<()>());
//! assert_eq!(endless.unwrap_err().kind(), ErrorKind::Cancelled);
//!
//! pool.shutdown(Duration::from_secs(6))?;
//! # Ok(()) }
//! ```
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use mcpool_core::{ClientFactory, Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use mcpool_manager::{
    ConnectionManager, EventItem, EventStream, ManagerBuilder, ServerHandle, ShutdownReport,
};

/// How long connections may take to close after the last handle was dropped.
const LAST_CLOSE: Duration = Duration::from_secs(6);

/// Ends a blocking verb from another thread. Cloning it gives the same token.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(CancellationToken);

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every verb that runs under this token, and every later one at once. A call in flight
    /// is cancelled at its server.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// A [`ConnectionManager`] for programs without a runtime. See the
/// [crate documentation](crate).
///
/// A handle: cloning it shares the manager. [`with_timeout`](BlockingManager::with_timeout) and
/// [`with_cancel`](BlockingManager::with_cancel) give handles whose verbs are bounded. When the
/// last handle is dropped, everything is closed in the background, within a few seconds.
///
/// Every verb fails with `Timeout` when the handle's timeout passes, with `Cancelled` when its
/// token is cancelled, with `Closed` after the shutdown, and with `InvalidArgument` when it is
/// called from a thread of its own runtime (a progress callback), which it would block for ever.
#[derive(Debug, Clone)]
pub struct BlockingManager {
    manager: ConnectionManager,
    wait: Wait,
    _last: Arc<LastHandle>,
}

/// Where a verb runs, and how long its caller waits for it.
#[derive(Debug, Clone)]
struct Wait {
    runtime: Arc<OwnRuntime>,
    timeout: Option<Duration>,
    cancel: Option<CancelToken>,
}

/// The runtime, and the thread that owns it: dropping a runtime blocks, which is forbidden inside
/// another one, so that only a thread of its own may do it.
#[derive(Debug)]
struct OwnRuntime {
    handle: Handle,
    stop: CancellationToken,
    owner: Mutex<Option<JoinHandle<()>>>,
    ended: Mutex<Option<ShutdownReport>>,
}

/// Ends the runtime when the last handle is gone, no matter who still waits for events.
#[derive(Debug)]
struct LastHandle(CancellationToken);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Wait {
    /// Whether this thread may wait: one of the runtime's own would wait for itself.
    fn outside(&self) -> Result<()> {
        if Handle::try_current().is_ok_and(|here| here.id() == self.runtime.handle.id()) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "a blocking verb was called from a thread of its own runtime",
            ));
        }
        Ok(())
    }

    /// Runs work on the runtime, and waits for its end within the bounds.
    fn run<Fut>(&self, work: impl FnOnce() -> Fut) -> Result<Fut::Output>
    where
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.outside()?;
        let work = {
            let _inside = self.runtime.handle.enter();
            work()
        };
        let (timeout, cancel) = (self.timeout, self.cancel.clone());
        let (sender, receiver) = mpsc::sync_channel(1);
        self.runtime.handle.spawn(async move {
            let cancelled = async {
                match &cancel {
                    Some(token) => token.0.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            let too_late = async {
                match timeout {
                    Some(timeout) => {
                        tokio::time::sleep(timeout).await;
                        timeout
                    }
                    None => std::future::pending().await,
                }
            };
            let result = tokio::select! {
                biased;
                () = cancelled => Err(Error::new(
                    ErrorKind::Cancelled,
                    "the operation was cancelled by its token",
                )),
                output = work => Ok(output),
                timeout = too_late => Err(Error::new(
                    ErrorKind::Timeout,
                    format!("the operation did not end within {timeout:?}"),
                )),
            };
            // The caller cannot go away: it waits.
            let _ = sender.send(result);
        });
        receiver.recv().unwrap_or_else(|_| {
            Err(match self.runtime.stop.is_cancelled() {
                true => Error::new(ErrorKind::Closed, "the blocking manager was shut down"),
                // The panic hook has reported its message.
                false => Error::new(ErrorKind::Internal, "the operation panicked"),
            })
        })
    }
}

impl BlockingManager {
    /// A manager with every default.
    ///
    /// # Errors
    /// `Internal` when no thread can be started.
    pub fn new(factory: Arc<dyn ClientFactory>) -> Result<Self> {
        Self::from_builder(ConnectionManager::builder(factory))
    }

    /// A manager that was set up. Its runtime is its own, whatever the builder was given.
    ///
    /// # Errors
    /// `Internal` when no thread can be started.
    pub fn from_builder(builder: ManagerBuilder) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Internal, "the runtime cannot be started").with_source(error)
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let owner = std::thread::Builder::new()
            .name("mcpool-blocking".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .thread_name("mcpool-worker")
                    .enable_all()
                    .build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // The other end waits.
                        let _ = sender.send(Err(error));
                        return;
                    }
                };
                let manager = builder.with_runtime(runtime.handle().clone()).build();
                let owned = manager.clone();
                // The other end waits.
                let _ = sender.send(Ok((manager, runtime.handle().clone())));
                runtime.block_on(async {
                    stopped.cancelled().await;
                    // What is not closed by then is dropped.
                    let _ = owned.shutdown(LAST_CLOSE).await;
                });
                drop(owned);
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        let (manager, handle) = receiver
            .recv()
            .map_err(|_| Error::new(ErrorKind::Internal, "the runtime's thread has died"))?
            .map_err(failed)?;
        Ok(Self {
            _last: Arc::new(LastHandle(stop.clone())),
            manager,
            wait: Wait {
                runtime: Arc::new(OwnRuntime {
                    handle,
                    stop,
                    owner: Mutex::new(Some(owner)),
                    ended: Mutex::default(),
                }),
                timeout: None,
                cancel: None,
            },
        })
    }

    /// A handle of the same manager whose verbs take at most this long.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let mut handle = self.clone();
        handle.wait.timeout = Some(timeout);
        handle
    }

    /// A handle of the same manager whose verbs this token ends.
    #[must_use]
    pub fn with_cancel(&self, cancel: CancelToken) -> Self {
        let mut handle = self.clone();
        handle.wait.cancel = Some(cancel);
        handle
    }

    /// The manager itself, for the verbs that do not wait.
    #[must_use]
    pub fn manager(&self) -> &ConnectionManager {
        &self.manager
    }

    /// Runs any asynchronous work on the manager's runtime and waits for it. When the timeout
    /// passes or the token is cancelled, the work is dropped.
    ///
    /// # Errors
    /// `Timeout`, `Cancelled`, `Closed`, `InvalidArgument`: see [`BlockingManager`].
    pub fn run<F, Fut>(&self, work: F) -> Result<Fut::Output>
    where
        F: FnOnce(ConnectionManager) -> Fut,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.wait.run(|| work(self.manager.clone()))
    }

    /// As [`run`](Self::run), for work that may fail: its error and those of the waiting are one.
    ///
    /// # Errors
    /// What the work says; those of [`run`](Self::run).
    pub fn try_run<F, Fut, T>(&self, work: F) -> Result<T>
    where
        F: FnOnce(ConnectionManager) -> Fut,
        Fut: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.run(work)?
    }

    /// As [`try_run`](Self::try_run), with one server.
    ///
    /// # Errors
    /// `UnknownServer`; those of [`try_run`](Self::try_run).
    pub fn with_server<F, Fut, T>(&self, name: &str, work: F) -> Result<T>
    where
        F: FnOnce(ServerHandle) -> Fut,
        Fut: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let server = self.manager.server(name)?;
        self.run(|_| work(server))?
    }

    /// [`ConnectionManager::shutdown`], and the end of the runtime and of its threads. Not bounded
    /// by the handle's own timeout. Called again it gives the report of the first time.
    ///
    /// # Errors
    /// `InvalidArgument` on a thread of its own runtime.
    pub fn shutdown(&self, deadline: Duration) -> Result<ShutdownReport> {
        self.wait.outside()?;
        // A caller that comes second waits here for the first one's end.
        let mut ended = lock(&self.wait.runtime.ended);
        if let Some(report) = &*ended {
            return Ok(report.clone());
        }
        let mut unbounded = self.clone();
        unbounded.wait.timeout = None;
        unbounded.wait.cancel = None;
        let report = unbounded.run(move |m| async move { m.shutdown(deadline).await })?;
        *ended = Some(report.clone());
        drop(ended);
        self.wait.runtime.stop.cancel();
        let owner = lock(&self.wait.runtime.owner).take();
        if let Some(owner) = owner {
            // A panic there has been reported by its hook.
            let _ = owner.join();
        }
        Ok(report)
    }

    /// What happens from now on, for a thread to wait for.
    #[must_use]
    pub fn events(&self) -> BlockingEvents {
        BlockingEvents {
            wait: self.wait.clone(),
            stream: Arc::new(tokio::sync::Mutex::new(self.manager.events())),
        }
    }
}

/// The events of a [`BlockingManager`]: an iterator that waits.
///
/// It ends after the manager's shutdown, when its last handle is gone, and when a handle's timeout
/// or token ends the waiting. It does not keep the manager alive.
#[derive(Debug)]
pub struct BlockingEvents {
    wait: Wait,
    stream: Arc<tokio::sync::Mutex<EventStream>>,
}

impl BlockingEvents {
    /// The next event, waiting at most this long; `None` at the end.
    ///
    /// # Errors
    /// `Timeout` when nothing happened.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<EventItem>> {
        let stream = Arc::clone(&self.stream);
        let wait = Wait {
            timeout: Some(timeout),
            ..self.wait.clone()
        };
        wait.run(|| async move { stream.lock().await.recv().await })
    }
}

impl Iterator for BlockingEvents {
    type Item = EventItem;

    fn next(&mut self) -> Option<EventItem> {
        let stream = Arc::clone(&self.stream);
        self.wait
            .run(|| async move { stream.lock().await.recv().await })
            .ok()
            .flatten()
    }
}

/// Takes a lock. A panic inside one of the short critical sections leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
