//! A session with a server, and what it holds there.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, Shared};
use http::{HeaderMap, HeaderValue};
use mcpool_core::{ProtocolVersion, Raw, Result};
use mcpool_http_pool::HttpPeer;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    headers::{self, PROTOCOL_VERSION, SESSION_ID},
    refusal::{Lost, SessionState},
};

/// A renewal under way. All who wait for it get the same.
pub(crate) type Renewal = Shared<BoxFuture<'static, Result<Arc<Session>>>>;

/// How long the first requests of a session wait for the head of the standing stream. Most
/// servers send it at once; some with the first event only.
const STANDING_HEAD: Duration = Duration::from_millis(500);

/// How many subscriptions are set up again in a new session; more are forgotten.
const MAX_SUBSCRIPTIONS: usize = 1_024;

/// One session; also the time before one is begun, and an era without any.
pub(crate) struct Session {
    /// 0 is no session.
    pub(crate) generation: u64,
    pub(crate) id: Option<HeaderValue>,
    pub(crate) version: Option<ProtocolVersion>,
    /// The headers of every POST in it.
    pub(crate) posts: Arc<HeaderMap>,
    pub(crate) standing: Standing,
}

/// What is known of the stream on which the server speaks by itself.
#[derive(Default)]
pub(crate) struct Standing {
    asked: OnceLock<Instant>,
    answered: CancellationToken,
    refused: AtomicBool,
}

impl Session {
    /// No session.
    pub(crate) fn none(peer: &HttpPeer) -> Self {
        Self::new(peer, 0, None, None)
    }

    fn new(
        peer: &HttpPeer,
        generation: u64,
        id: Option<HeaderValue>,
        version: Option<ProtocolVersion>,
    ) -> Self {
        let mut session = Self {
            generation,
            id,
            version,
            posts: Arc::default(),
            standing: Standing::default(),
        };
        let mut posts = session.named(peer);
        headers::of_posts(&mut posts);
        session.posts = Arc::new(posts);
        session
    }

    /// The headers of its GETs.
    pub(crate) fn gets(&self, peer: &HttpPeer) -> HeaderMap {
        let mut gets = self.named(peer);
        headers::of_gets(&mut gets);
        gets
    }

    /// The headers that name it.
    pub(crate) fn named(&self, peer: &HttpPeer) -> HeaderMap {
        let mut named = peer.headers().clone();
        if let Some(id) = &self.id {
            named.insert(SESSION_ID, id.clone());
        }
        if let Some(version) = self.version.as_ref().and_then(headers::version) {
            named.insert(PROTOCOL_VERSION, version);
        }
        named
    }

    /// The same with the id that an answer gives, while it is not begun yet.
    pub(crate) fn with_id(&self, peer: &HttpPeer, id: HeaderValue) -> Self {
        Self::new(peer, self.generation, Some(id), self.version.clone())
    }

    pub(crate) fn state(&self) -> SessionState {
        match (self.generation, &self.id) {
            (0, _) => SessionState::None,
            (_, None) => SessionState::WithoutId,
            (_, Some(_)) => SessionState::WithId,
        }
    }

    /// Whether the server may speak on a standing stream of it.
    pub(crate) fn may_stand(&self) -> bool {
        self.generation > 0 && !self.standing.refused.load(Ordering::Relaxed)
    }
}

impl Standing {
    /// The stream is asked for from now on.
    pub(crate) fn ask(&self) {
        self.asked.get_or_init(Instant::now);
    }

    /// The server has answered the GET, well or not.
    pub(crate) fn answer(&self) {
        self.answered.cancel();
    }

    /// There is none, and there will be none.
    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.answered.cancel();
    }

    /// Waits until the server has the stream, or says that it has none, for half a second at most:
    /// it may ask back there while it works on a request, and what it asks before it has the
    /// stream is lost.
    async fn head(&self) {
        if self.answered.is_cancelled() {
            return;
        }
        if let Some(asked) = self.asked.get() {
            let head = timeout_at(*asked + STANDING_HEAD, self.answered.cancelled());
            if head.await.is_err() {
                self.answered.cancel();
            }
        }
    }
}

/// The sessions of one connection, one at a time, and what is needed to begin another.
pub(crate) struct Sessions {
    current: watch::Sender<Arc<Session>>,
    /// The session whose standing stream is wanted.
    standing: watch::Sender<Option<Arc<Session>>>,
    ledger: Mutex<Ledger>,
    /// The last renewal, and the generation that was lost.
    renewal: Mutex<Option<(u64, Renewal)>>,
    /// Refusals in a row that say nothing.
    suspicions: AtomicU32,
    /// A new session did not help against words that seemed to speak of a lost one.
    words_mean_nothing: AtomicBool,
}

impl Sessions {
    pub(crate) fn new(peer: &HttpPeer) -> Self {
        Self {
            current: watch::Sender::new(Arc::new(Session::none(peer))),
            standing: watch::Sender::new(None),
            ledger: Mutex::default(),
            renewal: Mutex::default(),
            suspicions: AtomicU32::new(0),
            words_mean_nothing: AtomicBool::new(false),
        }
    }

    /// The session that requests are sent in.
    pub(crate) fn current(&self) -> Arc<Session> {
        Arc::clone(&self.current.borrow())
    }

    /// The session that requests are sent in, once a renewal under way is over, and the server can
    /// ask back.
    pub(crate) async fn ready(&self) -> Arc<Session> {
        let mut session = self.current();
        let running = lock(&self.renewal)
            .as_ref()
            .filter(|(lost, renewal)| *lost == session.generation && renewal.peek().is_none())
            .map(|(_, renewal)| renewal.clone());
        if let Some(running) = running {
            running.await.ok();
            session = self.current();
        }
        if session.id.is_some() {
            session.standing.head().await;
        }
        session
    }

    /// The renewal of this generation that is under way, or the one that is begun now.
    pub(crate) fn renewal(&self, lost: u64, begin: impl FnOnce() -> Renewal) -> Renewal {
        let mut slot = lock(&self.renewal);
        match &*slot {
            Some((known, running)) if *known == lost && running.peek().is_none() => running.clone(),
            _ => slot.insert((lost, begin())).1.clone(),
        }
    }

    /// Which session's standing stream is wanted.
    pub(crate) fn standing(&self) -> watch::Receiver<Option<Arc<Session>>> {
        self.standing.subscribe()
    }

    /// The session that an answer to `initialize` begins, with this id; not yet the current one.
    pub(crate) fn next(&self, peer: &HttpPeer, id: Option<HeaderValue>, result: &Raw) -> Session {
        let generation = self.current().generation + 1;
        Session::new(peer, generation, id, version_of(result))
    }

    /// The first session was begun, with these parameters.
    pub(crate) fn begin(&self, session: Session, params: Option<&Raw>) {
        self.ledger().initialize = params.cloned();
        self.current.send_replace(Arc::new(session));
    }

    /// A server without sessions speaks this version.
    pub(crate) fn adopt(&self, peer: &HttpPeer, version: &ProtocolVersion) {
        let session = Session::new(peer, 0, None, Some(version.clone()));
        self.current.send_replace(Arc::new(session));
    }

    /// The current session is ready: the standing stream may be asked for.
    pub(crate) fn announce(&self) {
        let session = self.current();
        if session.generation > 0 {
            session.standing.ask();
            self.standing.send_replace(Some(session));
        }
    }

    /// Another session takes the place of the current one, and is ready.
    pub(crate) fn replace(&self, session: Arc<Session>) {
        self.suspicions.store(0, Ordering::Relaxed);
        self.current.send_replace(session);
        self.announce();
    }

    /// Keeps what a request that succeeded has set up.
    pub(crate) fn note(&self, method: &str, params: Option<&Raw>) {
        self.suspicions.store(0, Ordering::Relaxed);
        if Ledger::concerns(method) {
            self.ledger().note(method, params);
        }
    }

    /// What begins another session, and what is to be set up in it.
    pub(crate) fn restore(&self) -> (Option<Raw>, Vec<(&'static str, Raw)>) {
        let ledger = self.ledger();
        (ledger.initialize.clone(), ledger.requests())
    }

    /// Whether a refusal is taken for a lost session.
    pub(crate) fn is_lost(&self, lost: Lost) -> bool {
        match lost {
            Lost::No => {
                self.suspicions.store(0, Ordering::Relaxed);
                false
            }
            Lost::ByStatus | Lost::InRefusal => true,
            Lost::InWords => !self.words_mean_nothing.load(Ordering::Relaxed),
            Lost::Perhaps | Lost::Unclear => self.suspicions.fetch_add(1, Ordering::Relaxed) > 0,
        }
    }

    /// A request was refused in a new session with the same words as in the old one.
    pub(crate) fn words_mean_nothing(&self) {
        self.words_mean_nothing.store(true, Ordering::Relaxed);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An id is as good as a password.
        f.debug_struct("Sessions")
            .field("generation", &self.current().generation)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The version that an answer to `initialize` agrees to.
fn version_of(result: &Raw) -> Option<ProtocolVersion> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        protocol_version: String,
    }
    let answer: Answer = result.parse().ok()?;
    Some(ProtocolVersion::new(answer.protocol_version))
}

/// What a session holds on the server: what it was begun with, the log level, the resources that
/// it is subscribed to.
#[derive(Default)]
struct Ledger {
    initialize: Option<Raw>,
    log_level: Option<Raw>,
    subscriptions: Vec<(String, Raw)>,
}

const SET_LEVEL: &str = "logging/setLevel";
const SUBSCRIBE: &str = "resources/subscribe";
const UNSUBSCRIBE: &str = "resources/unsubscribe";

impl Ledger {
    fn concerns(method: &str) -> bool {
        matches!(method, SET_LEVEL | SUBSCRIBE | UNSUBSCRIBE)
    }

    fn note(&mut self, method: &str, params: Option<&Raw>) {
        #[derive(Deserialize)]
        struct Resource {
            uri: String,
        }
        let Some(params) = params else { return };
        if method == SET_LEVEL {
            self.log_level = Some(params.clone());
            return;
        }
        let Ok(Resource { uri }) = params.parse() else {
            return;
        };
        self.subscriptions.retain(|(known, _)| *known != uri);
        if method == SUBSCRIBE && self.subscriptions.len() < MAX_SUBSCRIPTIONS {
            self.subscriptions.push((uri, params.clone()));
        }
    }

    fn requests(&self) -> Vec<(&'static str, Raw)> {
        let level = self.log_level.iter().map(|params| (SET_LEVEL, params));
        let resources = self.subscriptions.iter();
        level
            .chain(resources.map(|(_, params)| (SUBSCRIBE, params)))
            .map(|(method, params)| (method, params.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw {
        Raw::from_text(text.to_owned()).unwrap()
    }

    #[test]
    fn the_ledger_knows_what_holds_now() {
        let mut ledger = Ledger::default();
        for (method, params) in [
            (SUBSCRIBE, r#"{"uri":"a"}"#),
            (SET_LEVEL, r#"{"level":"info"}"#),
            (SUBSCRIBE, r#"{"uri":"b"}"#),
            (SUBSCRIBE, r#"{"uri":"a","x":1}"#),
            (SET_LEVEL, r#"{"level":"debug"}"#),
            (UNSUBSCRIBE, r#"{"uri":"b"}"#),
            (SUBSCRIBE, r#"{"url":"c"}"#),
        ] {
            assert!(Ledger::concerns(method));
            ledger.note(method, Some(&raw(params)));
        }
        assert_eq!(
            ledger.requests(),
            [
                (SET_LEVEL, raw(r#"{"level":"debug"}"#)),
                (SUBSCRIBE, raw(r#"{"uri":"a","x":1}"#)),
            ]
        );
        for n in 0..2 * MAX_SUBSCRIPTIONS {
            ledger.note(SUBSCRIBE, Some(&raw(&format!(r#"{{"uri":"{n}"}}"#))));
        }
        assert_eq!(ledger.subscriptions.len(), MAX_SUBSCRIPTIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_standing_stream_that_was_asked_for_is_waited_for() {
        let started = Instant::now();
        let standing = Standing::default();
        standing.head().await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        standing.ask();
        standing.head().await;
        assert_eq!(started.elapsed(), STANDING_HEAD);
        standing.head().await;
        assert_eq!(started.elapsed(), STANDING_HEAD);
        let standing = Standing::default();
        standing.ask();
        standing.answer();
        standing.head().await;
        assert_eq!(started.elapsed(), STANDING_HEAD);
    }
}
