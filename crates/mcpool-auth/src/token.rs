//! Token requests, and how a client proves itself there.

use base64::{Engine, engine::general_purpose::STANDARD};
use mcpool_core::{Error, ErrorKind, Secret};
use url::{Url, form_urlencoded};

use crate::{
    answers::{OAuthErrorAnswer, Tokens},
    grant::{ClientAuth, Grant, now},
    http::OAuthHttp,
};

/// The client, as it proves itself at a token endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: Option<Secret>,
    pub(crate) auth: ClientAuth,
}

/// Why there is no token.
#[derive(Debug)]
pub(crate) enum TokenFailure {
    /// The authorization server said no, and will say so again.
    Rejected(OAuthErrorAnswer),
    /// Anything else: trying again later may help.
    Other(Error),
}

impl From<Error> for TokenFailure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Tokens {
    /// Puts the tokens into a grant in place of the old ones. A refresh token that was not
    /// renewed stays (RFC 6749, section 6), and so do scopes that were not named (section 5.1).
    pub(crate) fn renew(self, mut grant: Grant) -> Grant {
        grant.access_token = self.access;
        grant.kind = self.kind;
        if self.refresh.is_some() {
            grant.refresh_token = self.refresh;
        }
        if let Some(scopes) = self.scopes {
            grant.scopes = scopes;
        }
        grant.issued_at = now();
        grant.expires_at = self
            .lifetime
            .map(|seconds| grant.issued_at.saturating_add(seconds));
        grant
    }
}

/// Asks a token endpoint. Without a client, the form itself proves it.
pub(crate) async fn request(
    http: &OAuthHttp,
    endpoint: &Url,
    client: Option<&Client>,
    fields: &[(&str, &str)],
) -> Result<Tokens, TokenFailure> {
    let (authorization, client_fields) = client.map(prove).unwrap_or_default();
    let mut fields = fields.to_vec();
    fields.extend(client_fields);
    let answer = http
        .post_form(endpoint, authorization.as_ref(), &fields)
        .await
        .map_err(Error::from)?;
    let status = answer.status.as_u16();
    match OAuthErrorAnswer::read(answer.status, &answer.body) {
        None if answer.status.is_success() => Ok(Tokens::read(&answer.body)?),
        Some(error)
            if error.is_oauth
                && status < 500
                && !matches!(status, 408 | 425 | 429)
                && error.error != "temporarily_unavailable"
                && error.error != "slow_down" =>
        {
            Err(TokenFailure::Rejected(error))
        }
        Some(error) => Err(transient(status, &error.to_string()).into()),
        None => Err(transient(status, "no reason given").into()),
    }
}

fn transient(status: u16, why: &str) -> Error {
    // A token endpoint that fails is tried again with the next connect, so this is not permanent.
    Error::new(
        ErrorKind::Connect,
        format!("the token endpoint answered {status}: {why}"),
    )
    .with_http_status(status)
}

/// The header and the fields by which a client proves itself (RFC 6749, section 2.3.1).
pub(crate) fn prove(client: &Client) -> (Option<Secret>, Vec<(&str, &str)>) {
    let encode =
        |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    match (&client.secret, client.auth) {
        (Some(secret), ClientAuth::Basic) => {
            let pair = format!("{}:{}", encode(&client.id), encode(secret.expose()));
            let header = Secret::new(format!("Basic {}", STANDARD.encode(pair)));
            (Some(header), Vec::new())
        }
        (Some(secret), ClientAuth::Post) => (
            None,
            vec![
                ("client_id", client.id.as_str()),
                ("client_secret", secret.expose()),
            ],
        ),
        _ => (None, vec![("client_id", client.id.as_str())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::sample;

    #[test]
    fn a_refresh_keeps_what_was_not_renewed() {
        let old = sample("https://mcp.example/mcp", "old");
        let tokens = Tokens::read(br#"{"access_token":"new","token_type":"Bearer"}"#).unwrap();
        let grant = tokens.renew(old.clone());
        assert_eq!(grant.access_token.expose(), "new");
        assert_eq!(grant.refresh_token, old.refresh_token);
        assert_eq!(grant.scopes, old.scopes);
        assert_eq!(grant.expires_at, None);
    }

    #[test]
    fn the_secret_goes_where_the_method_says() {
        let client = |auth| Client {
            id: "a b".into(),
            secret: Some("c:d".into()),
            auth,
        };
        let basic = client(ClientAuth::Basic);
        let (header, fields) = prove(&basic);
        assert_eq!(
            header.unwrap().expose(),
            format!("Basic {}", STANDARD.encode("a+b:c%3Ad"))
        );
        assert!(fields.is_empty());
        let post = client(ClientAuth::Post);
        assert_eq!(
            prove(&post),
            (None, vec![("client_id", "a b"), ("client_secret", "c:d")])
        );
        let public = client(ClientAuth::None);
        assert_eq!(prove(&public), (None, vec![("client_id", "a b")]));
    }
}
