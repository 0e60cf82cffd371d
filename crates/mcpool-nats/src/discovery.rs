//! Which workers a pool has now, and which servers they have: asked, not remembered.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use mcpool_core::Result;
use tokio::time::{Instant, timeout_at};

use crate::{
    carrier::Carrier,
    head::{Head, Kind, VERSION},
    subjects,
    worker::Inventory,
};

/// Workers whose answers are read. Further ones are left out.
const MAX_WORKERS: usize = 4_096;

/// Servers of one worker that are taken from its answer. Further ones are left out: one worker must not
/// take the place of those of all others.
const MAX_WORKER_SERVERS: usize = 2_000;

/// Bytes of all answers to one question. Further answers are left out.
const MAX_ANSWERS_BYTES: usize = 64 * 1024 * 1024;

/// Asks all workers of the pool what they have, and waits so long for answers. Sorted by worker.
///
/// Dropping the future gives it up.
///
/// # Errors
/// `Connect` when NATS cannot be asked. That there is no worker is an empty list.
pub async fn discover(carrier: &Carrier, within: Duration) -> Result<Vec<Inventory>> {
    let until = Instant::now() + within.min(Duration::from_secs(60));
    let inbox = carrier.client().new_inbox();
    let mut answers = carrier.subscribe(inbox.clone()).await?;
    let headers = Head::new(Kind::Discover).headers();
    let subject = subjects::pool(carrier.pool());
    carrier
        .publish(subject, Some(inbox), headers, Bytes::new())
        .await?;
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    while found.len() < MAX_WORKERS {
        let Ok(Some(message)) = timeout_at(until, answers.next()).await else {
            break;
        };
        if message.status.is_some() {
            // No responders: there is no worker.
            break;
        }
        bytes = bytes.saturating_add(message.payload.len());
        if bytes > MAX_ANSWERS_BYTES {
            tracing::warn!(pool = %carrier.pool(), "the workers say too much; the rest is left out");
            break;
        }
        let head = Head::read(message.headers.as_ref());
        let fits = |head: Head| head.kind == Kind::Workers && VERSION.understands(head.version);
        if head.is_some_and(fits)
            && let Ok(mut inventory) = serde_json::from_slice::<Inventory>(&message.payload)
        {
            inventory.keep(MAX_WORKER_SERVERS);
            found.push(inventory);
        }
    }
    found.sort_by(|one, other| one.worker.cmp(&other.worker));
    Ok(found)
}
