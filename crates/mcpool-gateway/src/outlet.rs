//! The way to the client of one request: notifications on its stream, and questions that the
//! client answers by a message of its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpool_core::{Notification, Raw, RawObject, Result, RpcError, encode_notification};
use tokio::sync::{mpsc, oneshot};

use crate::{replica::Replica, seal::SealingKeys};

/// Messages of one request that wait for its stream. Progress and logs over it are dropped, and
/// questions wait.
pub(crate) const MESSAGE_QUEUE: usize = 64;

/// How the id of a question begins, and what the rest of it is sealed for.
const ID_PREFIX: &str = "ask-";
const PURPOSE: &str = "mcpool question 1";

/// Questions to clients that are open at once, in all. More are refused.
const MAX_QUESTIONS: usize = 4_096;

/// The way to the client of one request. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    messages: mpsc::Sender<String>,
    questions: Arc<Questions>,
    /// Whose answers count: a session, or a connection.
    owner: Arc<str>,
}

impl Outlet {
    pub(crate) fn new(
        messages: mpsc::Sender<String>,
        questions: Arc<Questions>,
        owner: Arc<str>,
    ) -> Self {
        Self {
            messages,
            questions,
            owner,
        }
    }

    /// Notifies the client, unless too much waits for it already.
    pub(crate) fn tell(&self, notification: &Notification) {
        if let Ok(line) = encode_notification(notification) {
            // A client that does not read misses what it cannot use any more.
            let _ = self.messages.try_send(line);
        }
    }

    /// Waits until the message is on its way. `false` when the client is gone.
    pub(crate) async fn send(&self, line: String) -> bool {
        self.messages.send(line).await.is_ok()
    }

    /// Waits until the client is gone.
    pub(crate) async fn closed(&self) {
        self.messages.closed().await;
    }

    /// Asks the client, by a request as it was before MCP 2026-07-28, and waits for its answer.
    ///
    /// Dropping the future withdraws the question.
    ///
    /// # Errors
    /// The client's refusal, or that it cannot be asked.
    pub(crate) async fn ask(
        &self,
        method: &str,
        params: Option<&Raw>,
    ) -> std::result::Result<Raw, RpcError> {
        let gone = || RpcError::new(RpcError::INTERNAL, "the client of this request is gone");
        let (id, answer) = self.questions.open(&self.owner)?;
        let mut request = RawObject::new();
        let mut set = |name: &str, value: Option<Raw>| {
            if let Some(value) = value {
                request.insert(name, value);
            }
        };
        set("jsonrpc", Raw::of("2.0").ok());
        set("id", Some(id.clone()));
        set("method", Raw::of(method).ok());
        set("params", params.cloned());
        let line = request.to_raw().map_err(|_| gone())?;
        let _withdraws = Withdraws(self, id);
        if !self.send(line.get().to_owned()).await {
            return Err(gone());
        }
        tokio::select! {
            answer = answer => answer.unwrap_or_else(|_| Err(gone())),
            () = self.closed() => Err(gone()),
        }
    }
}

/// The questions that clients have not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: Mutex<HashMap<String, Waiting>>,
    /// Who asks, where there are replicas that may get the answer: sealed into each id.
    asker: Option<(SealingKeys, Replica)>,
}

#[derive(Debug)]
struct Waiting {
    owner: Arc<str>,
    answer: oneshot::Sender<Outcome>,
}

/// What a client answers.
type Outcome = std::result::Result<Raw, RpcError>;

/// What comes of a question.
type Answer = oneshot::Receiver<Outcome>;

impl Questions {
    pub(crate) fn new(keys: SealingKeys, replica: Option<Replica>) -> Self {
        Self {
            waiting: Mutex::default(),
            asker: replica.map(|replica| (keys, replica)),
        }
    }

    /// An id that nobody can guess: the answer comes by a request of its own.
    fn id(&self) -> Result<Raw> {
        match &self.asker {
            None => Raw::of(&format!("{ID_PREFIX}{:032x}", rand::random::<u128>())),
            Some((keys, replica)) => {
                let sealed = keys.seal(PURPOSE, replica.as_str().as_bytes())?;
                Raw::of(&format!("{ID_PREFIX}{sealed}"))
            }
        }
    }

    /// The replica that has asked a question.
    pub(crate) fn asked_by(&self, id: &Raw) -> Option<Replica> {
        let (keys, _) = self.asker.as_ref()?;
        let id: String = id.parse().ok()?;
        let address = keys.open(PURPOSE, id.strip_prefix(ID_PREFIX)?)?;
        Replica::new(std::str::from_utf8(&address).ok()?).ok()
    }

    fn open(&self, owner: &Arc<str>) -> std::result::Result<(Raw, Answer), RpcError> {
        let busy = || RpcError::new(RpcError::INTERNAL, "too many questions are open");
        let id = self.id().map_err(|_| busy())?;
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_QUESTIONS {
            return Err(busy());
        }
        let (sender, receiver) = oneshot::channel();
        waiting.insert(
            id.get().to_owned(),
            Waiting {
                owner: Arc::clone(owner),
                answer: sender,
            },
        );
        Ok((id, receiver))
    }

    /// A client answers. `false` when it was not asked that.
    pub(crate) fn answered(&self, owner: &str, id: &Raw, outcome: Outcome) -> bool {
        let mut waiting = self.waiting();
        if waiting.get(id.get()).is_none_or(|w| &*w.owner != owner) {
            return false;
        }
        match waiting.remove(id.get()) {
            // The question was withdrawn meanwhile: nobody waits.
            Some(waiting) => waiting.answer.send(outcome).is_ok(),
            None => false,
        }
    }

    /// `true` when it was still open.
    fn close(&self, id: &Raw) -> bool {
        self.waiting().remove(id.get()).is_some()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notifies the client that nobody waits for its answer any more.
struct Withdraws<'a>(&'a Outlet, Raw);

impl Drop for Withdraws<'_> {
    fn drop(&mut self) {
        let Self(outlet, id) = self;
        if outlet.questions.close(id) {
            let mut params = RawObject::new();
            params.insert("requestId", id.clone());
            outlet.tell(&Notification::new(
                "notifications/cancelled",
                params.to_raw().ok(),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet() -> (Outlet, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(MESSAGE_QUEUE);
        (Outlet::new(sender, Arc::default(), "me".into()), receiver)
    }

    fn id_of(line: &str) -> Raw {
        let line = Raw::from_text(line.to_owned()).unwrap();
        RawObject::parse(&line).unwrap().get("id").unwrap().clone()
    }

    #[tokio::test]
    async fn a_question_is_answered_by_its_owner_alone() {
        let (outlet, mut stream) = outlet();
        let asking = outlet.clone();
        let ask = tokio::spawn(async move { asking.ask("roots/list", None).await });
        let id = id_of(&stream.recv().await.unwrap());
        let answered = |owner: &str| {
            outlet
                .questions
                .answered(owner, &id, Ok(Raw::empty_object()))
        };
        // Anybody who guesses the id does not get to answer, and ends nothing.
        assert!(!answered("other"));
        assert!(answered("me"));
        assert_eq!(ask.await.unwrap().unwrap(), Raw::empty_object());
        assert!(!answered("me"));
    }

    #[test]
    fn a_question_says_who_asks() {
        let replica = Replica::new("http://10.0.0.7:7332").unwrap();
        let keys = SealingKeys::random();
        let mine = Questions::new(keys.clone(), Some(replica.clone()));
        let others = Questions::new(keys, Some(Replica::new("http://10.0.0.8:7332").unwrap()));
        let (id, _answer) = mine.open(&"me".into()).unwrap();
        assert_eq!(others.asked_by(&id), Some(replica));
        let (alone, _answer) = Questions::default().open(&"me".into()).unwrap();
        assert_eq!(others.asked_by(&alone), None);
    }

    #[tokio::test]
    async fn a_question_that_is_dropped_is_withdrawn() {
        let (outlet, mut stream) = outlet();
        let asking = outlet.clone();
        let ask = tokio::spawn(async move { asking.ask("roots/list", None).await });
        let id = id_of(&stream.recv().await.unwrap());
        ask.abort();
        let cancelled = stream.recv().await.unwrap();
        assert!(cancelled.contains("notifications/cancelled"));
        assert!(cancelled.contains(id.get()));
        assert!(outlet.questions.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_its_questions() {
        let (outlet, mut stream) = outlet();
        let ask = tokio::spawn(async move { outlet.ask("roots/list", None).await });
        stream.recv().await.unwrap();
        drop(stream);
        assert!(ask.await.unwrap().is_err());
    }
}
