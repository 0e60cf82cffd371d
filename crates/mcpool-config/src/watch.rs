//! Reloading when files change: validate first, keep what runs when the new text is broken.

mod folders;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use futures_core::Stream;
use mcpool_core::{Error, ErrorKind, Result, ServerSpec};
use notify::{
    EventKind,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;

use self::folders::{Folders, Unwatched};
use crate::{
    loader::{Loaded, Loader},
    problem::Problem,
    problems::Problems,
    settings::PoolSettings,
};

/// How long a directory must be quiet before its files are read. Editors write in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// When they are read although it is not quiet: something else may write there all the time.
const AT_LATEST: Duration = Duration::from_secs(1);

/// How many reloads may wait for a slow reader. A full queue holds the watcher back, and what it
/// then reads is the newest state: nothing is lost but states in between.
const QUEUE: usize = 4;

/// What a change of the files led to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reload {
    /// The new configuration is good: give `servers` to the manager's `apply`.
    Applied(Arc<Loaded>),
    /// It is not: what runs goes on as it is.
    Rejected {
        /// What is wrong.
        problems: Vec<Problem>,
        /// Why nothing could be loaded at all, when that is so.
        error: Option<Error>,
    },
}

impl Reload {
    /// Why it was rejected, in one error; `None` when it was not.
    #[must_use]
    pub fn rejection(&self) -> Option<Error> {
        match self {
            Self::Applied(_) => None,
            Self::Rejected {
                error: Some(error), ..
            } => Some(error.clone()),
            Self::Rejected { problems, .. } => {
                let errors = problems.iter().filter(|problem| problem.is_error());
                Some(Problems(errors.cloned().collect()).into_error())
            }
        }
    }
}

/// Watches the files of a [`Loader`]. A stream of [`Reload`]s.
///
/// It watches the directories that the files lie in, so that an editor that saves by renaming, a
/// file that is removed and made again, and a symbolic link that is turned are all seen; behind
/// links also the directories of each link on the way and of the file itself. A pipe, a socket or
/// a device is never read. Dropping it stops the watching; its thread ends by itself.
pub struct Watcher {
    reloads: mpsc::Receiver<Reload>,
    /// Ends its thread when it is dropped.
    _folders: Arc<Mutex<Folders>>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl Watcher {
    /// Loads, and watches from then on. No change after the load is missed: the watching begins
    /// before it.
    ///
    /// # Errors
    /// What [`Loader::load`] says, also for a pipe that was named, which is not read then;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when a directory cannot be watched.
    pub fn start(loader: Loader) -> Result<(Loaded, Self)> {
        let loader = loader.refusing_pipes();
        // One place: what comes while somebody is about to look is seen then.
        let (changed, changes) = sync_channel(1);
        let tell = move |event: notify::Result<notify::Event>| {
            if is_change(&event) {
                let _ = changed.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(tell).map_err(|error| {
            Error::new(
                ErrorKind::InvalidArgument,
                "files cannot be watched on this system",
            )
            .with_source(error)
        })?;
        let mut folders = Folders::new(watcher);
        if let Some(Unwatched { folder, error }) = folders.follow(&loader).into_iter().next() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the directory {} cannot be watched", folder.display()),
            )
            .with_source(error));
        }
        let loaded = loader.load()?;
        let (sender, reloads) = mpsc::channel(QUEUE);
        let running = Running::new(loader, &loaded);
        let folders = Arc::new(Mutex::new(folders));
        let weak = Arc::downgrade(&folders);
        thread::Builder::new()
            .name("mcpool-watch".to_owned())
            .spawn(move || follow(&changes, &weak, running, &sender))
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "no thread can be started").with_source(error)
            })?;
        Ok((
            loaded,
            Self {
                reloads,
                _folders: folders,
            },
        ))
    }

    /// The next reload. Cancel-safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Reload> {
        self.reloads.recv().await
    }
}

impl Stream for Watcher {
    type Item = Reload;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Reload>> {
        self.reloads.poll_recv(cx)
    }
}

/// Whether something may have changed. Our own reading has not; an error of the watcher may mean
/// that events were lost.
fn is_change(event: &notify::Result<notify::Event>) -> bool {
    match event.as_ref().map(|event| event.kind) {
        Ok(EventKind::Access(access)) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Looks after each change until the watcher is dropped.
fn follow(
    changes: &Receiver<()>,
    folders: &Weak<Mutex<Folders>>,
    mut running: Running,
    reloads: &mpsc::Sender<Reload>,
) {
    while changes.recv().is_ok() {
        let first = Instant::now();
        while first.elapsed() < AT_LATEST {
            match changes.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        // A link may lead elsewhere now. What changes there after the look is seen, since the
        // watching begins before it.
        let Some(folders) = folders.upgrade() else {
            return;
        };
        for Unwatched { folder, error } in folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .follow(&running.loader)
        {
            tracing::warn!(
                folder = %folder.display(), %error,
                "the directory cannot be watched; changes of the config in it are not seen"
            );
        }
        drop(folders);
        if let Some(reload) = running.look()
            && reloads.blocking_send(reload).is_err()
        {
            return;
        }
    }
}

/// What runs, as far as the watcher knows.
struct Running {
    loader: Loader,
    servers: Vec<ServerSpec>,
    pool: PoolSettings,
    /// What was last seen, to say a thing once.
    last: Seen,
}

#[derive(PartialEq)]
enum Seen {
    Good,
    Bad(String),
}

impl Running {
    fn new(loader: Loader, loaded: &Loaded) -> Self {
        Self {
            loader,
            servers: loaded.servers.clone(),
            pool: loaded.pool().clone(),
            last: Seen::Good,
        }
    }

    /// Loads again; `None` when there is nothing to report.
    fn look(&mut self) -> Option<Reload> {
        match self.loader.load() {
            Err(error) => self.reject(error.to_string(), Vec::new(), Some(error)),
            Ok(loaded) => {
                if self.is_broken(&loaded) {
                    let words: Vec<String> =
                        loaded.problems.iter().map(ToString::to_string).collect();
                    return self.reject(words.join("\n"), loaded.problems, None);
                }
                let recovered = self.last != Seen::Good;
                self.last = Seen::Good;
                let same = loaded.servers == self.servers && *loaded.pool() == self.pool;
                if same && !recovered {
                    return None;
                }
                tracing::info!(servers = loaded.servers.len(), "configuration reloaded");
                self.servers = loaded.servers.clone();
                self.pool = loaded.pool().clone();
                Some(Reload::Applied(Arc::new(loaded)))
            }
        }
    }

    /// Whether applying it would harm: a file that cannot be understood, or a mistake in the
    /// entry of a server that runs.
    fn is_broken(&self, loaded: &Loaded) -> bool {
        loaded.problems.iter().any(|problem| {
            problem.spoils_file()
                || (problem.is_error()
                    && problem.server.as_deref().is_some_and(|name| {
                        self.servers.iter().any(|spec| spec.name.as_str() == name)
                            && loaded.entry(name).is_none()
                    }))
        })
    }

    fn reject(
        &mut self,
        words: String,
        problems: Vec<Problem>,
        error: Option<Error>,
    ) -> Option<Reload> {
        let seen = Seen::Bad(words);
        if self.last == seen {
            return None;
        }
        tracing::warn!(
            problems = problems.len(),
            "the changed configuration is broken; what runs goes on"
        );
        self.last = seen;
        Some(Reload::Rejected { problems, error })
    }
}
