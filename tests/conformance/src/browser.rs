//! The suite's login needs no person: the authorization server redirects at once, and the
//! redirect says it all.

use async_trait::async_trait;
use mcpool::{
    Error, ErrorKind,
    auth::{IssuerChange, LoginAgent, LoginPrompt, RedirectReceiver},
};

use crate::plain;

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

    /// The suite's server moves, and a client that its user lets move has to register again.
    async fn allows_other_issuer(&self, _change: &IssuerChange) -> bool {
        true
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
        let answer = plain::get(&prompt.url).await.map_err(failed)?;
        answer
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("location"))
            .map(|(_, value)| value.trim().to_owned())
            .ok_or_else(|| failed("the login page redirects nowhere".to_owned()))
    }
}
