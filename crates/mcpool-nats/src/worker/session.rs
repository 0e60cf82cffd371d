//! One session at its worker: frames in, frames out, and how it ends.

use std::{sync::Arc, time::Duration};

use async_nats::Message;
use bytes::Bytes;
use mcpool_core::ServerName;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{relay::Relay, standing::Standing};
use crate::{
    clock::WorkerClock,
    head::{Head, Kind},
    identity::Epoch,
    incoming::{Incoming, Taken, Whole},
    outgoing::Outgoing,
    reasons::{Notice, Reason},
};

/// The oldest request that is run. A caller that waited for so long has its request refused, and
/// sends it again in a fresh one.
const MAX_AGE: Duration = Duration::from_secs(10);

/// How long a gateway may be silent: it says that it is there every 30 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(90);

/// Frames of a session that wait to be taken. At the bound the session ends: one is missing.
pub(super) const FRAME_QUEUE: usize = 4_096;

/// How long the last word of a session may take to get to NATS, and then the end of its
/// subscriptions at the server.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// How a session is to end.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// It goes on.
    None,
    /// When what runs has ended; nothing new is run.
    Drain,
    /// Now.
    End(Notice),
}

/// One session.
pub(super) struct Session {
    pub(super) server: ServerName,
    pub(super) name: String,
    pub(super) out: Arc<Outgoing>,
    pub(super) incoming: Incoming,
    pub(super) epoch: Epoch,
    pub(super) clock: Arc<WorkerClock>,
    pub(super) standing: Arc<Standing>,
    pub(super) relay: Arc<Relay>,
    pub(super) frames: mpsc::Receiver<(Head, Message)>,
    pub(super) order: watch::Receiver<Order>,
    /// Whether the connection with the server is this session's own and ends with it.
    pub(super) owns_client: bool,
}

impl Session {
    /// Serves it to its end. What runs in it is stopped then.
    pub(super) async fn run(mut self) {
        let teller = Arc::clone(&self.relay);
        let _teller = AbortOnDropHandle::new(tokio::spawn(async move { teller.tell().await }));
        let last_word = self.serve().await;
        self.relay.stop();
        if let Some(notice) = last_word {
            let notice = notice.accepted(self.incoming.accepted());
            tracing::debug!(
                server = %self.server,
                session = %self.name,
                reason = ?notice.reason,
                "session ended"
            );
            let said = self.out.say(Head::new(Kind::End), notice.body());
            let _ = timeout(FAREWELL_TIMEOUT, said).await;
        }
        // What still comes is answered with the end of the session instead of lost here.
        self.frames.close();
        let _ = timeout(FAREWELL_TIMEOUT, self.standing.leave(&self.name)).await;
        if self.owns_client {
            self.standing.client.close().await;
        }
    }

    /// Gives the last word; `None` when the gateway has had it.
    async fn serve(&mut self) -> Option<Notice> {
        let client = Arc::clone(&self.standing.client);
        let relay = Arc::clone(&self.relay);
        let mut notices = client.notices();
        let mut has_notices = true;
        // Why it takes nothing new, and ends once what runs has ended.
        let mut ending: Option<Notice> = None;
        let mut is_connected = true;
        let mut silent_at = Instant::now() + SILENCE_TIMEOUT;
        loop {
            tokio::select! {
                frame = self.frames.recv() => {
                    let Some((head, message)) = frame else {
                        return Some(self.ordered_end());
                    };
                    silent_at = Instant::now() + SILENCE_TIMEOUT;
                    match self.take(head, message, ending.as_ref()).await {
                        Flow::On => {}
                        Flow::Closed => return None,
                        Flow::End(notice) => return Some(notice),
                    }
                }
                notice = notices.next(), if has_notices => match notice {
                    Some(notice) => relay.notice(notice),
                    None => has_notices = false,
                },
                changed = self.order.changed() => {
                    let order = self.order.borrow_and_update().clone();
                    match order {
                        Order::None if changed.is_ok() => {}
                        Order::Drain if changed.is_ok() => {
                            let notice = Notice::draining();
                            ending.get_or_insert(notice);
                        }
                        _ => return Some(self.ordered_end()),
                    }
                }
                () = relay.idle(), if ending.is_some() => return ending,
                () = relay.lost() => {
                    return Some(Notice::new(Reason::Gap, "an answer could not be sent"));
                }
                reason = client.closed(), if is_connected => {
                    is_connected = false;
                    let why = match reason {
                        mcpool_core::CloseReason::Lost(error) => error.message().to_owned(),
                        _ => "its connection was closed".to_owned(),
                    };
                    // Requests that end with the server's connection say so each for itself, first.
                    ending = Some(Notice::new(Reason::Gone, format!("the server is gone: {why}")));
                }
                () = tokio::time::sleep_until(silent_at) => {
                    return Some(Notice::new(Reason::Closed, "the gateway says nothing any more"));
                }
            }
        }
    }

    /// The last word that was ordered.
    fn ordered_end(&self) -> Notice {
        match &*self.order.borrow() {
            Order::End(notice) => notice.clone(),
            _ => Notice::new(Reason::Closed, "the worker has ended"),
        }
    }

    async fn take(&mut self, head: Head, message: Message, ending: Option<&Notice>) -> Flow {
        if let Err(broken) = self.incoming.count(&head) {
            return Flow::End(Notice::new(Reason::Gap, broken.to_string()));
        }
        if head.epoch != self.epoch {
            let text = format!("this is epoch {}, not {}", self.epoch, head.epoch);
            return self
                .refuse(head.number, Notice::new(Reason::Epoch, text))
                .await;
        }
        match head.kind {
            Kind::Message | Kind::Part | Kind::Abandon => {
                match self.incoming.take(head, message.payload).await {
                    Ok(Taken::Whole(whole)) => self.run_whole(whole, ending).await,
                    Ok(_) => Flow::On,
                    Err(broken) => Flow::End(Notice::new(Reason::Gap, broken.to_string())),
                }
            }
            Kind::Credit => {
                self.out.credit(head.of, head.credit);
                Flow::On
            }
            Kind::Refused => {
                self.out.refused(head.of, &Notice::read(&message.payload));
                Flow::On
            }
            Kind::Beat => {
                // Its failure is NATS's: the gateway hears nothing, and knows.
                let _ = self.out.say(Head::new(Kind::Beat), Bytes::new()).await;
                Flow::On
            }
            Kind::End => Flow::Closed,
            _ => Flow::On,
        }
    }

    async fn run_whole(&mut self, whole: Whole, ending: Option<&Notice>) -> Flow {
        let Ok(text) = std::str::from_utf8(&whole.text) else {
            let notice = Notice::new(Reason::Other, "the message is not text");
            return self.refuse(whole.number, notice).await;
        };
        let age = Duration::from_millis(self.clock.now().saturating_sub(whole.head.stamp));
        let left = whole
            .head
            .timeout
            .map(|timeout| timeout.saturating_sub(age));
        // Answers and cancellations do no harm, however late.
        let refusal = if !is_request(text) {
            None
        } else if let Some(ending) = ending {
            // The gateway sends it again after the end of this session.
            Some(Notice::new(Reason::Draining, &*ending.message))
        } else if age > MAX_AGE || left.is_some_and(|left| left.is_zero()) {
            let text = format!("the request is {} ms old", age.as_millis());
            Some(Notice::new(Reason::Age, text))
        } else {
            None
        };
        let refusal = match refusal {
            Some(notice) => Err(notice),
            None => self.relay.take(whole.number, text, left),
        };
        match refusal {
            Ok(()) => Flow::On,
            Err(notice) => self.refuse(whole.number, notice).await,
        }
    }

    async fn refuse(&self, number: u64, notice: Notice) -> Flow {
        let head = Head::new(Kind::Refused).of(number);
        match self.out.say(head, notice.body()).await {
            Ok(()) => Flow::On,
            Err(_) => Flow::End(Notice::new(Reason::Gap, "a refusal could not be sent")),
        }
    }
}

enum Flow {
    On,
    /// The gateway has closed it.
    Closed,
    End(Notice),
}

/// Whether a message is a request: it has a method and an id.
fn is_request(text: &str) -> bool {
    use serde::{Deserialize, de::IgnoredAny};
    #[derive(Deserialize)]
    struct Members {
        id: Option<IgnoredAny>,
        method: Option<IgnoredAny>,
    }
    // What cannot be read is refused as what it may be.
    serde_json::from_str::<Members>(text).map_or(true, |members| {
        members.id.is_some() && members.method.is_some()
    })
}
