//! What the network does to connections: a proxy on loopback that drops, stalls, resets, cuts, and
//! whose behaviour changes as it runs.
//!
//! ```no_run
//! use std::time::Duration;
//! use mcpool_testkit::{Behavior, faults::{Fault, Step, TcpProxy}, fixtures::http::HttpFixture};
//!
//! # fn main() -> std::io::Result<()> {
//! let server = HttpFixture::start(Behavior::new())?;
//! let proxy = TcpProxy::start(server.address())?;
//! let url = format!("http://{}/mcp", proxy.address());
//! // … connect to `url`, then let every packet vanish, as a suspended laptop sees it:
//! proxy.set(Fault::Blackhole);
//! // … or let one trouble follow the other, again and again, while a load runs:
//! proxy.cycle(vec![
//!     Step::During(Fault::Pass, Duration::from_millis(300)),
//!     // What a NAT does that forgets: open connections are dead, and nobody is notified.
//!     Step::HalfOpen,
//!     Step::During(Fault::Drip { bytes: 7, pause: Duration::from_millis(1) }, Duration::from_millis(100)),
//!     Step::Reset,
//! ]);
//! # let _ = url; Ok(())
//! # }
//! ```

mod carry;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

use self::carry::{End, accept};
use crate::fixtures::engine::lock;

/// What happens to the bytes of every connection through a [`TcpProxy`], open ones and new ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Everything passes.
    #[default]
    Pass,
    /// New connections are reset at once; those that are open stay.
    Refuse,
    /// Nothing passes in either direction and nobody is notified. What was held passes when the fault
    /// ends. New connections are accepted and stall as well.
    Blackhole,
    /// Each read waits so long before it passes on.
    Delay(Duration),
    /// Everything passes, so many bytes at a time (0 counts as 1), with a pause after each.
    Drip {
        /// How many bytes.
        bytes: usize,
        /// The pause.
        pause: Duration,
    },
    /// Each connection is reset after so many bytes from the server, counted from its start.
    CutAfter(u64),
    /// Each connection is closed in good order after so many bytes from the server, counted from
    /// its start: what it carried is truncated.
    TruncateAfter(u64),
    /// What is read from the server at once passes twice.
    Duplicate,
}

/// One step of a [`cycle`](TcpProxy::cycle).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// This fault, for so long.
    During(Fault, Duration),
    /// Every connection that is open is reset (RST).
    Reset,
    /// Every connection that is open is closed in good order (FIN).
    Close,
    /// Every connection that is open goes half-open: see [`TcpProxy::half_open_all`].
    HalfOpen,
}

#[derive(Debug)]
struct ProxyState {
    target: SocketAddr,
    fault: watch::Sender<Fault>,
    /// Replaced when the open connections are ended.
    ends: Mutex<watch::Sender<End>>,
    open: AtomicUsize,
    accepted: AtomicUsize,
    from_server: AtomicU64,
}

impl ProxyState {
    fn end(&self, end: End) {
        let ended = std::mem::replace(&mut *lock(&self.ends), watch::Sender::new(End::None));
        ended.send_replace(end);
    }
}

/// A TCP proxy in a thread of its own. Dropping it ends its connections.
#[derive(Debug)]
pub struct TcpProxy {
    shared: Arc<ProxyState>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
    cycle: Mutex<Option<AbortHandle>>,
}

impl TcpProxy {
    /// Starts a proxy to this address, on a free port of loopback.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("mcpool-proxy")
            .enable_all()
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let shared = Arc::new(ProxyState {
            target,
            fault: watch::Sender::new(Fault::Pass),
            ends: Mutex::new(watch::Sender::new(End::None)),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            from_server: AtomicU64::new(0),
        });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            shared,
            address,
            runtime: Some(runtime),
            cycle: Mutex::new(None),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the fault, for open connections and for new ones. Ends a [`cycle`](Self::cycle).
    pub fn set(&self, fault: Fault) {
        self.end_cycle();
        self.shared.fault.send_replace(fault);
    }

    /// Goes through these steps, again and again, until [`set`](Self::set), another cycle or the
    /// drop. Steps that take no time are followed by a pause of a millisecond.
    pub fn cycle(&self, steps: Vec<Step>) {
        self.end_cycle();
        let shared = Arc::clone(&self.shared);
        let running = self.runtime.as_ref().map(|runtime| {
            runtime.spawn(async move {
                loop {
                    for step in &steps {
                        take(&shared, *step).await;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        *lock(&self.cycle) = running.map(|running| running.abort_handle());
    }

    fn end_cycle(&self) {
        if let Some(running) = lock(&self.cycle).take() {
            running.abort();
        }
    }

    /// Resets every open connection (RST). New ones are served.
    pub fn reset_all(&self) {
        self.shared.end(End::Reset);
    }

    /// Closes every open connection in good order (FIN). New ones are served.
    pub fn close_all(&self) {
        self.shared.end(End::Close);
    }

    /// Makes every open connection half-open for good: what either side sends vanishes, and nobody
    /// is notified, as behind a NAT that has forgotten them, or a VPN that went. New ones are served.
    pub fn half_open_all(&self) {
        self.shared.end(End::HalfOpen);
    }

    /// The connections that are open now, half-open ones included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The connections that were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// The bytes that passed from the server so far.
    #[must_use]
    pub fn bytes_from_server(&self) -> u64 {
        self.shared.from_server.load(Ordering::SeqCst)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn take(shared: &ProxyState, step: Step) {
    match step {
        Step::During(fault, time) => {
            shared.fault.send_replace(fault);
            tokio::time::sleep(time).await;
        }
        Step::Reset => shared.end(End::Reset),
        Step::Close => shared.end(End::Close),
        Step::HalfOpen => shared.end(End::HalfOpen),
    }
}
