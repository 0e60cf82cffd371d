//! Has every connection probed after the machine slept.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mcpool_core::EventKind;

use crate::{server::Command, shared::Shared, supervise::suspend::SuspendDetector};

/// How often the clocks are compared. A sleep is noticed so long after the waking at most.
const INTERVAL: Duration = Duration::from_secs(5);

/// Held by the task that watches: when it ends with its runtime, another may begin.
struct Watched(Arc<Shared>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.watching_sleep.store(false, Ordering::Release);
    }
}

/// Watches for the sleep of the machine, once for a whole manager, and has every connection probed
/// after it.
pub(crate) fn watch(shared: &Arc<Shared>) {
    if shared.watching_sleep.swap(true, Ordering::AcqRel) {
        return;
    }
    let watched = Watched(Arc::clone(shared));
    shared.spawn(async move {
        let watched = &watched.0;
        let mut detector = SuspendDetector::new(Arc::clone(&watched.clock));
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = watched.root.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let Some(asleep) = detector.look() else {
                continue;
            };
            tracing::info!(?asleep, "the machine slept; every connection is probed");
            for server in watched.all() {
                watched
                    .events
                    .emit(&server.name, EventKind::Resumed { asleep });
                for instance in &server.instances {
                    // A supervisor that is gone has nothing to probe.
                    let _ = instance.tell(Command::Resumed);
                }
            }
        }
    });
}
