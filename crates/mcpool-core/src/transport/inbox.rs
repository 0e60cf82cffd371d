//! What a server says by itself, on its way from a transport's reader to the session: bounded, and
//! the reader never waits.
//!
//! | what | bound | when it is full |
//! |---|---|---|
//! | requests of the server | [`MAX_OPEN_SERVER_REQUESTS`] | refused: the transport answers with an error |
//! | `list_changed`, session renewed | one of each kind | a second one while the first waits is the first |
//! | resource updates | one of each URI, 1 024 URIs | the newest is dropped and counted |
//! | cancellations of the server's requests | 1 024 | the newest is dropped and counted |
//! | log messages and the rest | 256, and 4 MiB of parameters | the newest is dropped and counted |

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Deserialize;
use tokio::sync::Notify;

use crate::{Notification, Raw, ServerRequest};

/// How many requests of a server may wait for their answers at once.
pub const MAX_OPEN_SERVER_REQUESTS: usize = 64;

/// Log messages and other notifications that may wait.
const MAX_OTHERS: usize = 256;
/// Bytes of their parameters.
const MAX_OTHER_BYTES: usize = 4 * 1024 * 1024;
/// URIs of resource updates, and cancellations, that may wait.
const MAX_KEYED: usize = 1_024;

/// Something that a server says by itself.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Incoming {
    /// A request of the server. The caller that takes it owes an answer
    /// ([`Transport::respond`](crate::Transport::respond)).
    Request(ServerRequest),
    /// A notification.
    Notification(Notification),
    /// The transport had to begin a new session on the living connection (MCP 2025-11-25,
    /// "Session Management"). It has already restored what it saw set up on the old one: the log
    /// level and resource subscriptions. Anything may have changed meanwhile.
    SessionRenewed,
}

/// The session's end. Dropping it lets everything further pass away.
#[derive(Debug)]
pub struct Inbox(Arc<SharedInbox>);

/// The transport's end. Clones share the queue; the inbox ends when the last is dropped, or at
/// [`finish`](InboxSender::finish).
#[derive(Debug)]
pub struct InboxSender(Arc<SharedInbox>);

#[derive(Debug)]
struct SharedInbox {
    state: Mutex<InboxState>,
    arrived: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct InboxState {
    queue: VecDeque<Incoming>,
    /// What waits in the queue of those of which one is enough: a method, or a method and a URI.
    waiting: HashSet<String>,
    others: usize,
    other_bytes: usize,
    /// The ids of the server's requests that want an answer.
    open_requests: Vec<Raw>,
    senders: usize,
    finished: bool,
}

impl Inbox {
    /// A queue, and the transport's end of it.
    #[must_use]
    pub fn channel() -> (InboxSender, Inbox) {
        let shared = Arc::new(SharedInbox {
            state: Mutex::new(InboxState {
                senders: 1,
                ..InboxState::default()
            }),
            arrived: Notify::new(),
            dropped: AtomicU64::new(0),
        });
        (InboxSender(Arc::clone(&shared)), Inbox(shared))
    }

    /// The next thing that the server says; `None` when the connection has ended and everything
    /// was given. Cancel-safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            {
                let mut state = self.0.state();
                if let Some(item) = state.take() {
                    return Some(item);
                }
                if state.finished || state.senders == 0 {
                    return None;
                }
            }
            // One waiter at a time, and `notify_one` keeps a permit: nothing is missed.
            self.0.arrived.notified().await;
        }
    }
}

impl InboxSender {
    /// Hands over a request of the server.
    ///
    /// # Errors
    /// Gives it back when too many are open: the transport refuses it. A request counts as open
    /// until it is [`answered`](Self::answered), or until the server cancels it.
    pub fn request(&self, request: ServerRequest) -> Result<(), ServerRequest> {
        let mut state = self.0.state();
        if state.open_requests.len() >= MAX_OPEN_SERVER_REQUESTS {
            return Err(request);
        }
        state.open_requests.push(request.id.clone());
        state.queue.push_back(Incoming::Request(request));
        drop(state);
        self.0.arrived.notify_one();
        Ok(())
    }

    /// Whether the request of the server with this id still wants an answer.
    #[must_use]
    pub fn is_open(&self, id: &Raw) -> bool {
        self.0.state().open_requests.contains(id)
    }

    /// The request of the server with this id was answered.
    pub fn answered(&self, id: &Raw) {
        self.0.state().settle(id);
    }

    /// Hands over a notification.
    pub fn notification(&self, notification: Notification) {
        let mut state = self.0.state();
        if let Some(id) = cancelled(&notification) {
            state.settle(&id);
        }
        let kept = match key(&notification) {
            Some(key) => {
                if state.waiting.contains(&key) {
                    return;
                }
                let room = state.waiting.len() < MAX_KEYED;
                room && state.waiting.insert(key)
            }
            None => {
                let bytes = notification.params.as_ref().map_or(0, Raw::len);
                let room = state.others < MAX_OTHERS
                    && state.other_bytes.saturating_add(bytes) <= MAX_OTHER_BYTES;
                if room {
                    state.others += 1;
                    state.other_bytes += bytes;
                }
                room
            }
        };
        if !kept {
            drop(state);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.queue.push_back(Incoming::Notification(notification));
        drop(state);
        self.0.arrived.notify_one();
    }

    /// Reports that a new session was begun. Never lost.
    pub fn session_renewed(&self) {
        let mut state = self.0.state();
        if !state.queue.contains(&Incoming::SessionRenewed) {
            state.queue.push_back(Incoming::SessionRenewed);
        }
        drop(state);
        self.0.arrived.notify_one();
    }

    /// Ends the inbox once what waits was taken.
    pub fn finish(&self) {
        self.0.state().finished = true;
        self.0.arrived.notify_one();
    }

    /// How many notifications were dropped because nobody took them in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Clone for InboxSender {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for InboxSender {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders = state.senders.saturating_sub(1);
        drop(state);
        self.0.arrived.notify_one();
    }
}

impl SharedInbox {
    fn state(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InboxState {
    /// A request of the server wants no answer any more.
    fn settle(&mut self, id: &Raw) {
        if let Some(at) = self.open_requests.iter().position(|open| open == id) {
            self.open_requests.swap_remove(at);
        }
    }

    fn take(&mut self) -> Option<Incoming> {
        let item = self.queue.pop_front()?;
        if let Incoming::Notification(notification) = &item {
            match key(notification) {
                Some(key) => {
                    self.waiting.remove(&key);
                }
                None => {
                    let bytes = notification.params.as_ref().map_or(0, Raw::len);
                    self.others -= 1;
                    self.other_bytes -= bytes;
                }
            }
        }
        Some(item)
    }
}

/// What a notification is one of, where one of it is enough.
fn key(notification: &Notification) -> Option<String> {
    #[derive(Deserialize)]
    struct Updated {
        uri: String,
    }
    let params = notification.params.as_ref();
    match notification.method.as_str() {
        "notifications/tools/list_changed"
        | "notifications/prompts/list_changed"
        | "notifications/resources/list_changed" => Some(notification.method.clone()),
        "notifications/resources/updated" => {
            let updated: Updated = params?.parse().ok()?;
            Some(format!("updated {}", updated.uri))
        }
        CANCELLED => Some(format!("cancelled {}", cancelled(notification)?.get())),
        _ => None,
    }
}

const CANCELLED: &str = "notifications/cancelled";

/// Which request a notification cancels.
fn cancelled(notification: &Notification) -> Option<Raw> {
    #[derive(Deserialize)]
    struct Cancelled {
        #[serde(rename = "requestId")]
        id: Raw,
    }
    if notification.method != CANCELLED {
        return None;
    }
    let cancelled: Cancelled = notification.params.as_ref()?.parse().ok()?;
    Some(cancelled.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(method: &str, params: Option<&str>) -> Notification {
        let params = params.map(|text| Raw::from_text(text.to_owned()).unwrap());
        Notification::new(method, params)
    }

    async fn drain(inbox: &mut Inbox) -> Vec<Incoming> {
        let mut all = Vec::new();
        while let Some(item) = inbox.next().await {
            all.push(item);
        }
        all
    }

    #[tokio::test]
    async fn changes_coalesce_until_they_are_taken() {
        let (sender, mut inbox) = Inbox::channel();
        for _ in 0..1_000 {
            sender.notification(notice("notifications/tools/list_changed", None));
            sender.notification(notice(
                "notifications/resources/updated",
                Some(r#"{"uri":"a"}"#),
            ));
            sender.session_renewed();
        }
        assert!(inbox.next().await.is_some());
        sender.notification(notice("notifications/tools/list_changed", None));
        sender.finish();
        assert_eq!(drain(&mut inbox).await.len(), 3);
        assert_eq!(sender.dropped(), 0);
    }

    #[tokio::test]
    async fn logs_are_dropped_and_counted() {
        let (sender, mut inbox) = Inbox::channel();
        for _ in 0..300 {
            sender.notification(notice("notifications/message", Some("{}")));
        }
        assert_eq!(sender.dropped(), 44);
        sender.session_renewed();
        sender.finish();
        let all = drain(&mut inbox).await;
        assert_eq!(all.len(), 257);
        assert_eq!(all.last(), Some(&Incoming::SessionRenewed));
    }

    #[tokio::test]
    async fn requests_over_the_bound_are_given_back_until_one_is_answered() {
        let (sender, mut inbox) = Inbox::channel();
        let id = |n: usize| Raw::of(&n).unwrap();
        let ask = |n| ServerRequest::new(id(n), "roots/list", None);
        for n in 0..MAX_OPEN_SERVER_REQUESTS {
            sender.request(ask(n)).unwrap();
        }
        assert!(sender.request(ask(100)).is_err());
        // Taking it is not answering it.
        assert!(inbox.next().await.is_some());
        assert!(sender.request(ask(100)).is_err());
        sender.answered(&id(7));
        sender.answered(&id(7));
        assert!(sender.request(ask(100)).is_ok());
        assert!(sender.request(ask(101)).is_err());
        assert!(!sender.is_open(&id(7)) && sender.is_open(&id(8)));
        // What the server takes back wants no answer.
        sender.notification(notice(CANCELLED, Some(r#"{"requestId":8}"#)));
        assert!(sender.request(ask(101)).is_ok());
    }

    #[tokio::test]
    async fn it_ends_with_the_last_sender() {
        let (sender, mut inbox) = Inbox::channel();
        let clone = sender.clone();
        drop(sender);
        clone.notification(notice("x", None));
        let reader = tokio::spawn(async move { drain(&mut inbox).await });
        drop(clone);
        assert_eq!(reader.await.unwrap().len(), 1);
    }
}
