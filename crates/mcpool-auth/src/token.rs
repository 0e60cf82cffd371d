//! Token requests that rmcp does not make for us, and what answers them.

use base64::{Engine, engine::general_purpose::STANDARD};
use mcpool_core::{Error, ErrorKind, Result, Secret, SecretSource};
use oauth2::TokenResponse;
use rmcp::transport::auth::OAuthTokenResponse;
use url::{Url, form_urlencoded};

use crate::{
    error::{from_http, refused},
    grant::{ClientAuth, Grant, TokenKind, now},
    http::{OAuthErrorAnswer, OAuthHttp, parse_error},
};

/// The client, as it proves itself at a token endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: Option<Secret>,
    pub(crate) auth: ClientAuth,
}

/// What a token endpoint gave.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access: Secret,
    pub(crate) kind: TokenKind,
    pub(crate) refresh: Option<Secret>,
    /// In seconds.
    pub(crate) lifetime: Option<u64>,
    pub(crate) scopes: Option<Vec<String>>,
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
    /// Reads rmcp's type.
    pub(crate) fn from_rmcp(response: &OAuthTokenResponse) -> Result<Self> {
        Ok(Self {
            access: Secret::new(response.access_token().secret().as_str()),
            kind: kind(response.token_type().as_ref())?,
            refresh: response
                .refresh_token()
                .map(|token| Secret::new(token.secret().as_str())),
            lifetime: response.expires_in().map(|lifetime| lifetime.as_secs()),
            scopes: response
                .scopes()
                .map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
        })
    }

    fn from_json(body: &[u8]) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Body {
            access_token: String,
            token_type: String,
            refresh_token: Option<String>,
            // Some servers write it as a text.
            expires_in: Option<serde_json::Value>,
            scope: Option<String>,
        }
        // serde's error could quote the body.
        let body: Body = serde_json::from_slice(body).map_err(|_| {
            Error::new(
                ErrorKind::Protocol,
                "the answer of the token endpoint is not a token (RFC 6749, section 5.1)",
            )
        })?;
        Ok(Self {
            access: body.access_token.into(),
            kind: kind(&body.token_type)?,
            refresh: body.refresh_token.map(Secret::new),
            lifetime: body
                .expires_in
                .and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())),
            scopes: body
                .scope
                .map(|scope| scope.split_whitespace().map(str::to_owned).collect()),
        })
    }

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
        grant.expires_at = self.lifetime.map(|seconds| grant.issued_at + seconds);
        grant
    }
}

fn kind(name: &str) -> Result<TokenKind> {
    if name.eq_ignore_ascii_case("bearer") {
        Ok(TokenKind::Bearer)
    } else if name.eq_ignore_ascii_case("dpop") {
        Ok(TokenKind::Dpop)
    } else {
        Err(refused(format!(
            "the authorization server gave a token of the kind {:?}, which is not supported",
            crate::http::shorten(name)
        )))
    }
}

/// Asks a token endpoint with a form of our own. Without a client, the form itself proves it.
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
        .map_err(|failure| from_http(&failure))?;
    if answer.status.is_success() {
        return Ok(Tokens::from_json(&answer.body)?);
    }
    let status = answer.status.as_u16();
    match parse_error(&answer) {
        Some(error)
            if answer.status.is_client_error()
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

/// How large a file with a key, a token or an assertion may be.
const SECRET_FILE_LIMIT: u64 = 1024 * 1024;

/// Reads a configured secret.
pub(crate) async fn read_secret(source: &SecretSource, what: &str) -> Result<Secret> {
    let missing = |why: String| Error::new(ErrorKind::InvalidSpec, format!("{what}: {why}"));
    let text = match source {
        SecretSource::Value(secret) => return Ok(secret.clone()),
        SecretSource::Env(name) => std::env::var(name)
            .map_err(|_| missing(format!("the variable {name} is not set, or is not text")))?,
        SecretSource::File(path) => {
            let file = path.clone();
            let read = move || mcpool_files::read_regular(&file, SECRET_FILE_LIMIT);
            let unread = |why: &dyn std::fmt::Display| {
                missing(format!("the file {} cannot be read: {why}", path.display()))
            };
            let bytes = tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| unread(&"it was cancelled").with_source(error))?
                .map_err(|error| unread(&error))?;
            String::from_utf8(bytes).map_err(|_| unread(&"it is not UTF-8"))?
        }
        _ => return Err(missing("this kind of source is not supported".to_owned())),
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(missing("it is empty".to_owned()));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::sample;

    #[test]
    fn an_answer_is_read_leniently_and_nothing_is_quoted() {
        let tokens = Tokens::from_json(
            br#"{"access_token":"a","token_type":"bEARER","expires_in":"60","scope":"x y"}"#,
        )
        .unwrap();
        assert_eq!(tokens.lifetime, Some(60));
        assert_eq!(tokens.scopes.unwrap(), ["x", "y"]);
        let error = Tokens::from_json(br#"{"access_token":"canary"}"#).unwrap_err();
        assert!(!format!("{error:?}").contains("canary"));
        assert!(Tokens::from_json(br#"{"access_token":"a","token_type":"mac"}"#).is_err());
    }

    #[test]
    fn a_refresh_keeps_what_was_not_renewed() {
        let old = sample("https://mcp.example/mcp", "old");
        let tokens = Tokens::from_json(br#"{"access_token":"new","token_type":"Bearer"}"#).unwrap();
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

    #[tokio::test]
    async fn secrets_come_from_files_and_say_which_is_missing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "  s3cret\n").unwrap();
        let source = SecretSource::File(file.path().to_owned());
        assert_eq!(read_secret(&source, "x").await.unwrap().expose(), "s3cret");
        let source = SecretSource::Env("MCPOOL_NO_SUCH_VARIABLE".into());
        let error = read_secret(&source, "the client secret").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(error.to_string().contains("MCPOOL_NO_SUCH_VARIABLE"));
    }
}
