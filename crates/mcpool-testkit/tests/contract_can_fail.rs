//! Every check of the contract suite can fail: each on a transport that breaks its rule.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use mcpool_core::{
    ConnectRequest, Connector, IncomingMessage, OutgoingMessage, Result, Transport, TransportKind,
    TransportMonitor,
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
    /// Swaps two messages on the way to the server.
    SendOrder,
    /// Swaps two notifications of the server.
    ReceiveOrder,
    /// Changes one message in five hundred when many are sent.
    Concurrency,
    /// Cuts long messages.
    Size,
    /// Drops what the server asks.
    ServerRequests,
    /// Drops what it holds when `receive` is cancelled.
    CancelSafety,
    /// Sends half of a message whose send is dropped.
    WholeSends,
    /// `receive` hangs after `close`.
    ReceiveAfterClose,
    /// `close` waits for stuck sends.
    BoundedClose,
    /// Nothing ends when the server dies.
    Death,
    /// Drop leaves everything open.
    Drop,
    /// Drop needs a runtime.
    DropOutside,
}

struct Target(Breaks);

#[async_trait]
impl ContractTarget for Target {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(Sabotage(self.0, MemoryTarget::new().connector()))
    }

    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture> {
        MemoryTarget::new().start(behavior).await
    }
}

struct Sabotage(Breaks, Arc<dyn Connector>);

#[async_trait]
impl Connector for Sabotage {
    fn kind(&self) -> TransportKind {
        TransportKind::Custom
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Box<dyn Transport>> {
        Ok(Box::new(Broken {
            breaks: self.0,
            inner: Some(self.1.connect(request).await?),
            held: VecDeque::new(),
            state: Arc::default(),
        }))
    }
}

#[derive(Default)]
struct State {
    sends: usize,
    swapped: Option<OutgoingMessage>,
    stuck: Vec<tokio::sync::oneshot::Receiver<()>>,
}

struct Broken {
    breaks: Breaks,
    inner: Option<Box<dyn Transport>>,
    held: VecDeque<IncomingMessage>,
    state: Arc<Mutex<State>>,
}

impl Broken {
    fn inner(&mut self) -> &mut Box<dyn Transport> {
        self.inner.as_mut().unwrap()
    }
}

fn edit_text<M: serde::Serialize + serde::de::DeserializeOwned>(
    message: M,
    edit: impl Fn(&str) -> String,
) -> M {
    let mut json = serde_json::to_value(&message).unwrap();
    for path in ["/result/content/0/text", "/params/arguments/message"] {
        if let Some(text) = json.pointer_mut(path) {
            *text = edit(text.as_str().unwrap_or_default()).into();
        }
    }
    serde_json::from_value(json).unwrap()
}

fn method_of<M: serde::Serialize>(message: &M) -> String {
    let json = serde_json::to_value(message).unwrap();
    json["method"].as_str().unwrap_or_default().to_owned()
}

impl Transport for Broken {
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'static, Result<()>> {
        let inner = self.inner.as_ref().unwrap();
        let mut state = self.state.lock().unwrap();
        state.sends += 1;
        match self.breaks {
            Breaks::SendOrder if method_of(&message) == "notifications/sequence" => {
                match state.swapped.take() {
                    None => {
                        state.swapped = Some(message);
                        std::future::ready(Ok(())).boxed()
                    }
                    Some(earlier) => {
                        let (first, second) = (inner.send(message), inner.send(earlier));
                        async move { first.await.and(second.await) }.boxed()
                    }
                }
            }
            Breaks::Concurrency if state.sends.is_multiple_of(500) => {
                inner.send(edit_text(message, |_| "another".to_owned()))
            }
            Breaks::WholeSends => {
                let half = edit_text(message.clone(), |text| text[..text.len() / 2].to_owned());
                let (half, whole) = (inner.send(half), inner.send(message));
                struct Half(Option<BoxFuture<'static, Result<()>>>);
                impl Half {
                    fn keep(mut self) {
                        self.0 = None;
                    }
                }
                impl Drop for Half {
                    fn drop(&mut self) {
                        if let Some(half) = self.0.take() {
                            let _ = half.now_or_never();
                        }
                    }
                }
                let half = Half(Some(half));
                async move {
                    tokio::task::yield_now().await;
                    let sent = whole.await;
                    half.keep();
                    sent
                }
                .boxed()
            }
            Breaks::BoundedClose => {
                let (done, waits) = tokio::sync::oneshot::channel();
                state.stuck.push(waits);
                let send = inner.send(message);
                async move {
                    let sent = send.await;
                    drop(done);
                    sent
                }
                .boxed()
            }
            _ => inner.send(message),
        }
    }

    fn receive(&mut self) -> BoxFuture<'_, Option<IncomingMessage>> {
        let breaks = self.breaks;
        if let Some(held) = self.held.pop_front() {
            return std::future::ready(Some(held)).boxed();
        }
        async move {
            let message = self.inner().receive().await;
            let Some(message) = message else {
                if matches!(breaks, Breaks::Death | Breaks::ReceiveAfterClose) {
                    std::future::pending::<()>().await;
                }
                return None;
            };
            match breaks {
                Breaks::Answers => Some(edit_text(message, str::to_uppercase)),
                Breaks::Size => Some(edit_text(message, |text| {
                    text.chars().take(70_000).collect()
                })),
                Breaks::ServerRequests if method_of(&message) == "roots/list" => {
                    // The suite waits for the request; the end of the connection ends that.
                    None
                }
                Breaks::CancelSafety => {
                    tokio::task::yield_now().await;
                    Some(message)
                }
                Breaks::ReceiveOrder if method_of(&message) == "notifications/burst" => {
                    match self.inner().receive().await {
                        None => Some(message),
                        Some(later) => {
                            self.held.push_back(message);
                            Some(later)
                        }
                    }
                }
                _ => Some(message),
            }
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        let stuck = std::mem::take(&mut self.state.lock().unwrap().stuck);
        let breaks = self.breaks;
        async move {
            if breaks == Breaks::BoundedClose {
                for send in stuck {
                    let _ = send.await;
                }
            }
            self.inner().close().await
        }
        .boxed()
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        self.inner.as_ref().unwrap().monitor()
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        match self.breaks {
            Breaks::Drop => std::mem::forget(self.inner.take()),
            Breaks::DropOutside => {
                let mut inner = self.inner.take().unwrap();
                tokio::spawn(async move { inner.close().await });
            }
            _ => {}
        }
    }
}

macro_rules! can_fail {
    ($($check:ident: $breaks:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let verdict = contract::$check(&Target(Breaks::$breaks)).await;
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
    answers_a_call: Answers,
    keeps_order_of_sends: SendOrder,
    keeps_order_of_receives: ReceiveOrder,
    sends_concurrently: Concurrency,
    carries_large_messages: Size,
    passes_notifications_and_requests_of_the_server: ServerRequests,
    receive_is_cancel_safe: CancelSafety,
    dropped_sends_break_nothing: WholeSends,
    close_is_idempotent: ReceiveAfterClose,
    close_is_bounded_while_a_send_is_stuck: BoundedClose,
    death_ends_everything: Death,
    drop_leaves_nothing: Drop,
    drop_outside_a_runtime_leaves_nothing: DropOutside,
}
