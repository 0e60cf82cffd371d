//! The suite's login needs no person: the authorization server redirects at once, and the
//! redirect says it all.

use async_trait::async_trait;
use mcpool::{
    Error, ErrorKind,
    auth::{LoginAgent, LoginPrompt, RedirectReceiver},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

/// A browser without a person, for `http` on this machine.
#[derive(Debug)]
pub(crate) struct Headless;

#[async_trait]
impl LoginAgent for Headless {
    async fn prepare(
        &self,
        _redirect_port: Option<u16>,
    ) -> Result<Box<dyn RedirectReceiver>, Error> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl RedirectReceiver for Headless {
    fn redirect_uri(&self) -> &str {
        // Nobody listens there: the redirect is read, not followed.
        "http://127.0.0.1:9/callback"
    }

    async fn receive(&mut self, prompt: &LoginPrompt) -> Result<String, Error> {
        let failed = |what: String| Error::new(ErrorKind::AuthRequired, what);
        let url = Url::parse(&prompt.url).map_err(|error| failed(error.to_string()))?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(failed("the login page has no host".to_owned()));
        };
        let request = format!(
            "GET {}?{} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n",
            url.path(),
            url.query().unwrap_or_default()
        );
        let mut answer = Vec::new();
        let exchange = async {
            let mut stream = TcpStream::connect((host, port)).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut answer).await
        };
        exchange.await.map_err(|error| failed(error.to_string()))?;
        String::from_utf8_lossy(&answer)
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("location"))
            .map(|(_, value)| value.trim().to_owned())
            .ok_or_else(|| failed("the login page redirects nowhere".to_owned()))
    }
}
