//! Messages from where nothing may wait (progress, log messages), on their way in their order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use mcpool_core::{Notification, encode_notification};
use tokio::sync::Notify;

use crate::outgoing::{About, Outgoing};

/// Messages that may wait, and their bytes. The newest is dropped at the bound.
const MAX_WAITING: usize = 1_024;
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// The queue of one session.
#[derive(Debug, Default)]
pub(super) struct Soon {
    queue: Mutex<Queue>,
    arrived: Notify,
    /// Held by who sends from the queue.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Queue {
    texts: VecDeque<Bytes>,
    bytes: usize,
}

impl Soon {
    /// Puts a notification at the end.
    pub(super) fn push(&self, notification: &Notification) {
        let Ok(text) = encode_notification(notification) else {
            return;
        };
        let mut queue = self.queue();
        if queue.texts.len() >= MAX_WAITING || queue.bytes + text.len() > MAX_WAITING_BYTES {
            tracing::debug!(method = %notification.method, "a notification is left out: NATS is slow");
            return;
        }
        queue.bytes += text.len();
        queue.texts.push_back(text.into());
        drop(queue);
        self.arrived.notify_one();
    }

    /// Sends all that waits. When the future is dropped, what was not sent waits on.
    pub(super) async fn flush(&self, out: &Arc<Outgoing>) {
        if self.queue().texts.is_empty() {
            // Who sends right now has sent, or given up, once the turn is free.
            let _turn = self.turn.lock().await;
            return;
        }
        let _turn = self.turn.lock().await;
        loop {
            let Some(text) = self.queue().texts.front().cloned() else {
                return;
            };
            let bytes = text.len();
            // A notification that is lost harms nobody: its failure is the session's.
            let _ = out.message(text, About::default()).await;
            let mut queue = self.queue();
            queue.texts.pop_front();
            queue.bytes = queue.bytes.saturating_sub(bytes);
        }
    }

    /// Sends what comes, for ever.
    pub(super) async fn run(&self, out: &Arc<Outgoing>) {
        loop {
            self.arrived.notified().await;
            self.flush(out).await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
