//! A transport of one's own, over a Unix socket, and the contract suite on it.
//!
//! The transport is that of mcpool's example `custom_transport`: some thirty lines, since messages
//! that are lines on a stream of bytes are what `mcpool_duplex::lines` is for. The rest puts the
//! fixture server behind a socket.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../mcpool/examples/custom_transport/connector.rs"]
mod connector;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use connector::UnixConnector;
use mcpool_core::{ConnectRequest, Connector, TransportSpec};
use mcpool_testkit::{
    Behavior,
    contract::{ContractTarget, Footprint, RunningFixture},
    contract_tests,
    fixtures::{Engine, Outbox, Outgoing},
    leaks::Marker,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

/// One socket, whatever server listens on it.
struct Target(Marker);

impl Target {
    fn new() -> Self {
        Self(Marker::new())
    }

    fn path(&self) -> PathBuf {
        self.0.dir().join("socket")
    }
}

#[async_trait]
impl ContractTarget for Target {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(UnixConnector(self.path()))
    }

    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture> {
        Box::new(UnixServer::start(behavior, self.path()))
    }
}

contract_tests!(Target::new());

/// The fixture server behind a socket, on a runtime of its own.
struct UnixServer {
    path: PathBuf,
    running: Arc<Mutex<Option<tokio::runtime::Runtime>>>,
    connections: Arc<AtomicUsize>,
}

impl UnixServer {
    fn start(behavior: Behavior, path: PathBuf) -> Self {
        // What a server before this one left.
        let _ = std::fs::remove_file(&path);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(&path).unwrap()
        };
        let engine = Engine::new(behavior);
        let connections = Arc::new(AtomicUsize::new(0));
        let running = Arc::new(Mutex::new(None));
        let (counted, killed) = (Arc::clone(&connections), Arc::clone(&running));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let open = Open::new(Arc::clone(&counted));
                let (engine, killed) = (Arc::clone(&engine), Arc::clone(&killed));
                tokio::spawn(async move {
                    serve(stream, &engine, &killed).await;
                    drop(open);
                });
            }
        });
        *running.lock().unwrap() = Some(runtime);
        Self {
            path,
            running,
            connections,
        }
    }
}

fn kill(running: &Mutex<Option<tokio::runtime::Runtime>>) {
    if let Some(runtime) = running.lock().unwrap().take() {
        runtime.shutdown_background();
    }
}

/// Counts a connection for as long as it is open.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(
    stream: UnixStream,
    engine: &Arc<Engine>,
    running: &Mutex<Option<tokio::runtime::Runtime>>,
) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let (outbox, mut outgoing) = Outbox::channel();
    let session = engine.open(outbox.clone());
    let mut reads = true;
    let mut handlers = tokio::task::JoinSet::new();
    handlers.spawn(Arc::clone(&session).chatter());
    // Written by a task of its own, so that a client that does not read is read from.
    let (sender, mut to_write) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let writer = tokio::spawn(async move {
        while let Some(bytes) = to_write.recv().await {
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    loop {
        tokio::select! {
            biased;
            Some(outgoing) = outgoing.recv() => match outgoing {
                Outgoing::Message(message) => say(&sender, message.to_string()),
                Outgoing::Text(text) => say(&sender, text),
                Outgoing::Torn(message) => {
                    let text = message.to_string();
                    let _ = sender.send(text.as_bytes()[..text.len() / 2].to_vec());
                    drop(sender);
                    // What was given is written; then the connection goes.
                    let _ = writer.await;
                    return;
                }
                Outgoing::StopReading => reads = false,
                _ => return kill(running),
            },
            line = lines.next_line(), if reads => {
                let Ok(Some(line)) = line else { return };
                let Ok(message) = serde_json::from_str(&line) else { return };
                let mut handled = Box::pin(Arc::clone(&session).handle(message, outbox.clone()));
                if futures::poll!(handled.as_mut()).is_pending() {
                    handlers.spawn(handled);
                }
            }
            Some(_) = handlers.join_next() => {}
        }
    }
}

fn say(to: &tokio::sync::mpsc::UnboundedSender<Vec<u8>>, line: String) {
    // It fails when the client is gone.
    let _ = to.send((line + "\n").into_bytes());
}

impl RunningFixture for UnixServer {
    fn request(&self) -> ConnectRequest {
        let target = TransportSpec::Custom(Arc::new(UnixConnector(self.path.clone())));
        ConnectRequest::new("socket".parse().unwrap(), target)
    }

    fn kill(&self) {
        kill(&self.running);
    }

    fn footprint(&self) -> Option<Footprint> {
        let open = self.connections.load(Ordering::SeqCst);
        Some(Footprint::new(0, open))
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        self.kill();
    }
}
