//! The listener on loopback that the browser is sent back to (RFC 8252, section 7.3).

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{
    StreamExt,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use mcpool_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use url::Url;

use crate::login::query;

/// The path of the redirect URI.
pub(crate) const PATH: &str = "/callback";
/// Far more than a redirect needs, headers and all.
const MAX_REQUEST: usize = 32 * 1024;
/// How long a connection may take to say what it wants. Browsers open some that never do.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Beyond so many connections, one makes way for the next: the oldest that is silent for longer
/// than a browser is, else the oldest.
const MAX_CONNECTIONS: usize = 256;
/// A browser sends its request right after it has connected.
const BROWSER_SILENCE: Duration = Duration::from_millis(500);
/// How often in a row no connection may be had before the listener counts as broken.
const MAX_FAILURES: u32 = 100;
/// What a system that is out of descriptors is given to find some.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until one brings the redirect with the right state. Anything else gets a
/// page and changes nothing: any web page, and any program of this machine, may send something
/// here. However many connections there are, the next one is taken and read: the redirect gets
/// through.
pub(crate) async fn serve(
    listener: &TcpListener,
    redirect_uri: &str,
    state: &str,
) -> Result<(String, TcpStream)> {
    let mut open = Connections::default();
    let mut serving = FuturesUnordered::new();
    let failures = AtomicU32::new(0);
    loop {
        tokio::select! {
            accepted = accept(listener, &failures) => {
                let stream = accepted?;
                let (id, connection) = open.add(|silent| async move {
                    let read = read_redirect(stream, &silent, redirect_uri, state);
                    timeout(REQUEST_TIMEOUT, read).await.ok().flatten()
                });
                serving.push(async move { (id, connection.await.ok().flatten()) });
            }
            Some((id, redirect)) = serving.next(), if !serving.is_empty() => {
                if let Some(redirect) = redirect {
                    return Ok(redirect);
                }
                open.remove(id);
            }
        }
    }
}

/// The next connection. Passes over failures of the moment: a peer that is gone already, a system
/// that is out of descriptors.
async fn accept(listener: &TcpListener, failures: &AtomicU32) -> Result<TcpStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failures.store(0, Ordering::Relaxed);
                return Ok(stream);
            }
            Err(error) if failures.fetch_add(1, Ordering::Relaxed) < MAX_FAILURES => {
                tracing::debug!(%error, "the login's listener took no connection");
                sleep(PAUSE).await;
            }
            Err(error) => {
                return Err(
                    Error::new(ErrorKind::Internal, "the login's listener failed")
                        .with_source(error),
                );
            }
        }
    }
}

/// The connections that are served, the oldest first.
#[derive(Default)]
struct Connections {
    next: u64,
    open: VecDeque<Open>,
}

struct Open {
    id: u64,
    since: Instant,
    silent: Arc<AtomicBool>,
    handle: AbortHandle,
}

impl Connections {
    /// Adds one; if there are too many, ends the oldest that should have said something by now,
    /// else the oldest. One that has just come is never the one that ends.
    fn add<F: Future>(&mut self, work: impl FnOnce(Arc<AtomicBool>) -> F) -> (u64, Abortable<F>) {
        if self.open.len() >= MAX_CONNECTIONS {
            let is_idle = |open: &Open| {
                open.silent.load(Ordering::Relaxed) && open.since.elapsed() >= BROWSER_SILENCE
            };
            let at = self.open.iter().position(is_idle).unwrap_or(0);
            if let Some(open) = self.open.remove(at) {
                open.handle.abort();
            }
        }
        let silent = Arc::new(AtomicBool::new(true));
        let (connection, handle) = futures::future::abortable(work(Arc::clone(&silent)));
        self.next += 1;
        self.open.push_back(Open {
            id: self.next,
            since: Instant::now(),
            silent,
            handle,
        });
        (self.next, connection)
    }

    fn remove(&mut self, id: u64) {
        self.open.retain(|open| open.id != id);
    }
}

async fn read_redirect(
    mut stream: TcpStream,
    silent: &AtomicBool,
    redirect_uri: &str,
    state: &str,
) -> Option<(String, TcpStream)> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut chunk = [0_u8; 2048];
        let count = stream.read(&mut chunk).await.ok()?;
        silent.store(false, Ordering::Relaxed);
        if count == 0 || head.len() + count > MAX_REQUEST {
            return None;
        }
        head.extend_from_slice(chunk.get(..count)?);
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let url = Url::parse(redirect_uri).ok()?.join(target).ok()?;
    if method != "GET" || url.path() != PATH || !target.starts_with('/') {
        respond(stream, "404 Not Found", &page("Nothing here", "")).await;
        return None;
    }
    if query(&url, "state").as_deref() != Some(state) {
        let text = "This redirect belongs to no login that is waiting. Start the login again.";
        respond(stream, "400 Bad Request", &page("Not this login", text)).await;
        return None;
    }
    Some((url.into(), stream))
}

/// Shows a page to the browser that brought the redirect.
pub(crate) async fn answer(stream: TcpStream, title: &str, text: &str) {
    respond(stream, "200 OK", &page(title, text)).await;
}

async fn respond(mut stream: TcpStream, status: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; \
         style-src 'unsafe-inline'\r\n\r\n{body}",
        body.len()
    );
    let sent = timeout(REQUEST_TIMEOUT, async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    });
    if let Ok(Err(error)) = sent.await {
        tracing::debug!(%error, "the browser did not take its page");
    }
}

fn page(title: &str, text: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;\
         padding:0 1rem;color:#1c2330;background:#f6f7f9}}h1{{font-size:1.5rem}}\
         @media(prefers-color-scheme:dark){{body{{color:#e6e9ef;background:#14171c}}}}</style>\
         <h1>{title}</h1><p>{}</p></html>",
        escape(text)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_just_come_does_not_make_way_for_a_flood() {
        let mut connections = Connections::default();
        let pending = |_| std::future::pending::<()>();
        // They speak, and never end.
        for _ in 0..MAX_CONNECTIONS - 1 {
            let (_, connection) = connections.add(pending);
            drop(connection);
            if let Some(open) = connections.open.back() {
                open.silent.store(false, Ordering::Relaxed);
            }
        }
        let (browser, _connection) = connections.add(pending);
        let is_there =
            |connections: &Connections| connections.open.iter().any(|open| open.id == browser);
        for _ in 0..MAX_CONNECTIONS - 1 {
            let _ = connections.add(pending);
            assert!(is_there(&connections));
        }
        tokio::time::advance(BROWSER_SILENCE).await;
        let _ = connections.add(pending);
        assert!(!is_there(&connections), "it is the oldest silent one");
        assert_eq!(connections.open.len(), MAX_CONNECTIONS);
    }
}
