//! Requests, notifications, the close.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, poll_fn},
};
use mcpool_core::{
    Delivery, Error, ErrorKind, Inbox, Notification, Raw, RequestClass, RequestId, RequestSink,
    Result, RpcError, ServerRequest, Transport, TransportMonitor, WireRequest, WireTap, encode,
    encode_notification, encode_response,
};
use mcpool_http_pool::{HttpPeer, PeerRequest, drain, http::Method};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use crate::{
    exchange::{self, Answer},
    guarded::guarded,
    incoming::About,
    link::{Bounds, Link},
    post::Post,
    refusal::{Lost, Refusal},
    renewal::renewed,
    session::{Session, Sessions},
    standing,
};

/// How long a server may take to accept what wants no answer.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(30);

/// How long the DELETE of the session may take after a drop, which waits for nothing.
const DELETE_AFTER_DROP: Duration = Duration::from_secs(1);

/// A request that is given up after so long without any sign of life says that the connections to
/// the server may be dead.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(1);

const INITIALIZE: &str = "initialize";
const INITIALIZED: &str = "notifications/initialized";

/// A Streamable HTTP connection.
#[derive(Debug)]
pub(crate) struct HttpTransport {
    link: Arc<Link>,
    sessions: Arc<Sessions>,
    inbox: Mutex<Option<Inbox>>,
    closing: Mutex<Option<Shared<BoxFuture<'static, ()>>>>,
}

impl HttpTransport {
    /// A connection that has said nothing yet.
    pub(crate) fn open(
        peer: HttpPeer,
        bounds: Bounds,
        runtime: Handle,
        tap: Option<Arc<dyn WireTap>>,
    ) -> Self {
        let (sender, inbox) = Inbox::channel();
        let sessions = Arc::new(Sessions::new(&peer));
        let link = Arc::new(Link::new(peer, bounds, runtime, sender, tap));
        link.runtime
            .spawn(standing::keep(Arc::clone(&link), sessions.standing()));
        Self {
            link,
            sessions,
            inbox: Mutex::new(Some(inbox)),
            closing: Mutex::new(None),
        }
    }

    async fn ask(
        &self,
        request: &WireRequest<'_>,
        sink: Option<&Arc<dyn RequestSink>>,
        course: &Course,
    ) -> Result<Raw> {
        let link = &self.link;
        if request.method == INITIALIZE && self.sessions.current().generation > 0 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "a session is begun once on a connection; open another for a second one",
            ));
        }
        let progress = sink.and_then(|sink| guarded(|| sink.wants_progress()));
        let id = link.next_id();
        let body = Bytes::from(encode(id, request, progress.unwrap_or_default())?);
        if let Some(sink) = sink {
            guarded(|| sink.assigned(id));
        }
        let mut session = match (request.method, request.class) {
            // Whatever was tried before, this begins from nothing.
            (INITIALIZE, _) => Arc::new(Session::none(&link.peer)),
            (_, RequestClass::Handshake) => self.sessions.current(),
            _ => self.sessions.ready().await,
        };
        let mut is_second = false;
        loop {
            let asked = self
                .ask_in(&session, request, id, sink, body.clone(), course)
                .await;
            let refusal = match asked {
                Ok(answer) => return self.answered(request, answer),
                Err(refusal) => refusal,
            };
            if request.class == RequestClass::Handshake || !self.sessions.is_lost(refusal.lost) {
                return Err(refusal.error);
            }
            if refusal.lost == Lost::Unclear {
                // For those that come after it.
                let _ = Box::pin(renewed(link, &self.sessions, &session)).await;
                return Err(refusal.error);
            }
            course.refused();
            if is_second {
                return Err(self.lost_again(refusal));
            }
            is_second = true;
            session = Box::pin(renewed(link, &self.sessions, &session)).await?;
        }
    }

    /// Asks in this session; dropping the future cancels the request there.
    async fn ask_in(
        &self,
        session: &Arc<Session>,
        request: &WireRequest<'_>,
        id: RequestId,
        sink: Option<&Arc<dyn RequestSink>>,
        body: Bytes,
        course: &Course,
    ) -> Result<Answer, Refusal> {
        let link = &self.link;
        let version = request.version.or(session.version.as_ref());
        let under_way = UnderWay {
            link,
            session,
            id,
            course,
            // From 2026-07-28 on, closing the stream cancels. `initialize` is never cancelled.
            cancels_in_words: request.class != RequestClass::Handshake
                && version.is_none_or(|version| version.has_initialize()),
        };
        let sending = || {
            course.sending();
            if let Some(sink) = sink {
                guarded(|| sink.sent());
            }
        };
        let about = About { id, sink };
        let exchange = exchange::ask(link, session, request, &about, body, &sending);
        let asked = if session.may_stand() {
            // The server may answer, and report progress, on the standing stream as well.
            let mut entered = link.in_flight.enter(id, sink.cloned());
            tokio::select! {
                biased;
                outcome = entered.elsewhere() => Ok(Answer { outcome, session_id: None }),
                asked = exchange => asked,
            }
        } else {
            exchange.await
        };
        under_way.done();
        asked
    }

    fn answered(&self, request: &WireRequest<'_>, answer: Answer) -> Result<Raw> {
        let result = answer.outcome.map_err(Error::from_rpc)?;
        let peer = &self.link.peer;
        match (request.class, request.method, request.version) {
            (_, INITIALIZE, _) => {
                self.link.establish();
                let session = self.sessions.next(peer, answer.session_id, &result);
                self.sessions.begin(session, request.params);
            }
            (RequestClass::Handshake, _, version) => {
                self.link.establish();
                if let Some(version) = version.filter(|version| !version.has_initialize()) {
                    self.sessions.adopt(peer, version);
                }
            }
            (_, method, _) => self.sessions.note(method, request.params),
        }
        Ok(result)
    }

    /// A request was refused in a new session as it was in the one before.
    fn lost_again(&self, refusal: Refusal) -> Error {
        if refusal.lost == Lost::InWords {
            // The words are about something else, and are the answer.
            self.sessions.words_mean_nothing();
            return refusal.error;
        }
        let error = refusal.error.wrap(
            ErrorKind::ConnectionLost,
            "the server does not know the session that it has just given",
        );
        self.link.fail(error.clone());
        // What the server says is not true of the session, so it may be about something else, and
        // the request may have run.
        error.with_delivery(Delivery::Unknown)
    }

    async fn tell(&self, notification: &Notification, course: &Course) -> Result<()> {
        let body = Bytes::from(encode_notification(notification)?);
        let session = self.sessions.current();
        course.sending();
        let told = Post::one_way(&session, body.clone())
            .accepted(&self.link)
            .await;
        let is_initialized = notification.method == INITIALIZED;
        match told {
            Ok(()) => {}
            Err(refusal) if refusal.lost.is_said() && !is_initialized => {
                course.refused();
                let session = renewed(&self.link, &self.sessions, &session).await?;
                let again = Post::one_way(&session, body).accepted(&self.link).await;
                again.map_err(|refusal| refusal.error)?;
            }
            Err(refusal) => return Err(refusal.error),
        }
        if is_initialized {
            self.sessions.announce();
        }
        Ok(())
    }

    /// Runs something on the runtime of the connect, until the connection ends.
    async fn while_alive<T>(
        &self,
        course: &Course,
        mut work: Pin<&mut (dyn Future<Output = Result<T>> + Send)>,
    ) -> Result<T> {
        let link = &self.link;
        let mut ended = pin!(link.ended.cancelled());
        // Sockets and timers belong to that runtime, no matter who waits for them.
        let done = poll_fn(|cx| {
            let _here = link.runtime.enter();
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(link.ended_error(course.delivery())));
            }
            work.as_mut().poll(cx)
        });
        done.await
            .map_err(|error| error.with_server(link.peer.server()))
    }

    /// Begins the close, or finds the one that was begun.
    fn begin_close(&self, within: Duration) -> Shared<BoxFuture<'static, ()>> {
        let mut closing = lock(&self.closing);
        closing
            .get_or_insert_with(|| {
                self.link.close();
                let end = end_session(Arc::clone(&self.link), self.sessions.current());
                // The timer is made on that runtime: here there may be none.
                let end = async move { timeout(within, end).await };
                let task = self.link.runtime.spawn(end);
                // A runtime that is gone has closed the sockets already.
                task.map(|_| ()).boxed().shared()
            })
            .clone()
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn request(
        &self,
        request: WireRequest<'_>,
        sink: Option<Arc<dyn RequestSink>>,
    ) -> Result<Raw> {
        let course = Course::default();
        let asked = pin!(self.ask(&request, sink.as_ref(), &course));
        self.while_alive(&course, asked).await
    }

    async fn notify(&self, notification: &Notification) -> Result<()> {
        let course = Course::default();
        let told = pin!(async {
            let told = timeout(ACCEPTED_WITHIN, self.tell(notification, &course)).await;
            told.unwrap_or_else(|_| Err(not_accepted()))
        });
        self.while_alive(&course, told).await
    }

    async fn respond(
        &self,
        request: &ServerRequest,
        outcome: std::result::Result<Raw, RpcError>,
    ) -> Result<()> {
        self.link.inbox.answered(&request.id);
        let course = Course::default();
        let answered = pin!(async {
            let body = encode_response(&request.id, &outcome)?;
            let session = self.sessions.current();
            course.sending();
            let post = Post::one_way(&session, body);
            match timeout(ACCEPTED_WITHIN, post.accepted(&self.link)).await {
                Ok(answered) => answered.map_err(|refusal| refusal.error),
                Err(_) => {
                    let error = Error::new(
                        ErrorKind::ConnectionLost,
                        format!(
                            "the server asked something and did not take the answer within \
                             {ACCEPTED_WITHIN:?}"
                        ),
                    );
                    self.link.fail(error.clone());
                    Err(error)
                }
            }
        });
        self.while_alive(&course, answered).await
    }

    fn incoming(&self) -> Option<Inbox> {
        lock(&self.inbox).take()
    }

    async fn closed(&self) -> Option<Error> {
        self.link.ended.cancelled().await;
        self.link.failure()
    }

    fn is_closed(&self) -> bool {
        self.link.ended.is_cancelled()
    }

    async fn close(&self) -> Result<()> {
        self.begin_close(self.link.bounds.close).await;
        Ok(())
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::clone(&self.link) as Arc<dyn TransportMonitor>
    }
}

impl Drop for HttpTransport {
    fn drop(&mut self) {
        // What was begun goes on without a caller that waits for it.
        drop(self.begin_close(DELETE_AFTER_DROP));
    }
}

/// Ends the session at the server (MCP 2025-11-25, "Session Management", rule 5).
async fn end_session(link: Arc<Link>, session: Arc<Session>) {
    if session.id.is_none() || link.failure().is_some() {
        return;
    }
    let request = PeerRequest::new(Method::DELETE, link.peer.url().clone())
        .with_base(Arc::new(session.named(&link.peer)))
        .with_repeatable(true);
    // 405 says that a client may not end sessions; nothing depends on the answer.
    match link.peer.send(&request).await {
        Ok(response) => {
            link.answered(response.status(), &[]);
            drain(response).await;
        }
        Err(error) => {
            tracing::debug!(server = %link.peer.server(), %error, "the session was not deleted");
        }
    }
}

fn not_accepted() -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("the server did not accept the message within {ACCEPTED_WITHIN:?}"),
    )
    .with_delivery(Delivery::Unknown)
}

/// How far a message has come.
#[derive(Default)]
struct Course {
    sent: Mutex<Option<Instant>>,
    refused: AtomicBool,
}

impl Course {
    /// A byte of it may be written from now on.
    fn sending(&self) {
        *lock(&self.sent) = Some(Instant::now());
        self.refused.store(false, Ordering::Relaxed);
    }

    /// The server refused it, and did not run it.
    fn refused(&self) {
        *lock(&self.sent) = None;
        self.refused.store(true, Ordering::Relaxed);
    }

    fn sent(&self) -> Option<Instant> {
        *lock(&self.sent)
    }

    fn delivery(&self) -> Delivery {
        match (self.sent(), self.refused.load(Ordering::Relaxed)) {
            (Some(_), _) => Delivery::Unknown,
            (None, true) => Delivery::Rejected,
            (None, false) => Delivery::NotSent,
        }
    }
}

/// A request under way in a session. Dropping it gives the request up.
struct UnderWay<'a> {
    link: &'a Arc<Link>,
    session: &'a Arc<Session>,
    id: RequestId,
    course: &'a Course,
    cancels_in_words: bool,
}

impl UnderWay<'_> {
    /// It has ended by itself.
    fn done(self) {
        std::mem::forget(self);
    }

    fn cancel(&self) {
        let params = format!(
            r#"{{"requestId":{},"reason":"the client gave up waiting"}}"#,
            self.id
        );
        let Ok(params) = Raw::from_text(params) else {
            return;
        };
        let cancelled = Notification::new("notifications/cancelled", Some(params));
        let Ok(body) = encode_notification(&cancelled) else {
            return;
        };
        let (link, session) = (Arc::clone(self.link), Arc::clone(self.session));
        let runs = self.link.aside.run(async move {
            Post::one_way(&session, body).accepted(&link).await.ok();
        });
        if !runs {
            self.link.notes.dropped();
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Some(sent) = self.course.sent() else {
            return;
        };
        if self.link.ended.is_cancelled() {
            return;
        }
        if sent.elapsed() >= SUSPICIOUS_AFTER && !self.link.heard_since(sent) {
            self.link.peer.renew_connections(sent);
        }
        if self.cancels_in_words {
            self.cancel();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
