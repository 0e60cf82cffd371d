//! Clients that hear of changes, and how long that takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;

use crate::{Outcome, posting::Posting};

/// Connects at a time.
const AT_ONCE: usize = 50;
/// Nobody has heard anything for so long: what went on is over.
const QUIET: Duration = Duration::from_secs(1);
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients with a session and a standing stream each, in turn at these gateways.
pub(super) struct Clients {
    board: Arc<Board>,
    count: usize,
    /// From the first connect to the last.
    pub(super) took: Duration,
    _hearing: JoinSet<()>,
}

/// Who has heard of a change.
struct Board {
    since: Instant,
    heard: Vec<AtomicBool>,
    count: AtomicUsize,
    /// Microseconds after `since`: the first client of the change, the one in the middle, the last.
    first: AtomicU64,
    middle: AtomicU64,
    last: AtomicU64,
}

/// When clients heard of a change.
pub(super) struct Heard {
    pub(super) first: Duration,
    pub(super) middle: Duration,
    pub(super) last: Duration,
}

impl Board {
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn hears(&self, client: usize) {
        let now = self.now();
        if self.heard[client].swap(true, Ordering::SeqCst) {
            return;
        }
        // Before it is counted: who sees the full count reads the times.
        self.first.fetch_min(now, Ordering::SeqCst);
        self.last.fetch_max(now, Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) <= self.heard.len() / 2 {
            self.middle.fetch_max(now, Ordering::SeqCst);
        }
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn wipe(&self) {
        self.heard
            .iter()
            .for_each(|heard| heard.store(false, Ordering::SeqCst));
        self.count.store(0, Ordering::SeqCst);
        self.first.store(u64::MAX, Ordering::SeqCst);
        self.middle.store(0, Ordering::SeqCst);
        self.last.store(0, Ordering::SeqCst);
    }
}

impl Clients {
    pub(super) async fn connect(origins: &[String], count: usize) -> Outcome<Self> {
        let board = Arc::new(Board {
            since: Instant::now(),
            heard: (0..count).map(|_| AtomicBool::default()).collect(),
            count: AtomicUsize::new(0),
            first: AtomicU64::new(0),
            middle: AtomicU64::new(0),
            last: AtomicU64::new(0),
        });
        let began = Instant::now();
        // Requests share connections; each stream has one of its own.
        let http = crate::http::pooled()?;
        let streams: Vec<reqwest::Response> = stream::iter(0..count)
            .map(|client| {
                let url = format!("{}/mcp", origins[client % origins.len()]);
                let http = http.clone();
                async move { Posting::connect(&http, &url).await?.listen().await }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let took = began.elapsed();
        let mut hearing = JoinSet::new();
        for (client, mut stream) in streams.into_iter().enumerate() {
            let board = Arc::clone(&board);
            hearing.spawn(async move {
                while let Ok(Some(chunk)) = stream.chunk().await {
                    if String::from_utf8_lossy(&chunk).contains("tools/list_changed") {
                        board.hears(client);
                    }
                }
            });
        }
        Ok(Self {
            board,
            count,
            took,
            _hearing: hearing,
        })
    }

    /// Makes a change, and waits until every client has heard of it.
    pub(super) async fn hear(&self, change: impl AsyncFnOnce() -> Outcome) -> Outcome<Heard> {
        // What came before is over.
        loop {
            self.board.wipe();
            tokio::time::sleep(QUIET).await;
            if self.board.count.load(Ordering::SeqCst) == 0 {
                break;
            }
        }
        let at = self.board.now();
        change().await?;
        let began = Instant::now();
        while self.board.count.load(Ordering::SeqCst) < self.count {
            if began.elapsed() > PATIENCE {
                let heard = self.board.count.load(Ordering::SeqCst);
                return Err(format!("{heard} of {} clients heard of it", self.count).into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let after = |moment: &AtomicU64| {
            Duration::from_micros(moment.load(Ordering::SeqCst).saturating_sub(at))
        };
        Ok(Heard {
            first: after(&self.board.first),
            middle: after(&self.board.middle),
            last: after(&self.board.last),
        })
    }
}
