//! A login from a terminal: a browser is opened, and its redirect comes back to a listener on
//! loopback, or is pasted.

use std::{fmt, net::Ipv4Addr, sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_core::{Error, ErrorKind, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::{
    error::refused,
    login::{LoginAgent, LoginPrompt, RedirectReceiver},
    redirect_listener::{self, PATH},
};

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
        let from_browser =
            redirect_listener::serve(&self.listener, &self.redirect_uri, &prompt.state);
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
        redirect_listener::answer(stream, title, &text).await;
    }
}
