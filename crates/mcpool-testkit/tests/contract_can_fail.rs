//! Every check of the contract fails on a transport that breaks its rule.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Connector, Delivery, Diagnostics, Error, ErrorKind, Inbox, Incoming,
    Notification, Progress, Raw, RequestClass, RequestId, RequestSink, Result, RpcError,
    ServerRequest, Transport, TransportKind, TransportMonitor, WireRequest,
};
use mcpool_testkit::{
    Behavior,
    contract::{self, ContractTarget, MemoryTarget, RunningFixture},
};

/// The rule that a transport breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Breaks {
    /// Gives `echo` answers with another text.
    Answers,
    /// Reports the id to the sink after the request was sent.
    Ids,
    /// Says that it is of another kind.
    Kind,
    /// Swaps two notifications on the way to the server.
    SendOrder,
    /// Swaps two notifications that are sent at the same time.
    ConcurrentSendOrder,
    /// Swaps two notifications of the server.
    ReceiveOrder,
    /// Gives one answer in five hundred to another request.
    Matching,
    /// Cuts long results.
    Size,
    /// Drops what the server asks.
    ServerRequests,
    /// Reports the last progress after the answer.
    ProgressOrder,
    /// Ends at the first answer that nobody asked for.
    Strays,
    /// Lets a request wait whose answer cannot be read.
    Unreadable,
    /// Says that a request whose answer cannot be read was not sent.
    UnreadableDelivery,
    /// Does not notify the server of a dropped request.
    Cancel,
    /// Cancels `initialize`.
    CancelHandshake,
    /// Sends a request for which nobody waits any more, and says that it was not sent.
    LateSend,
    /// Nothing ends when the server dies.
    Death,
    /// The end has no reason.
    NoFailure,
    /// The monitor does not know of the end.
    MonitorSilent,
    /// The end has a reason of the wrong kind.
    WrongKind,
    /// What the server had when it died is said to be not sent.
    DeathDelivery,
    /// A broken answer is said to be closed.
    BrokenAnswer,
    /// Waits for a runtime that has gone.
    RuntimeGone,
    /// What is in flight at a close is lost for another reason.
    CloseReason,
    /// An orderly close is a failure.
    CloseIsFailure,
    /// `close` waits for what is in flight.
    BoundedClose,
    /// Drop leaves everything open.
    Drop,
    /// Drop needs a runtime.
    DropOutside,
}

struct Target(Breaks, MemoryTarget);

impl Target {
    fn new(breaks: Breaks) -> Self {
        Self(breaks, MemoryTarget::new())
    }
}

#[async_trait]
impl ContractTarget for Target {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(Sabotage(self.0, self.1.connector()))
    }

    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture> {
        self.1.start(behavior).await
    }

    /// Short where the violation is that nothing comes.
    fn patience(&self) -> Duration {
        match self.0 {
            Breaks::Cancel | Breaks::ServerRequests => Duration::from_secs(2),
            _ => contract::PATIENCE,
        }
    }
}

#[derive(Debug)]
struct Sabotage(Breaks, Arc<dyn Connector>);

#[async_trait]
impl Connector for Sabotage {
    fn kind(&self) -> TransportKind {
        TransportKind::Custom
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        let inner = self.1.connect(request).await?;
        Ok(Arc::new(Broken {
            breaks: self.0,
            inner: Some(inner),
            count: AtomicUsize::new(0),
            held: Mutex::default(),
            late: Mutex::default(),
            in_flight: Arc::default(),
        }))
    }
}

struct Broken {
    breaks: Breaks,
    inner: Option<Arc<dyn Transport>>,
    count: AtomicUsize,
    held: Mutex<Option<Notification>>,
    /// The last progress of a request that has its answer.
    late: Mutex<Option<(Arc<Late>, Progress)>>,
    in_flight: Arc<AtomicUsize>,
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broken")
            .field("breaks", &self.breaks)
            .finish_non_exhaustive()
    }
}

impl Broken {
    fn inner(&self) -> &Arc<dyn Transport> {
        self.inner.as_ref().unwrap()
    }
}

/// Changes the text of a result.
fn edit(raw: Raw, change: impl Fn(&str) -> String) -> Raw {
    let mut value: serde_json::Value = raw.parse().unwrap();
    match value.pointer_mut("/content/0/text") {
        Some(text) => {
            *text = change(text.as_str().unwrap_or_default()).into();
            Raw::of(&value).unwrap()
        }
        None => raw,
    }
}

fn tool(request: &WireRequest<'_>) -> String {
    let params: serde_json::Value = request
        .params
        .and_then(|params| params.parse().ok())
        .unwrap_or_default();
    params["name"].as_str().unwrap_or_default().to_owned()
}

/// Passes on what it hears, in another order.
struct Late {
    sink: Arc<dyn RequestSink>,
    breaks: Breaks,
    id: Mutex<Option<RequestId>>,
    progress: Mutex<Option<Progress>>,
}

impl RequestSink for Late {
    fn assigned(&self, id: RequestId) {
        match self.breaks {
            Breaks::Ids => *self.id.lock().unwrap() = Some(id),
            _ => self.sink.assigned(id),
        }
    }

    fn sent(&self) {
        if self.breaks != Breaks::LateSend {
            self.sink.sent();
        }
        if let Some(id) = self.id.lock().unwrap().take() {
            self.sink.assigned(id);
        }
    }

    fn wants_progress(&self) -> bool {
        self.sink.wants_progress()
    }

    fn progress(&self, progress: Progress) {
        if self.breaks == Breaks::ProgressOrder {
            let earlier = self.progress.lock().unwrap().replace(progress);
            if let Some(earlier) = earlier {
                self.sink.progress(earlier);
            }
        } else {
            self.sink.progress(progress);
        }
    }
}

#[async_trait]
impl Transport for Broken {
    async fn request(
        &self,
        request: WireRequest<'_>,
        sink: Option<Arc<dyn RequestSink>>,
    ) -> Result<Raw> {
        let inner = self.inner();
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        if let Some((late, progress)) = self.late.lock().unwrap().take() {
            late.sink.progress(progress);
        }
        let late = sink.map(|sink| {
            Arc::new(Late {
                sink,
                breaks: self.breaks,
                id: Mutex::default(),
                progress: Mutex::default(),
            })
        });
        let sink = late.clone().map(|sink| sink as Arc<dyn RequestSink>);
        let tool = tool(&request);
        let mut request = request;
        match self.breaks {
            Breaks::Cancel => request = request.with_class(RequestClass::Handshake),
            Breaks::CancelHandshake => request = request.with_class(RequestClass::Call),
            _ => {}
        }
        if self.breaks == Breaks::BoundedClose {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
        }
        let outcome = if self.breaks == Breaks::LateSend && tool == "count" {
            // It lives on when its caller is gone.
            let inner = Arc::clone(inner);
            let params = request.params.cloned();
            let sent = tokio::spawn(async move {
                let request = WireRequest::new("tools/call", params.as_ref());
                inner.request(request, sink).await
            });
            sent.await.unwrap()
        } else {
            inner.request(request, sink).await
        };
        match (self.breaks, outcome) {
            (Breaks::Answers, Ok(raw)) => Ok(edit(raw, str::to_uppercase)),
            (Breaks::Size, Ok(raw)) => Ok(edit(raw, |text| text.chars().take(70_000).collect())),
            (Breaks::Matching, Ok(raw)) if number % 500 == 400 => {
                Ok(edit(raw, |_| "another's".to_owned()))
            }
            (Breaks::ProgressOrder, outcome) if tool == "slow" => {
                if let Some(late) = late {
                    let last = late.progress.lock().unwrap().take().unwrap();
                    *self.late.lock().unwrap() = Some((late, last));
                }
                outcome
            }
            (Breaks::Strays, Ok(_)) if tool == "stray" => {
                Err(Error::new(ErrorKind::Protocol, "nobody asked for that"))
            }
            (Breaks::Unreadable, Err(error)) if error.kind() == ErrorKind::Protocol => {
                std::future::pending().await
            }
            (Breaks::UnreadableDelivery, Err(error)) if error.kind() == ErrorKind::Protocol => {
                Err(error.with_delivery(Delivery::NotSent))
            }
            (Breaks::Death, Err(error)) if error.kind() == ErrorKind::ConnectionLost => {
                std::future::pending().await
            }
            (Breaks::DeathDelivery, Err(error)) if error.kind() == ErrorKind::ConnectionLost => {
                Err(error.with_delivery(Delivery::NotSent))
            }
            (Breaks::BrokenAnswer, Err(error)) if tool == "tear" => {
                Err(error.wrap(ErrorKind::Closed, "closed"))
            }
            (Breaks::RuntimeGone, Err(error)) if error.message().contains("runtime") => {
                std::future::pending().await
            }
            (Breaks::CloseReason, Err(error)) if error.kind() == ErrorKind::Closed => {
                Err(error.wrap(ErrorKind::ConnectionLost, "it is gone"))
            }
            (_, outcome) => outcome,
        }
    }

    async fn notify(&self, note: &Notification) -> Result<()> {
        let numbered = note.method == "notifications/sequence";
        match self.breaks {
            Breaks::SendOrder if numbered => {
                let held = self.held.lock().unwrap().take();
                match held {
                    None => *self.held.lock().unwrap() = Some(note.clone()),
                    Some(earlier) => {
                        self.inner().notify(note).await?;
                        self.inner().notify(&earlier).await?;
                    }
                }
                Ok(())
            }
            Breaks::ConcurrentSendOrder if numbered => {
                // Sent alone each keeps its place; of those that are begun together every second
                // one lets the next go first.
                if self.count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                    tokio::task::yield_now().await;
                }
                self.inner().notify(note).await
            }
            _ => self.inner().notify(note).await,
        }
    }

    async fn respond(
        &self,
        request: &ServerRequest,
        outcome: std::result::Result<Raw, RpcError>,
    ) -> Result<()> {
        self.inner().respond(request, outcome).await
    }

    fn incoming(&self) -> Option<Inbox> {
        let mut inbox = self.inner().incoming()?;
        let breaks = self.breaks;
        if !matches!(breaks, Breaks::ReceiveOrder | Breaks::ServerRequests) {
            return Some(inbox);
        }
        let (sender, passed) = Inbox::channel();
        tokio::spawn(async move {
            let mut held = None;
            while let Some(said) = inbox.next().await {
                match said {
                    Incoming::Notification(note) if breaks == Breaks::ReceiveOrder => {
                        match held.take() {
                            None => held = Some(note),
                            Some(earlier) => {
                                sender.notification(note);
                                sender.notification(earlier);
                            }
                        }
                    }
                    Incoming::Notification(note) => sender.notification(note),
                    Incoming::Request(request) if breaks != Breaks::ServerRequests => {
                        let _ = sender.request(request);
                    }
                    _ => {}
                }
            }
        });
        Some(passed)
    }

    async fn closed(&self) -> Option<Error> {
        match self.breaks {
            Breaks::Death => std::future::pending().await,
            Breaks::NoFailure => {
                self.inner().closed().await;
                None
            }
            Breaks::WrongKind => {
                let reason = self.inner().closed().await?;
                Some(reason.wrap(ErrorKind::Protocol, "it does not speak MCP"))
            }
            _ => self.inner().closed().await,
        }
    }

    fn is_closed(&self) -> bool {
        self.inner().is_closed()
    }

    async fn close(&self) -> Result<()> {
        while self.breaks == Breaks::BoundedClose && self.in_flight.load(Ordering::SeqCst) > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.inner().close().await
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::new(Lying(self.breaks, self.inner().monitor()))
    }
}

#[derive(Debug)]
struct Lying(Breaks, Arc<dyn TransportMonitor>);

impl TransportMonitor for Lying {
    fn kind(&self) -> TransportKind {
        match self.0 {
            Breaks::Kind => TransportKind::Stdio,
            _ => self.1.kind(),
        }
    }

    fn diagnostics(&self) -> Diagnostics {
        self.1.diagnostics()
    }

    fn failure(&self) -> Option<Error> {
        match self.0 {
            Breaks::MonitorSilent => None,
            Breaks::CloseIsFailure => Some(Error::new(ErrorKind::ConnectionLost, "it is gone")),
            _ => self.1.failure(),
        }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        match self.breaks {
            Breaks::Drop => std::mem::forget(self.inner.take()),
            Breaks::DropOutside => {
                let inner = self.inner.take().unwrap();
                tokio::spawn(async move { inner.close().await });
            }
            _ => {}
        }
    }
}

macro_rules! can_fail {
    ($($name:ident: $check:ident on $breaks:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let verdict = contract::$check(&Target::new(Breaks::$breaks)).await;
                let violation = verdict.expect_err("the check saw nothing");
                assert_eq!(violation.check, stringify!($check), "{violation}");
            }
        )*

        #[test]
        fn every_check_is_here() {
            let here = vec![$(stringify!($check)),*];
            for (name, _) in contract::all() {
                assert!(here.contains(&name), "{name} has no transport that it fails on");
            }
        }
    };
}

can_fail! {
    another_answer: answers_a_call on Answers,
    an_id_that_comes_late: answers_a_call on Ids,
    another_kind: answers_a_call on Kind,
    sends_in_another_order: keeps_order_of_sends on SendOrder,
    concurrent_sends_in_another_order: keeps_order_of_concurrent_sends on ConcurrentSendOrder,
    receives_in_another_order: keeps_order_of_receives on ReceiveOrder,
    an_answer_to_another: answers_a_thousand_out_of_order on Matching,
    a_cut_answer: carries_large_messages on Size,
    a_dropped_question: passes_what_the_server_says_during_a_request on ServerRequests,
    late_progress: tells_of_progress_before_the_answer on ProgressOrder,
    an_end_at_a_stray: an_answer_to_nobody_harms_nobody on Strays,
    a_wait_for_what_cannot_be_read: an_answer_that_cannot_be_read_fails_its_request on Unreadable,
    an_unreadable_answer_to_nothing: an_answer_that_cannot_be_read_fails_its_request
        on UnreadableDelivery,
    no_cancel: dropping_a_request_cancels_it on Cancel,
    a_cancelled_handshake: the_handshake_is_never_cancelled_in_words on CancelHandshake,
    a_late_send: dropped_requests_break_nothing on LateSend,
    a_wait_for_the_dead: death_ends_everything on Death,
    an_end_without_a_reason: death_ends_everything on NoFailure,
    an_end_that_the_monitor_does_not_know: death_ends_everything on MonitorSilent,
    a_reason_of_the_wrong_kind: death_ends_everything on WrongKind,
    a_wrong_delivery: death_ends_everything on DeathDelivery,
    a_broken_answer_that_is_closed: a_broken_answer_fails_its_request on BrokenAnswer,
    a_wait_for_a_runtime: requests_end_with_their_runtime on RuntimeGone,
    a_close_for_another_reason: close_is_idempotent on CloseReason,
    a_close_that_is_a_failure: close_is_idempotent on CloseIsFailure,
    a_close_without_bound: close_is_bounded_while_a_send_is_stuck on BoundedClose,
    what_is_left_after_a_drop: drop_leaves_nothing on Drop,
    a_drop_that_needs_a_runtime: drop_outside_a_runtime_leaves_nothing on DropOutside,
}
