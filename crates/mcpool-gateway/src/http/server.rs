//! Connections: how many there are, how slow they may be, and how they end.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;

use super::{at_once::AtOnce, tls::Tls};
use crate::gateway::Gateway;

/// Connections at once, unless it is set.
const MAX_CONNECTIONS: usize = 10_000;

/// How long a client may take to send the head of a request, and to begin the next one on a
/// connection, unless it is set.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client may take to read what it is sent, unless it is set.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the head of a request. A session token has 2 KiB as a rule and 64 KiB at most.
const MAX_HEAD_BYTES: usize = 128 * 1024;

/// How long connections may take to end when the gateway is drained.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The pause after a failure to accept a connection: out of descriptors, as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// What a connection too many is answered.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-type: text/plain\r\ncontent-length: 34\r\n\r\n\
    too many connections to this host\n";

/// Serves a router to TCP connections, within bounds.
///
/// ```no_run
/// use mcpool_gateway::{Gateway, HttpOptions, HttpServer};
/// # async fn serve(gateway: Gateway) -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:7332").await?;
/// let router = gateway.router(HttpOptions::new());
/// HttpServer::new().serve(&gateway, listener, router).await
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct HttpServer {
    tls: Option<Tls>,
    max_connections: usize,
    header_timeout: Duration,
    write_timeout: Duration,
}

impl HttpServer {
    /// Plain HTTP/1.1; 10 000 connections; 60 s for the head of a request, and for a client that
    /// does not read.
    pub fn new() -> Self {
        Self {
            tls: None,
            max_connections: MAX_CONNECTIONS,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
        }
    }

    /// Speaks TLS.
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets how many connections there may be at once; the next is answered with 503 and closed.
    /// Default 10 000.
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.min(Semaphore::MAX_PERMITS);
        self
    }

    /// Sets how long a client may take to send the head of a request, and to begin the next one
    /// on its connection; then the connection is closed. Default 60 s.
    pub fn with_header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// Sets how long a client may read nothing of what it is sent; then the connection is closed.
    /// Default 60 s.
    pub fn with_write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Serves until the gateway is drained. Dropping the future closes every connection.
    ///
    /// # Errors
    /// None in practice: a failure to accept a connection is logged, and tried again.
    pub async fn serve(
        self,
        gateway: &Gateway,
        listener: TcpListener,
        router: Router,
    ) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(self.max_connections));
        let mut connections = JoinSet::new();
        let ended = gateway.0.drain.ended();
        let address = listener.local_addr().ok();
        let _served = address.map(|address| gateway.0.addresses.add(address));
        loop {
            tokio::select! {
                () = ended.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => match Arc::clone(&places).try_acquire_owned() {
                        Ok(place) => {
                            let one = Connection {
                                server: self.clone(),
                                gateway: gateway.clone(),
                                router: router.clone(),
                                peer,
                                _place: place,
                            };
                            connections.spawn(one.serve(stream));
                        }
                        Err(_) => self.turn_away(stream),
                    },
                    // The client went before it was served.
                    Err(error) if is_of_client(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    /// Says that there is no room. It does not wait: what a new connection takes at once is all.
    fn turn_away(&self, stream: TcpStream) {
        tracing::debug!(limit = self.max_connections, "a connection was turned away");
        // Before a handshake there is nothing that a client of TLS would understand.
        if self.tls.is_none()
            && let Ok(mut stream) = stream.into_std()
        {
            // The client has gone, perhaps.
            let _ = stream.write_all(TURNED_AWAY);
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }
}

impl Default for HttpServer {
    fn default() -> Self {
        Self::new()
    }
}

/// One client's connection.
struct Connection {
    server: HttpServer,
    gateway: Gateway,
    router: Router,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Answers are small, and somebody waits for each.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.server.write_timeout));
        let stream = Box::pin(stream);
        match &self.server.tls {
            None => Box::pin(self.speak(stream)).await,
            Some(tls) => {
                let handshake = tls.acceptor().accept(stream);
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                    Ok(Ok(stream)) => Box::pin(self.speak(stream)).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
            }
        }
    }

    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let router = TowerToHyperService::new(self.router.clone());
        let peer = ConnectInfo(self.peer);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.server.header_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let connection = pin!(connection);
        let mut connection = AtOnce::new(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = self.gateway.0.drain.ended().cancelled() => {
                connection.inner().as_mut().graceful_shutdown();
                let last = tokio::time::timeout(LAST_ANSWERS, connection).await;
                last.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection broke off");
        }
    }
}

fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
