//! Connections that are dead without a word.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{Delivery, ErrorKind};
use mcpool_http_pool::HttpPool;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{
    drive::{Drive, connect},
    server::{Server, answer, ordinary},
};

/// A way to a server on which every connection that is open at a point dies without a word: no
/// byte comes through any more, and nothing says so. New ones work.
struct HalfOpen {
    url: String,
    dead: watch::Sender<u64>,
    accepted: Arc<AtomicUsize>,
    _passing: JoinSet<()>,
}

impl HalfOpen {
    async fn before(server: &Server) -> Self {
        let to = server.url.trim_start_matches("http://");
        let to = to.trim_end_matches("/mcp").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let dead = watch::Sender::new(0);
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut passing = JoinSet::new();
        let (deaths, count) = (dead.clone(), Arc::clone(&accepted));
        passing.spawn(async move {
            let mut each = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let mut far = TcpStream::connect(&to).await.unwrap();
                let mut dies = deaths.subscribe();
                each.spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = dies.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self {
            url,
            dead,
            accepted,
            _passing: passing,
        }
    }

    fn die(&self) {
        self.dead.send_modify(|deaths| *deaths += 1);
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A server whose calls wait for one another, so that each takes a connection of its own.
async fn gathering(count: usize) -> Server {
    let barrier = Arc::new(tokio::sync::Barrier::new(count));
    Server::start(move |seen| {
        let barrier = Arc::clone(&barrier);
        async move {
            if seen.message["params"]["gather"] == true {
                barrier.wait().await;
                return answer(&seen, json!({}));
            }
            ordinary(&seen)
        }
    })
    .await
}

const IDLE: usize = 8;

/// A client with idle connections.
async fn with_idle(pool: HttpPool) -> (Server, HalfOpen, Drive) {
    let server = gathering(IDLE).await;
    let way = HalfOpen::before(&server).await;
    let mut drive = Drive::on(pool, connect(&way.url)).await;
    drive.initialize().await;
    let gather = (0..IDLE).map(|_| drive.request("tools/call", json!({"gather": true})));
    for answer in futures::future::join_all(gather).await {
        answer.unwrap();
    }
    (server, way, drive)
}

#[tokio::test]
async fn a_fresh_connect_is_not_tied_to_dead_connections() {
    let pool = HttpPool::new();
    let (server, way, old) = with_idle(pool.clone()).await;
    way.die();
    let before = way.accepted();
    let fresh = connect(&way.url).with_fresh(true);
    let mut drive = Drive::on(pool, fresh).await;
    let begun = timeout(Duration::from_secs(10), drive.initialize()).await;
    begun.expect("back within one connect");
    assert!(way.accepted() > before);
    // The old connection uses them no more either.
    let listed = timeout(
        Duration::from_secs(10),
        old.request("tools/list", json!({})),
    );
    listed.await.expect("an answer").unwrap();
    drop(server);
}

#[tokio::test]
async fn after_a_silence_the_next_request_opens_a_connection() {
    let (_server, way, drive) = with_idle(HttpPool::new()).await;
    way.die();
    let silent = timeout(
        Duration::from_millis(1_500),
        drive.request("tools/list", json!({})),
    );
    assert!(silent.await.is_err(), "the connection is dead");
    let listed = timeout(
        Duration::from_secs(10),
        drive.request("tools/list", json!({})),
    );
    listed.await.expect("one silence is enough").unwrap();
}

#[tokio::test]
async fn a_request_that_is_given_up_early_or_beside_others_costs_no_connection() {
    let (server, way, drive) = with_idle(HttpPool::new()).await;
    let before = way.accepted();
    for _ in 0..3 {
        let seen = server.seen("tools/call").len();
        let call = drive.start("tools/call", json!({"gather": true}));
        server.until("tools/call", seen + 1).await;
        call.abort();
        drive.request("tools/list", json!({})).await.unwrap();
    }
    // Each given up closes its own connection; the others stay.
    assert!(way.accepted() <= before + 3, "{} {before}", way.accepted());
}

#[tokio::test]
async fn nobody_listens_at_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    drop(listener);
    let drive = Drive::open(&url).await;
    let error = drive.handshake("initialize", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(drive.failure().is_none(), "nothing was begun");
}
