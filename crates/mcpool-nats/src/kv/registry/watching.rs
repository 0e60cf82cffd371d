//! The registry as somebody watches it.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::kv::{Entry, Operation};
use futures::StreamExt as _;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Bucket, FleetSnapshot, snapshot::Reading};

/// How often silence is looked for.
const TICK: Duration = Duration::from_secs(1);

/// The pause before a watch that ended is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// The workers of a pool, as they change. When JetStream is away it shows what it knew; the
/// workers are then shown as gone after 20 s. Dropping it ends the watch.
#[derive(Debug)]
pub struct FleetWatch {
    known: watch::Receiver<Known>,
    _watching: DropGuard,
}

/// What is known of the pool.
#[derive(Debug, Default)]
struct Known {
    snapshot: Arc<FleetSnapshot>,
    /// All is in it that was there when the watch began.
    caught_up: bool,
}

impl FleetWatch {
    pub(super) fn begin(bucket: Bucket) -> Self {
        let (sender, known) = watch::channel(Known::default());
        let ended = CancellationToken::new();
        let until = ended.clone();
        let watching = async move { until.run_until_cancelled(watch(bucket, sender)).await };
        tokio::spawn(watching);
        Self {
            known,
            _watching: ended.drop_guard(),
        }
    }

    /// The pool as it is known now.
    #[must_use]
    pub fn current(&mut self) -> Arc<FleetSnapshot> {
        Arc::clone(&self.known.borrow_and_update().snapshot)
    }

    /// Whether all is in it that was there when the watch began. A registry with nothing in it never
    /// says so.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.known.borrow().caught_up
    }

    /// Waits until it is another than [`current`](Self::current) last gave, and gives it.
    ///
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Arc<FleetSnapshot> {
        if self.known.changed().await.is_err() {
            // The runtime ends.
            std::future::pending::<()>().await;
        }
        self.current()
    }
}

async fn watch(bucket: Bucket, sender: watch::Sender<Known>) {
    let (began, mut reading) = (Instant::now(), Reading::default());
    let mut caught_up = false;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        // Without the catalogs: they are read when they are needed.
        match bucket.watch_many(&["worker.>", "server.>"]).await {
            Ok(mut entries) => loop {
                let mut changed = tokio::select! {
                    _ = ticks.tick() => reading.tick(began.elapsed()),
                    entry = entries.next() => match entry {
                        Some(Ok(entry)) => take(&mut reading, began.elapsed(), &entry, &mut caught_up),
                        Some(Err(_)) | None => break,
                    },
                };
                // One snapshot for what is there already.
                while let Some(Some(Ok(entry))) = futures::FutureExt::now_or_never(entries.next()) {
                    changed |= take(&mut reading, began.elapsed(), &entry, &mut caught_up);
                }
                if changed {
                    sender.send_replace(known(&reading, caught_up));
                }
            },
            Err(error) => tracing::debug!(%error, "the registry cannot be watched"),
        }
        tokio::time::sleep(PAUSE).await;
        if reading.tick(began.elapsed()) {
            sender.send_replace(known(&reading, caught_up));
        }
    }
}

fn known(reading: &Reading, caught_up: bool) -> Known {
    Known {
        snapshot: Arc::new(reading.snapshot().clone()),
        caught_up,
    }
}

/// Takes an entry in; gives whether the snapshot changed.
fn take(reading: &mut Reading, now: Duration, entry: &Entry, caught_up: &mut bool) -> bool {
    let is_put = entry.operation == Operation::Put;
    let value = is_put.then_some(&*entry.value);
    let mut changed = reading.apply(now, &entry.key, value);
    if entry.delta == 0 && !std::mem::replace(caught_up, true) {
        // Who waits for all of it hears of it, whatever the last entry was.
        changed = true;
    }
    changed
}
