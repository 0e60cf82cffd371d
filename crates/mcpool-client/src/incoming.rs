//! What a server says by itself: the task of a session that takes it from the transport, notifies the
//! application of notices and lets it answer questions. It is also who closes a connection whose
//! client was dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use mcpool_core::{
    Caller, Inbox, Incoming, Notification, Raw, RequestId, RequestSink, ResponseId, RpcError,
    ServerNotice, ServerRequest,
};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, Id, JoinSet},
};

use crate::{
    answerer::Answerer,
    link::Link,
    notice,
    stream::{ACKNOWLEDGED, CANCELLED},
};

/// After so many messages at a stretch the readers of notices get a turn: half of what they may
/// be behind.
const STRETCH: usize = 16;

/// After so many stretches without a pause who waits for what was said is let go: more than can
/// wait in an inbox, so it is a flood.
const FLOOD: usize = 128;

/// The task's other end. Dropped, it ends the task and says nothing to the server.
pub(crate) struct Leave {
    link: oneshot::Sender<Arc<Link>>,
    settling: mpsc::Sender<oneshot::Sender<()>>,
}

impl Leave {
    /// Waits until what the server has said so far was taken, but for a flood. Who begins to listen
    /// then hears what comes later alone: a list that changed before is not fetched twice.
    pub(crate) async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        // When the task has ended, the connection has.
        if self.settling.send(done).await.is_ok() {
            let _ = settled.await;
        }
    }

    /// Lets the task close the connection in the orderly way, without waiting for that.
    pub(crate) fn leave(self, link: Arc<Link>) {
        // Without the task, the connection has ended, or has lost its runtime: then dropping the
        // link is the end.
        let _ = self.link.send(link);
    }
}

/// Starts the task. It holds the link only while it has something to do with it, so that dropping
/// the link drops the transport.
pub(crate) fn spawn(link: &Arc<Link>, answerer: Answerer) -> Leave {
    let (leave, left) = oneshot::channel();
    let (settling, settles) = mpsc::channel(1);
    let inbox = link.transport.incoming();
    let task = Task {
        link: Arc::downgrade(link),
        answerer,
        questions: JoinSet::new(),
        open: HashMap::new(),
    };
    link.runtime.spawn(task.run(inbox, left, settles));
    Leave {
        link: leave,
        settling,
    }
}

struct Task {
    link: Weak<Link>,
    answerer: Answerer,
    /// The questions that are being answered. The transport bounds how many are open
    /// ([`MAX_OPEN_SERVER_REQUESTS`](mcpool_core::MAX_OPEN_SERVER_REQUESTS)).
    questions: JoinSet<()>,
    /// The same, by the text of their ids.
    open: HashMap<String, AbortHandle>,
}

impl Task {
    async fn run(
        mut self,
        mut inbox: Option<Inbox>,
        mut left: oneshot::Receiver<Arc<Link>>,
        mut settles: mpsc::Receiver<oneshot::Sender<()>>,
    ) {
        let (mut stretch, mut stretches) = (0, 0_usize);
        loop {
            tokio::select! {
                // What waits in the inbox is taken before anybody can know that it was.
                biased;
                link = &mut left => {
                    self.questions.abort_all();
                    if let Ok(link) = link {
                        link.close().await;
                    }
                    return;
                }
                Some(ended) = self.questions.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => error.id(),
                    };
                    self.forget(id);
                }
                item = next(&mut inbox) => {
                    let (Some(item), Some(link)) = (item, self.link.upgrade()) else {
                        // The connection has ended; questions end with this.
                        return;
                    };
                    self.take(&link, item);
                    stretch += 1;
                    if stretch == STRETCH {
                        stretch = 0;
                        drop(link);
                        stretches = stretches.saturating_add(1);
                        if stretches >= FLOOD
                            && let Ok(done) = settles.try_recv()
                        {
                            stretches = 0;
                            let _ = done.send(());
                        }
                        tokio::task::yield_now().await;
                    }
                }
                Some(done) = settles.recv() => {
                    stretches = 0;
                    let _ = done.send(());
                }
            }
        }
    }

    fn forget(&mut self, task: Id) {
        self.open.retain(|_, question| question.id() != task);
    }

    fn take(&mut self, link: &Arc<Link>, item: Incoming) {
        match item {
            Incoming::Request(request) => {
                link.activity.heard();
                self.asked(link, request);
            }
            Incoming::Notification(notification) => {
                link.activity.heard();
                self.notified(link, &notification);
            }
            Incoming::SessionRenewed => link.notices.send(ServerNotice::SessionRenewed),
            // A transport cannot know more kinds than this crate.
            _ => {}
        }
    }

    fn notified(&mut self, link: &Link, notification: &Notification) {
        match notification.method.as_str() {
            CANCELLED => {
                let Some(id) = cancelled(notification) else {
                    return;
                };
                if let Some(question) = self.open.remove(id.get()) {
                    question.abort();
                } else if let Some(stream) = ours(&id).and_then(|id| link.stream(id)) {
                    stream.notification(notification);
                }
            }
            // A transport that knows of no streams hands it over here.
            ACKNOWLEDGED => {
                if let Some(stream) = subscription(notification).and_then(|id| link.stream(id)) {
                    stream.notification(notification);
                }
            }
            _ => {
                if let Some(notice) = notice::of(notification) {
                    link.notices.send(notice);
                }
            }
        }
    }

    /// Answers on a task of its own: a person may take long, and a server may not read.
    fn asked(&mut self, link: &Arc<Link>, request: ServerRequest) {
        let id = request.id.get().to_owned();
        let question = if request.method == "ping" {
            let answer = Ok(Raw::empty_object());
            self.questions
                .spawn(respond(self.link.clone(), request, answer))
        } else {
            match self.whom(link, &request) {
                Err(refusal) => {
                    self.questions
                        .spawn(respond(self.link.clone(), request, Err(refusal)))
                }
                Ok(caller) => {
                    let answerer = self.answerer.clone();
                    let answer = answer(self.link.clone(), answerer, caller, request);
                    self.questions.spawn(answer)
                }
            }
        };
        self.open.insert(id, question);
    }

    /// From MCP 2026-07-28 on a server asks by its answers; one that asks by requests all the same
    /// may do so in the course of a request of ours.
    fn whom(
        &self,
        link: &Link,
        request: &ServerRequest,
    ) -> Result<Option<Arc<dyn Caller>>, RpcError> {
        self.answerer.check(request)?;
        if link.is_modern() && request.related.is_none() && !link.has_requests() {
            return Err(RpcError::new(
                RpcError::INVALID_PARAMS,
                "a server may ask its client only while it works on a request of that client",
            ));
        }
        link.callers.of(request.related)
    }
}

/// The next thing that the server says. For ever for a transport on which it cannot.
async fn next(inbox: &mut Option<Inbox>) -> Option<Incoming> {
    match inbox {
        Some(inbox) => inbox.next().await,
        None => std::future::pending().await,
    }
}

async fn answer(
    link: Weak<Link>,
    answerer: Answerer,
    caller: Option<Arc<dyn Caller>>,
    request: ServerRequest,
) {
    let Some(held) = link.upgrade() else {
        return;
    };
    let (server, pauses) = (held.server.clone(), Arc::clone(&held.pauses));
    drop(held);
    let pause = pauses.begin(request.related);
    let answer = answerer
        .answer(caller.as_deref(), &server, request.clone())
        .await;
    drop(pause);
    respond(link, request, answer).await;
}

async fn respond(link: Weak<Link>, request: ServerRequest, answer: Result<Raw, RpcError>) {
    let Some(link) = link.upgrade() else {
        return;
    };
    if let Err(error) = link.transport.respond(&request, answer).await {
        tracing::debug!(server = %link.server, kind = %error.kind(), "an answer was not sent");
    }
}

/// Which request a notification cancels: one of the server's, or a listen stream of ours.
fn cancelled(notification: &Notification) -> Option<Raw> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "requestId")]
        id: Raw,
    }
    let params: Params = notification.params.as_ref()?.parse().ok()?;
    Some(params.id)
}

/// Which stream a notification belongs to.
fn subscription(notification: &Notification) -> Option<RequestId> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
        id: Raw,
    }
    let params: Params = notification.params.as_ref()?.parse().ok()?;
    ours(&params.meta.id)
}

fn ours(id: &Raw) -> Option<RequestId> {
    match ResponseId::read(id.as_raw_value()) {
        ResponseId::Ours(id) => Some(id),
        _ => None,
    }
}
