//! A login from a terminal: a browser is opened, and its redirect comes back to a listener on
//! loopback, or is pasted.

use std::{fmt, net::Ipv4Addr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesUnordered};
use mcpool_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    time::timeout,
};
use url::Url;

use crate::{
    error::refused,
    login::{LoginAgent, LoginPrompt, RedirectReceiver, query},
};

const PATH: &str = "/callback";
/// Far more than a redirect needs, headers and all.
const MAX_REQUEST: usize = 32 * 1024;
/// How long a connection may take to say what it wants. Browsers open some that never do.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 32;

/// Opens URLs. A seam for tests, and for who knows better which browser.
pub trait Browser: Send + Sync + fmt::Debug {
    /// Opens a URL. May block for a moment, but not until the user is done.
    ///
    /// # Errors
    /// When there is no browser. The login goes on: the user has the URL.
    fn open(&self, url: &str) -> Result<()>;
}

/// The user's own browser.
#[cfg(feature = "browser")]
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct has nothing to add"
)]
pub struct SystemBrowser;

#[cfg(feature = "browser")]
impl Browser for SystemBrowser {
    fn open(&self, url: &str) -> Result<()> {
        let mut options = webbrowser::BrowserOptions::new();
        // A browser's chatter does not belong on our terminal.
        options.with_suppress_output(true);
        webbrowser::open_browser_with_options(webbrowser::Browser::Default, url, &options).map_err(
            |error| {
                Error::new(ErrorKind::Internal, "no browser could be opened").with_source(error)
            },
        )
    }
}

type Show = Arc<dyn Fn(&LoginPrompt) + Send + Sync>;

/// The [`LoginAgent`] for a person at this machine, or at another one.
///
/// It listens on `127.0.0.1` only (RFC 8252, section 7.3), on the spec's `redirect_port` or a
/// free one, opens the browser, and waits up to 5 minutes. The browser is shown how it ended.
/// Where no browser can reach this machine, the user pastes the URL of the redirect: see
/// [`with_pasted`](Self::with_pasted).
#[derive(Clone)]
pub struct InteractiveLogin {
    browser: Option<Arc<dyn Browser>>,
    show: Option<Show>,
    pasted: Option<Arc<Mutex<mpsc::Receiver<String>>>>,
    timeout: Duration,
}

impl fmt::Debug for InteractiveLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InteractiveLogin")
            .field("browser", &self.browser)
            .field("pasted", &self.pasted.is_some())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Default for InteractiveLogin {
    fn default() -> Self {
        Self::new()
    }
}

impl InteractiveLogin {
    /// A login that opens nothing and shows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            browser: None,
            show: None,
            pasted: None,
            timeout: Duration::from_secs(300),
        }
    }

    /// Opens the URL in this browser.
    #[must_use]
    pub fn with_browser(mut self, browser: Arc<dyn Browser>) -> Self {
        self.browser = Some(browser);
        self
    }

    /// Shows the user the URL. Called once, before the browser is opened. The URL holds no
    /// secret, but printing it is the application's business.
    #[must_use]
    pub fn with_prompt(mut self, show: impl Fn(&LoginPrompt) + Send + Sync + 'static) -> Self {
        self.show = Some(Arc::new(show));
        self
    }

    /// Also takes the redirect from here: lines that the user pasted. One that is not the
    /// redirect of this login is an error, so that the user learns of it.
    #[must_use]
    pub fn with_pasted(mut self, lines: mpsc::Receiver<String>) -> Self {
        self.pasted = Some(Arc::new(Mutex::new(lines)));
        self
    }

    /// Sets how long the user may take. Default 5 minutes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

#[async_trait]
impl LoginAgent for InteractiveLogin {
    async fn prepare(&self, redirect_port: Option<u16>) -> Result<Box<dyn RedirectReceiver>> {
        let port = redirect_port.unwrap_or(0);
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot listen on port {port} of this machine for the login's redirect"),
            )
            .with_source(error)
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Box::new(Loopback {
            login: self.clone(),
            listener,
            redirect_uri: format!("http://127.0.0.1:{port}{PATH}"),
            waiting: None,
            server: String::new(),
        }))
    }
}

struct Loopback {
    login: InteractiveLogin,
    listener: TcpListener,
    redirect_uri: String,
    /// The browser that brought the redirect, and waits for its page.
    waiting: Option<TcpStream>,
    server: String,
}

#[async_trait]
impl RedirectReceiver for Loopback {
    fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    async fn receive(&mut self, prompt: &LoginPrompt) -> Result<String> {
        self.server.clone_from(&prompt.server);
        if let Some(show) = &self.login.show {
            show(prompt);
        }
        if let Some(browser) = self.login.browser.clone() {
            let url = prompt.url.clone();
            // Not waited for: the redirect may come, or be pasted, before this returns.
            tokio::task::spawn_blocking(move || {
                if let Err(error) = browser.open(&url) {
                    tracing::info!(%error, "open the URL by hand");
                }
            });
        }
        let pasted = self.login.pasted.clone();
        let from_paste = async {
            match &pasted {
                Some(lines) => match lines.lock().await.recv().await {
                    Some(line) => line,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        let from_browser = accept_redirect(&self.listener, &self.redirect_uri, &prompt.state);
        let received = timeout(self.login.timeout, async {
            tokio::select! {
                line = from_paste => Ok((line, None)),
                redirect = from_browser => redirect.map(|(url, stream)| (url, Some(stream))),
            }
        })
        .await;
        match received {
            Ok(result) => {
                let (url, stream) = result?;
                self.waiting = stream;
                Ok(url)
            }
            Err(_) => Err(refused(format!(
                "nobody logged in within {} s",
                self.login.timeout.as_secs()
            ))),
        }
    }

    async fn finished(&mut self, outcome: std::result::Result<(), &Error>) {
        let Some(stream) = self.waiting.take() else {
            return;
        };
        let (title, text) = match outcome {
            Ok(()) => (
                "You are logged in",
                format!("{} may be used now. You may close this page.", self.server),
            ),
            Err(error) => ("The login failed", error.message().to_owned()),
        };
        answer(stream, "200 OK", &page(title, &text)).await;
    }
}

/// Serves connections until one brings the redirect with the right state. Anything else gets a
/// page and changes nothing: any web page may send a browser here.
async fn accept_redirect(
    listener: &TcpListener,
    redirect_uri: &str,
    state: &str,
) -> Result<(String, TcpStream)> {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => open.push(timeout(
                    REQUEST_TIMEOUT,
                    read_redirect(stream, redirect_uri, state),
                )),
                Err(error) => {
                    return Err(Error::new(ErrorKind::Internal, "the login's listener failed")
                        .with_source(error));
                }
            },
            Some(done) = open.next(), if !open.is_empty() => {
                if let Ok(Some(redirect)) = done {
                    return Ok(redirect);
                }
            }
        }
    }
}

async fn read_redirect(
    mut stream: TcpStream,
    redirect_uri: &str,
    state: &str,
) -> Option<(String, TcpStream)> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut chunk = [0_u8; 2048];
        let count = stream.read(&mut chunk).await.ok()?;
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
        answer(stream, "404 Not Found", &page("Nothing here", "")).await;
        return None;
    }
    if query(&url, "state").as_deref() != Some(state) {
        let text = "This redirect belongs to no login that is waiting. Start the login again.";
        answer(stream, "400 Bad Request", &page("Not this login", text)).await;
        return None;
    }
    Some((url.into(), stream))
}

async fn answer(mut stream: TcpStream, status: &str, body: &str) {
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
