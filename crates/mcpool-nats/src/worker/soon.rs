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

/// What a server says when a list of it has changed.
pub(super) const LISTS: [&str; 3] = [
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
];

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
    /// How many were sent. What is being sent is at the front still, and does not count.
    sent: u64,
    /// Something was left out.
    missed: bool,
}

impl Queue {
    /// The next to be sent. What was left out may have been the change of a list: after the rest,
    /// each list is said to have changed.
    fn front(&mut self) -> Option<Bytes> {
        if self.texts.is_empty() && std::mem::take(&mut self.missed) {
            let changed = |method: &&str| encode_notification(&Notification::new(*method, None));
            let texts = LISTS.iter().filter_map(|method| changed(method).ok());
            self.texts.extend(texts.map(Bytes::from));
            self.bytes = self.texts.iter().map(Bytes::len).sum();
        }
        self.texts.front().cloned()
    }
}

impl Soon {
    /// Puts a notification at the end.
    pub(super) fn push(&self, notification: &Notification) {
        let Ok(text) = encode_notification(notification) else {
            return;
        };
        let mut queue = self.queue();
        if queue.texts.len() >= MAX_WAITING || queue.bytes + text.len() > MAX_WAITING_BYTES {
            queue.missed = true;
            tracing::debug!(method = %notification.method, "a notification is left out: NATS is slow");
            return;
        }
        queue.bytes += text.len();
        queue.texts.push_back(text.into());
        drop(queue);
        self.arrived.notify_one();
    }

    /// Sends all that waits now, and leaves what comes meanwhile to [`run`](Self::run): an answer
    /// waits for what was said before it, and for no more. When the future is dropped, what was
    /// not sent waits on.
    pub(super) async fn flush(&self, out: &Arc<Outgoing>) {
        let until = self.end();
        // Also with nothing to send: who sends right now has sent, or given up, then.
        let _turn = self.turn.lock().await;
        while let Some(text) = self.next(until) {
            let bytes = text.len();
            // A notification that is lost harms nobody: its failure is the session's.
            let _ = out.message(text, About::default()).await;
            self.sent(bytes);
        }
    }

    /// How many will have been sent when all that waits now has.
    fn end(&self) -> u64 {
        let queue = self.queue();
        queue.sent.saturating_add(queue.texts.len() as u64)
    }

    /// The next to be sent, until so many were.
    fn next(&self, until: u64) -> Option<Bytes> {
        let mut queue = self.queue();
        let is_done = queue.sent >= until;
        let text = queue.front()?;
        if is_done {
            self.arrived.notify_one();
            return None;
        }
        Some(text)
    }

    fn sent(&self, bytes: usize) {
        let mut queue = self.queue();
        queue.texts.pop_front();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        queue.sent = queue.sent.saturating_add(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_it_sends_is_left_for_later() {
        let soon = Soon::default();
        let notification = Notification::new("notifications/message", None);
        soon.push(&notification);
        soon.push(&notification);
        // Awake for what was pushed.
        soon.arrived.notified().await;
        let until = soon.end();
        let mut sent = 0;
        while let Some(text) = soon.next(until) {
            soon.sent(text.len());
            sent += 1;
            // A server that says something new for all that is sent.
            if sent <= 10 {
                soon.push(&notification);
            }
        }
        assert_eq!(sent, 2);
        assert_eq!(soon.end(), 4);
        soon.arrived.notified().await;
    }

    #[test]
    fn what_is_left_out_is_followed_by_a_change_of_every_list() {
        let soon = Soon::default();
        for _ in 0..=MAX_WAITING {
            soon.push(&Notification::new("notifications/message", None));
        }
        let mut queue = soon.queue();
        let mut sent = Vec::new();
        while let Some(text) = queue.front() {
            sent.push(String::from_utf8(text.to_vec()).unwrap());
            queue.texts.pop_front();
        }
        assert_eq!(sent.len(), MAX_WAITING + LISTS.len());
        for (text, method) in sent[MAX_WAITING..].iter().zip(LISTS) {
            assert!(text.contains(method), "{text}");
        }
    }
}
