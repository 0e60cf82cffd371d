//! What the network does to connections: a proxy on loopback that drops, stalls, resets, cuts.
//!
//! ```no_run
//! use mcpool_testkit::{Behavior, faults::{Fault, TcpProxy}, fixtures::http::HttpFixture};
//!
//! # fn main() -> std::io::Result<()> {
//! let server = HttpFixture::start(Behavior::new())?;
//! let proxy = TcpProxy::start(server.address())?;
//! let url = format!("http://{}/mcp", proxy.address());
//! // … connect to `url`, then let every packet vanish, as a suspended laptop sees it:
//! proxy.set(Fault::Blackhole);
//! # let _ = url; Ok(())
//! # }
//! ```

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::fixtures::engine::lock;

/// What happens to the connections through a [`TcpProxy`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Everything passes.
    #[default]
    Pass,
    /// New connections are reset at once; those that are open stay.
    Refuse,
    /// Nothing passes in either direction and nobody is told: a half-open connection. What was
    /// held passes when the fault ends. New connections are accepted and stall as well.
    Blackhole,
    /// Each read waits so long before it passes on.
    Delay(Duration),
    /// Each connection is reset after so many bytes from the server, counted from its start.
    CutAfter(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    None,
    Close,
    Reset,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    fault: watch::Sender<Fault>,
    /// Replaced when the open connections are ended.
    ends: Mutex<watch::Sender<End>>,
    open: AtomicUsize,
    accepted: AtomicUsize,
    from_server: AtomicU64,
}

/// A TCP proxy in a thread of its own. Dropping it ends its connections.
#[derive(Debug)]
pub struct TcpProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
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
        let shared = Arc::new(Shared {
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
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the fault, for open connections and for new ones.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// Resets every open connection (RST). New ones are served.
    pub fn reset_all(&self) {
        self.end(End::Reset);
    }

    /// Closes every open connection in good order (FIN). New ones are served.
    pub fn close_all(&self) {
        self.end(End::Close);
    }

    fn end(&self, end: End) {
        let ended = std::mem::replace(&mut *lock(&self.shared.ends), watch::Sender::new(End::None));
        ended.send_replace(end);
    }

    /// The connections that are open now.
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

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if *shared.fault.borrow() == Fault::Refuse {
            reset(&client);
            continue;
        }
        let ends = lock(&shared.ends).subscribe();
        tokio::spawn(carry(client, ends, Arc::clone(&shared)));
    }
}

fn reset(stream: &TcpStream) {
    // Closing with zero linger sends RST instead of FIN.
    let _ = stream.set_zero_linger();
}

struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, mut ends: watch::Receiver<End>, shared: Arc<Shared>) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(&shared);
    let Ok(mut server) = TcpStream::connect(shared.target).await else {
        return reset(&client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let end = {
        let (mut client_read, mut client_write) = client.split();
        let (mut server_read, mut server_write) = server.split();
        let up = pump(&mut client_read, &mut server_write, &shared, false);
        let down = pump(&mut server_read, &mut client_write, &shared, true);
        let both = async { tokio::try_join!(up, down) };
        tokio::select! {
            both = both => both.map_or(End::Reset, |_| End::Close),
            ended = ends.wait_for(|end| *end != End::None) => {
                ended.map_or(End::Close, |end| *end)
            }
        }
    };
    if end == End::Reset {
        reset(&client);
        reset(&server);
    }
}

/// The connection is to be cut.
struct Cut;

/// Passes bytes on until the end.
async fn pump(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    shared: &Shared,
    from_server: bool,
) -> Result<(), Cut> {
    let mut fault = shared.fault.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0_u64;
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                let _ = to.shutdown().await;
                return Ok(());
            }
            Ok(read) => read,
        };
        let mut allowed = read;
        loop {
            let now = *fault.borrow_and_update();
            match now {
                Fault::Blackhole => {
                    if fault.changed().await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                Fault::Delay(pause) => tokio::time::sleep(pause).await,
                Fault::CutAfter(limit) if from_server => {
                    let left = usize::try_from(limit.saturating_sub(passed)).unwrap_or(usize::MAX);
                    allowed = read.min(left);
                }
                _ => {}
            }
            break;
        }
        if to.write_all(&buffer[..allowed]).await.is_err() {
            return Ok(());
        }
        passed += allowed as u64;
        if from_server {
            shared
                .from_server
                .fetch_add(allowed as u64, Ordering::SeqCst);
        }
        if allowed < read {
            let _ = to.flush().await;
            return Err(Cut);
        }
    }
}
