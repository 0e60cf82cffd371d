//! The login from a terminal: a real listener, a browser's requests, what it is shown, and paste.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool_auth::{Browser, InteractiveLogin, LoginPrompt, LoginState};
use mcpool_core::{ErrorKind, OAuthSpec, Result};
use support::{follow, guarded, in_memory, plain_client, spec, start};
use tokio::{net::TcpListener, sync::mpsc};

/// Hands the URL to the test, which is the browser.
#[derive(Debug)]
struct Handed(mpsc::UnboundedSender<String>);

impl Browser for Handed {
    fn open(&self, url: &str) -> Result<()> {
        self.0.send(url.to_owned()).unwrap();
        Ok(())
    }
}

fn agent() -> (InteractiveLogin, mpsc::UnboundedReceiver<String>) {
    let (sender, urls) = mpsc::unbounded_channel();
    let agent = InteractiveLogin::new().with_browser(Arc::new(Handed(sender)));
    (agent, urls)
}

async fn get(url: &str) -> reqwest::Response {
    plain_client().await.get(url).send().await.unwrap()
}

#[tokio::test]
async fn the_browser_brings_the_redirect_and_shows_how_it_ended() {
    let (server, oauth, spec) = guarded(|_| {});
    let prompts: Arc<Mutex<Vec<LoginPrompt>>> = Arc::default();
    let seen = Arc::clone(&prompts);
    let (agent, mut urls) = agent();
    let again = agent.clone();
    let agent = agent.with_prompt(move |prompt| seen.lock().unwrap().push(prompt.clone()));
    let browser = async {
        let url = urls.recv().await.unwrap();
        let redirect = follow(&url).await;
        let callback = redirect.split('?').next().unwrap();
        // Whatever else a browser, or a page in it, asks for changes nothing.
        assert_eq!(
            get(&callback.replace("callback", "favicon.ico"))
                .await
                .status(),
            404
        );
        let stranger = get(&format!("{callback}?state=guessed&code=x")).await;
        assert_eq!(stranger.status(), 400);
        let silent = tokio::net::TcpStream::connect(
            callback
                .trim_start_matches("http://")
                .split('/')
                .next()
                .unwrap(),
        )
        .await
        .unwrap();
        let page = get(&redirect).await;
        drop(silent);
        let policy = page.headers()["content-security-policy"].clone();
        assert!(policy.to_str().unwrap().starts_with("default-src 'none'"));
        assert_eq!(page.headers()["referrer-policy"], "no-referrer");
        (page.text().await.unwrap(), redirect)
    };
    let (status, (page, redirect)) = tokio::join!(oauth.login(&spec, &agent, None), browser);
    assert_eq!(status.unwrap().state, LoginState::LoggedIn);
    assert!(page.contains("You are logged in"), "{page}");
    for secret in server.secrets() {
        assert!(!page.contains(&secret), "{page}");
    }
    let prompts = prompts.lock().unwrap().clone();
    assert_eq!(prompts.len(), 1);
    assert_eq!(prompts[0].issuer, server.issuer());
    // The next login takes the same port, and the same registration.
    let browser = async { get(&follow(&urls.recv().await.unwrap()).await).await };
    let (status, _) = tokio::join!(oauth.login(&spec, &again, None), browser);
    status.unwrap();
    assert_eq!(server.count("register"), 1);
    // The listener is gone: the redirect is good once, and nobody is there to take it again.
    assert!(plain_client().await.get(&redirect).send().await.is_err());
}

#[tokio::test]
async fn a_refusal_is_shown_in_both_places() {
    let (_server, oauth, spec) = guarded(|options| options.deny = true);
    let (agent, mut urls) = agent();
    let browser = async {
        let redirect = follow(&urls.recv().await.unwrap()).await;
        get(&redirect).await.text().await.unwrap()
    };
    let (status, page) = tokio::join!(oauth.login(&spec, &agent, None), browser);
    let error = status.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    assert!(error.to_string().contains("The person said no"), "{error}");
    assert!(page.contains("The login failed"), "{page}");
    assert!(page.contains("The person said no"), "{page}");
}

#[tokio::test]
async fn the_redirect_may_be_pasted() {
    let (_server, oauth, spec) = guarded(|_| {});
    let login = |pasted: fn(String) -> String| {
        let (sender, lines) = mpsc::channel(1);
        let (prompts, mut shown) = mpsc::unbounded_channel();
        let agent = InteractiveLogin::new()
            .with_prompt(move |prompt| prompts.send(prompt.url.clone()).unwrap())
            .with_pasted(lines);
        let (oauth, spec) = (oauth.clone(), spec.clone());
        async move {
            let person = async {
                let redirect = follow(&shown.recv().await.unwrap()).await;
                sender.send(pasted(redirect)).await.unwrap();
            };
            tokio::join!(oauth.login(&spec, &agent, None), person).0
        }
    };
    let wrong = login(|_| "yes".to_owned()).await.unwrap_err();
    assert!(wrong.to_string().contains("copy it whole"), "{wrong}");
    let cut = login(|redirect| redirect.split('&').next().unwrap().to_owned()).await;
    assert!(cut.unwrap_err().to_string().contains("no code"));
    // With the spaces of a terminal around it.
    let status = login(|redirect| format!("  {redirect}  ")).await.unwrap();
    assert_eq!(status.state, LoginState::LoggedIn);
}

#[tokio::test]
async fn nobody_logs_in() {
    let server = start(|_| {});
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let (agent, _urls) = agent();
    let agent = agent.with_timeout(Duration::from_millis(50));
    let error = in_memory().login(&spec, &agent, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    assert!(error.to_string().contains("nobody logged in"), "{error}");
}

#[tokio::test]
async fn a_login_that_is_given_up_frees_its_port() {
    let server = start(|_| {});
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let spec = spec(&server.mcp_url(), OAuthSpec::new().with_redirect_port(port));
    let oauth = in_memory();
    let (agent, mut urls) = agent();
    let error = oauth.login(&spec, &agent, None).await.unwrap_err();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    drop(taken);
    {
        let login = oauth.login(&spec, &agent, None);
        tokio::pin!(login);
        tokio::select! {
            _ = &mut login => panic!("nobody logged in"),
            url = urls.recv() => assert!(url.unwrap().contains(&port.to_string())),
        }
    }
    TcpListener::bind(("127.0.0.1", port)).await.unwrap();
}

/// The address and port of a URL of loopback.
fn address_of(url: &str) -> &str {
    let rest = url.trim_start_matches("http://");
    rest.split('/').next().unwrap()
}

#[tokio::test]
async fn the_redirect_gets_through_however_many_connections_are_idle() {
    use tokio::{io::AsyncWriteExt, net::TcpStream};

    let (_server, oauth, spec) = guarded(|_| {});
    let (agent, mut urls) = agent();
    let browser = async {
        let redirect = follow(&urls.recv().await.unwrap()).await;
        let address = address_of(&redirect);
        // Some say nothing, some begin and do not end.
        let mut idle = Vec::new();
        for number in 0..300 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 3 == 0 {
                // One that was ended already to make way is no failure of the test.
                let _ = stream.write_all(b"GET /callback?state=").await;
            }
            idle.push(stream);
        }
        let page = get(&redirect).await.text().await.unwrap();
        drop(idle);
        page
    };
    let (status, page) = tokio::join!(oauth.login(&spec, &agent, None), browser);
    assert_eq!(status.unwrap().state, LoginState::LoggedIn);
    assert!(page.contains("You are logged in"), "{page}");
}

#[tokio::test]
async fn a_request_without_end_is_dropped() {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    let (_server, oauth, spec) = guarded(|_| {});
    let (agent, mut urls) = agent();
    let browser = async {
        let redirect = follow(&urls.recv().await.unwrap()).await;
        let address = address_of(&redirect);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let long = vec![b'x'; 64 * 1024];
        let _ = stream.write_all(&long).await;
        // It is closed, without an answer.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        get(&redirect).await.status()
    };
    let (status, page) = tokio::join!(oauth.login(&spec, &agent, None), browser);
    status.unwrap();
    assert_eq!(page, 200);
}
