//! Clients and factories of somebody else's that panic: each costs one connection at most, and the
//! error names the right one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    Client, ClientFactory, ClientSnapshot, CloseReason, ConnectOptions, ConnectionInfo, ErrorKind,
    EventKind, Notices, Notification, ProbeReport, Raw, Request, RequestOptions, Result,
    ServerName, ServerSpec, StateKind,
};
use mcpool_manager::{CallOptions, ConnectionManager};

use crate::scripted::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Connect,
    Notices,
    List,
    Info,
    Snapshot,
    Probe,
    Closed,
    IsClosed,
    Call,
    Close,
    Kill,
}

/// Panics at one place while a test wants it to.
struct Panics {
    at: At,
    armed: Arc<AtomicBool>,
    inner: Arc<dyn Client>,
}

impl Panics {
    fn here(&self, at: At) {
        blow(self.at, at, &self.armed);
    }
}

fn blow(wanted: At, at: At, armed: &AtomicBool) {
    if wanted == at && armed.load(Ordering::SeqCst) {
        panic!("boom in {at:?}");
    }
}

#[async_trait]
impl Requester for Panics {
    fn server(&self) -> &ServerName {
        self.inner.server()
    }

    fn info(&self) -> Option<Arc<ConnectionInfo>> {
        self.here(At::Info);
        self.inner.info()
    }

    async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        self.here(match &*request.method {
            "tools/list" => At::List,
            _ => At::Call,
        });
        self.inner.request(request, options).await
    }

    fn notices(&self) -> Notices {
        self.here(At::Notices);
        self.inner.notices()
    }
}

#[async_trait]
impl Client for Panics {
    fn snapshot(&self) -> ClientSnapshot {
        self.here(At::Snapshot);
        self.inner.snapshot()
    }

    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        self.here(At::Probe);
        self.inner.probe(timeout).await
    }

    async fn notify(&self, notification: &Notification) -> Result<()> {
        self.inner.notify(notification).await
    }

    async fn closed(&self) -> CloseReason {
        // Also of one that is armed later.
        while !self.armed.load(Ordering::SeqCst) || self.at != At::Closed {
            tokio::select! {
                reason = self.inner.closed() => return reason,
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
        panic!("boom in Closed");
    }

    fn is_closed(&self) -> bool {
        self.here(At::IsClosed);
        self.inner.is_closed()
    }

    async fn close(&self) {
        self.here(At::Close);
        self.inner.close().await;
    }

    fn kill(&self) {
        self.here(At::Kill);
        self.inner.kill();
    }
}

struct Factory {
    at: At,
    armed: Arc<AtomicBool>,
    world: World,
}

#[async_trait]
impl ClientFactory for Factory {
    async fn connect(
        &self,
        spec: &ServerSpec,
        options: &ConnectOptions,
    ) -> Result<Arc<dyn Client>> {
        blow(self.at, At::Connect, &self.armed);
        Ok(Arc::new(Panics {
            at: self.at,
            armed: Arc::clone(&self.armed),
            inner: self.world.factory().connect(spec, options).await?,
        }))
    }

    async fn credentials_changed(&self, _: &ServerSpec) {
        panic!("boom in credentials_changed");
    }
}

fn panicking(at: At, armed: bool) -> (World, Arc<AtomicBool>, ConnectionManager) {
    let world = World::new();
    let armed = Arc::new(AtomicBool::new(armed));
    let factory = Factory {
        at,
        armed: Arc::clone(&armed),
        world: world.clone(),
    };
    let manager = ConnectionManager::new(Arc::new(factory));
    (world, armed, manager)
}

/// It is connected again by itself, and usable.
async fn well(manager: &ConnectionManager) {
    let options = CallOptions::new().with_timeout(Duration::from_secs(120));
    call_tool(manager, "a", "echo", None, &options)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_connect_is_a_failed_connect_of_the_one_that_panicked() {
    for (at, blamed) in [
        (
            At::Connect,
            "`connect` of the client factory panicked: boom",
        ),
        (At::Notices, "`notices` of the client panicked: boom"),
        (At::List, "a request of the client panicked: boom"),
        (At::Info, "a request of the client panicked: boom in Info"),
    ] {
        let (world, armed, manager) = panicking(at, true);
        let report = manager.start(vec![spec("a")]).await.unwrap();
        let error = report.all_connected().unwrap_err();
        assert!(error.message().contains(blamed), "{at:?}: {error}");
        armed.store(false, Ordering::SeqCst);
        well(&manager).await;
        assert_eq!(world.clients().now(), 1, "{at:?}: the first one is closed");
        manager.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_live_client_costs_that_connection_alone() {
    for at in [At::Closed, At::IsClosed, At::Probe] {
        let (world, armed, manager) = panicking(at, false);
        let mut a = spec("a");
        a.policy.health.interval = Duration::from_secs(1);
        manager
            .start(vec![a])
            .await
            .unwrap()
            .all_connected()
            .unwrap();
        let mut events = manager.events();
        armed.store(true, Ordering::SeqCst);
        // Anybody who asks for it first meets the panic.
        let _ = manager.status_all();
        let _ = of(&manager, "a").client();
        loop {
            let event = events.next_event().await.expect("the manager lives");
            if matches!(event.kind, EventKind::Disconnected { .. }) {
                break;
            }
        }
        let error = of(&manager, "a").status().unwrap().last_error.unwrap();
        let blamed = error.message().contains(&format!("boom in {at:?}"));
        assert!(blamed, "{at:?}: {error}");
        armed.store(false, Ordering::SeqCst);
        well(&manager).await;
        assert_eq!(world.server("a").count(Op::Connect), 2, "{at:?}");
        manager.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_call_is_its_error_and_ends_the_connection() {
    let (world, armed, manager) = panicking(At::Call, true);
    manager.start(vec![spec("a")]).await.unwrap();
    let error = call_tool(&manager, "a", "echo", None, &CallOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.delivery(), mcpool_core::Delivery::Unknown);
    assert!(error.message().contains("boom in Call"), "{error}");
    armed.store(false, Ordering::SeqCst);
    well(&manager).await;
    assert_eq!(world.server("a").count(Op::Connect), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_what_only_tells_costs_nothing() {
    for at in [At::Snapshot, At::Close, At::Kill] {
        let (world, _armed, manager) = panicking(at, true);
        manager
            .start(vec![spec("a")])
            .await
            .unwrap()
            .all_connected()
            .unwrap();
        well(&manager).await;
        assert!(of(&manager, "a").status().is_ok());
        assert_eq!(world.server("a").count(Op::Connect), 1, "{at:?}");
        world.server("a").always(Op::Close, Act::Never);
        manager.shutdown(Duration::from_secs(5)).await;
        assert_eq!(world.clients().now(), 0, "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_over_credentials_ends_no_supervision() {
    let (world, _armed, manager) = panicking(At::Kill, false);
    let login = mcpool_core::Error::new(ErrorKind::AuthRequired, "who are you");
    world.server("a").next(Op::Connect, Act::Fail(login));
    manager.start(vec![spec("a")]).await.unwrap();
    let state = of(&manager, "a").status().unwrap().state;
    assert_eq!(state, StateKind::AuthRequired);
    tokio::time::sleep(Duration::from_secs(1)).await;
    of(&manager, "a").connect().await.unwrap();
    well(&manager).await;
}
