//! The one way by which OAuth requests leave: it checks where they go, signs them with DPoP, and
//! keeps what rmcp does not tell.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use mcpool_core::{Error, ErrorKind, Result, Secret};
use reqwest::{Method, StatusCode, header};
use rmcp::transport::auth::{
    OAuthHttpClient, OAuthHttpClientError, OAuthHttpClientFuture, OAuthHttpRedirectPolicy,
    OAuthHttpRequest,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use crate::{
    address::{AddressPolicy, RefusedHost},
    dpop::DpopKey,
};

/// No OAuth document is anywhere near this.
const MAX_BODY: usize = 1024 * 1024;
const MAX_HOPS: usize = 5;

/// What stands for the authorization code while it is inside rmcp, which logs it at debug level
/// (rmcp 3.9, `exchange_code_for_token_with_issuer`). It becomes the code when it leaves.
pub(crate) const CODE_PLACEHOLDER: &str = "mcpool-authorization-code";

/// What a token endpoint may answer. The rest is dropped: rmcp logs answers at debug level, and
/// an ID token would stand there in full.
const TOKEN_FIELDS: &[&str] = &[
    "access_token",
    "token_type",
    "expires_in",
    "refresh_token",
    "scope",
    "issued_token_type",
    "resource",
    "authorization_details",
    "error",
    "error_description",
];

/// Sends the requests of one flow: a login, a refresh.
pub(crate) struct OAuthHttp {
    client: reqwest::Client,
    policy: AddressPolicy,
    flow: Mutex<Flow>,
}

#[derive(Default)]
struct Flow {
    token_endpoint: Option<Url>,
    dpop: Option<Arc<DpopKey>>,
    code: Option<Secret>,
    resource_metadata: Option<ResourceMetadata>,
    oauth_error: Option<OAuthErrorAnswer>,
    failure: Option<HttpFailure>,
}

/// The parts of protected-resource metadata (RFC 9728) that rmcp reads and does not give out.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ResourceMetadata {
    pub(crate) resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    pub(crate) scopes_supported: Vec<String>,
    #[serde(default)]
    dpop_bound_access_tokens_required: bool,
    #[serde(default)]
    dpop_signing_alg_values_supported: Vec<String>,
}

impl ResourceMetadata {
    /// Whether the server takes tokens that are bound to a key.
    pub(crate) fn takes_dpop(&self) -> bool {
        self.dpop_bound_access_tokens_required
            || self
                .dpop_signing_alg_values_supported
                .iter()
                .any(|algorithm| algorithm == crate::dpop::ALGORITHM)
    }
}

/// The error of a token or registration endpoint (RFC 6749, section 5.2).
#[derive(Debug, Clone)]
pub(crate) struct OAuthErrorAnswer {
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) description: Option<String>,
}

impl fmt::Display for OAuthErrorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.description {
            Some(text) => write!(f, "{} ({text})", self.error),
            None => f.write_str(&self.error),
        }
    }
}

/// Why a request did not bring an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HttpFailure {
    /// It was not sent: the address is not one that may be asked.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: String },
    /// The answer makes no sense.
    #[error("{0}")]
    BadAnswer(String),
}

/// An answer, with its body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl OAuthHttp {
    pub(crate) fn new(client: reqwest::Client, policy: AddressPolicy) -> Self {
        Self {
            client,
            policy,
            flow: Mutex::default(),
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs requests to this token endpoint with this key from now on.
    pub(crate) fn sign_with(&self, token_endpoint: Url, key: Arc<DpopKey>) {
        let mut flow = self.flow();
        flow.token_endpoint = Some(token_endpoint);
        flow.dpop = Some(key);
    }

    /// The authorization code for which [`CODE_PLACEHOLDER`] stands.
    pub(crate) fn set_code(&self, code: Secret) {
        self.flow().code = Some(code);
    }

    /// The protected-resource metadata that was read, if any was.
    pub(crate) fn resource_metadata(&self) -> Option<ResourceMetadata> {
        self.flow().resource_metadata.clone()
    }

    /// The last error that an endpoint answered with.
    pub(crate) fn oauth_error(&self) -> Option<OAuthErrorAnswer> {
        self.flow().oauth_error.clone()
    }

    /// The last request that brought no answer.
    pub(crate) fn failure(&self) -> Option<HttpFailure> {
        self.flow().failure.clone()
    }

    /// Checks a URL that somebody else will open: the authorization endpoint, by the browser.
    pub(crate) fn check(&self, url: &Url) -> Result<(), HttpFailure> {
        self.policy
            .check_url(url)
            .map_err(|why| HttpFailure::Refused(format!("{} was not asked: {why}", redacted(url))))
    }

    /// Sends a form to a token or revocation endpoint; redirects are not followed.
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        authorization: Option<&Secret>,
        fields: &[(&str, &str)],
    ) -> Result<Answer, HttpFailure> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let mut headers = header::HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(
            header::ACCEPT,
            header::HeaderValue::from_static("application/json"),
        );
        if let Some(secret) = authorization {
            let mut value = header::HeaderValue::from_str(secret.expose()).map_err(|_| {
                HttpFailure::Refused("the client's secret does not fit into a header".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        self.send(Method::POST, url.clone(), headers, body.into_bytes(), false)
            .await
    }

    /// Reads a document without credentials and without following redirects.
    pub(crate) async fn get(&self, url: &Url) -> Result<Answer, HttpFailure> {
        let mut headers = header::HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            header::HeaderValue::from_static("application/json"),
        );
        self.send(Method::GET, url.clone(), headers, Vec::new(), false)
            .await
    }

    /// Asks for a URL without credentials and without following redirects.
    pub(crate) async fn probe(
        &self,
        method: Method,
        url: &Url,
        accept: &'static str,
        body: &'static str,
    ) -> Result<Answer, HttpFailure> {
        let mut headers = header::HeaderMap::new();
        headers.insert(header::ACCEPT, header::HeaderValue::from_static(accept));
        if !body.is_empty() {
            headers.insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("application/json"),
            );
        }
        self.send(method, url.clone(), headers, body.into(), true)
            .await
    }

    /// Sends a request, once more if the server gives a DPoP nonce (RFC 9449, section 8).
    async fn send(
        &self,
        method: Method,
        url: Url,
        headers: header::HeaderMap,
        body: Vec<u8>,
        headers_only: bool,
    ) -> Result<Answer, HttpFailure> {
        let body = self.with_code(body);
        let mut result = Err(HttpFailure::BadAnswer("no attempt".to_owned()));
        for _ in 0..2 {
            let key = {
                let flow = self.flow();
                flow.dpop
                    .clone()
                    .filter(|_| flow.token_endpoint.as_ref() == Some(&url))
            };
            let mut headers = headers.clone();
            if let Some(key) = &key {
                let proof = key
                    .proof(method.as_str(), &url, None)
                    .ok()
                    .and_then(|proof| header::HeaderValue::from_str(&proof).ok())
                    .ok_or_else(|| {
                        HttpFailure::Refused("the DPoP proof could not be made".to_owned())
                    })?;
                headers.insert("dpop", proof);
            }
            result = self
                .send_once(method.clone(), &url, headers, body.clone(), headers_only)
                .await;
            let (Some(key), Ok(answer)) = (&key, &result) else {
                break;
            };
            let Some(nonce) = answer
                .headers
                .get("dpop-nonce")
                .and_then(|nonce| nonce.to_str().ok())
            else {
                break;
            };
            let is_new = key.set_nonce(&url, nonce);
            let asked = parse_error(answer).is_some_and(|error| error.error == "use_dpop_nonce");
            if !(is_new && asked) {
                break;
            }
        }
        let mut flow = self.flow();
        match &result {
            Ok(answer) => {
                flow.failure = None;
                flow.oauth_error = parse_error(answer);
                if answer.status == StatusCode::OK
                    && method == Method::GET
                    && let Ok(metadata) = serde_json::from_slice::<ResourceMetadata>(&answer.body)
                    && !metadata.authorization_servers.is_empty()
                {
                    flow.resource_metadata = Some(metadata);
                }
            }
            Err(failure) => {
                tracing::debug!(url = %redacted(&url), %failure, "an OAuth request failed");
                flow.failure = Some(failure.clone());
            }
        }
        drop(flow);
        result
    }

    async fn send_once(
        &self,
        method: Method,
        url: &Url,
        headers: header::HeaderMap,
        body: Vec<u8>,
        headers_only: bool,
    ) -> Result<Answer, HttpFailure> {
        self.check(url)?;
        let response = self
            .client
            .request(method, url.clone())
            .headers(headers)
            .body(body)
            .send()
            .await
            .map_err(|error| unreachable_or_refused(url, error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        // A probe may have opened an event stream that never ends.
        if !headers_only {
            let mut chunks = response.bytes_stream();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| unreachable_or_refused(url, error))?;
                if body.len() + chunk.len() > MAX_BODY {
                    return Err(HttpFailure::BadAnswer(format!(
                        "{} answered with more than {MAX_BODY} bytes",
                        redacted(url)
                    )));
                }
                body.extend_from_slice(&chunk);
            }
        }
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    fn with_code(&self, body: Vec<u8>) -> Vec<u8> {
        let code = self.flow().code.clone();
        match code {
            Some(code) if contains(&body, CODE_PLACEHOLDER.as_bytes()) => {
                form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(form_urlencoded::parse(&body).map(|(name, value)| {
                        let code = (name == "code" && value == CODE_PLACEHOLDER)
                            .then(|| code.expose().to_owned().into());
                        (name, code.unwrap_or(value))
                    }))
                    .finish()
                    .into_bytes()
            }
            _ => body,
        }
    }

    /// Follows what rmcp wants followed, as far as that is safe: one origin, the method kept.
    async fn follow(&self, request: OAuthHttpRequest) -> Result<Answer, HttpFailure> {
        let follow = request.redirect_policy == OAuthHttpRedirectPolicy::Follow;
        let (parts, body) = request.request.into_parts();
        let mut url: Url = parts.uri.to_string().parse().map_err(|_| {
            HttpFailure::BadAnswer("an endpoint in the metadata is not a URL".to_owned())
        })?;
        for _ in 0..MAX_HOPS {
            let answer = self
                .send(
                    parts.method.clone(),
                    url.clone(),
                    parts.headers.clone(),
                    body.clone(),
                    false,
                )
                .await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let target = answer
                .headers
                .get(header::LOCATION)
                .and_then(|location| url.join(location.to_str().ok()?).ok());
            let Some(target) = target else {
                return Ok(answer);
            };
            let same_origin = target.origin() == url.origin();
            if parts.method == Method::GET && same_origin {
                // rmcp follows these itself, one by one.
                return Ok(answer);
            }
            let keeps_method = matches!(
                answer.status,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            );
            if !(follow && same_origin && keeps_method) {
                return Err(self.refuse(format!(
                    "{} redirects to {}, which was not followed",
                    redacted(&url),
                    if same_origin {
                        "another address".to_owned()
                    } else {
                        format!("another origin, {}", redacted(&target))
                    }
                )));
            }
            url = target;
        }
        Err(self.refuse(format!("{} redirects without end", redacted(&url))))
    }

    fn refuse(&self, why: String) -> HttpFailure {
        let failure = HttpFailure::Refused(why);
        self.flow().failure = Some(failure.clone());
        failure
    }
}

impl OAuthHttpClient for OAuthHttp {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let is_post = request.request.method() == Method::POST;
            let answer = self
                .follow(request)
                .await
                .map_err(|failure| Box::new(failure) as OAuthHttpClientError)?;
            let body = if is_post {
                without_unknown_fields(answer.body)
            } else {
                answer.body
            };
            let mut response = http::Response::new(body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

/// Builds the client: no redirects, and only addresses that the policy allows.
pub(crate) fn build_client(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::InvalidSpec, "no HTTP client could be made")
                .with_source(error.without_url())
        })
}

/// A URL that is safe to show.
pub(crate) fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}

fn unreachable_or_refused(url: &Url, error: reqwest::Error) -> HttpFailure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut reason = String::new();
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<RefusedHost>() {
            return HttpFailure::Refused(format!("{} was not asked: {refused}", redacted(url)));
        }
        reason = error.to_string();
        cause = error.source();
    }
    if error.is_timeout() {
        reason = "no answer in time".to_owned();
    }
    HttpFailure::Unreachable {
        url: redacted(url),
        reason: shorten(&reason),
    }
}

pub(crate) fn parse_error(answer: &Answer) -> Option<OAuthErrorAnswer> {
    #[derive(Deserialize)]
    struct Body {
        error: String,
        error_description: Option<String>,
    }
    if answer.status.is_success() {
        return None;
    }
    let body: Body = serde_json::from_slice(&answer.body).ok()?;
    Some(OAuthErrorAnswer {
        status: answer.status.as_u16(),
        error: shorten(&body.error),
        description: body.error_description.as_deref().map(shorten),
    })
}

/// One line of a bounded length: it comes from a stranger and goes to a terminal.
pub(crate) fn shorten(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    if text.chars().nth(200).is_some() {
        line.push('…');
    }
    line
}

/// A token answer without what nobody asked for. A registration answer has no access token and
/// stays as it is.
fn without_unknown_fields(body: Vec<u8>) -> Vec<u8> {
    match serde_json::from_slice::<Map<String, Value>>(&body) {
        Ok(mut fields) if fields.contains_key("access_token") => {
            fields.retain(|name, _| TOKEN_FIELDS.contains(&name.as_str()));
            Value::Object(fields).to_string().into_bytes()
        }
        _ => body,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_answer_loses_its_id_token_and_a_registration_loses_nothing() {
        let token = br#"{"access_token":"a","token_type":"Bearer","id_token":"canary"}"#.to_vec();
        let kept = String::from_utf8(without_unknown_fields(token)).unwrap();
        assert_eq!(kept, r#"{"access_token":"a","token_type":"Bearer"}"#);
        let registration = br#"{"client_id":"a","client_secret":"b","x":1}"#.to_vec();
        assert_eq!(without_unknown_fields(registration.clone()), registration);
    }

    #[tokio::test]
    async fn the_code_takes_its_place_only_where_it_belongs() {
        let server: Url = "http://127.0.0.1:1/mcp".parse().unwrap();
        let policy = AddressPolicy::new(&server, &[], &[]);
        let spec = mcpool_core::HttpSpec::new(server.as_str());
        let client = crate::client::build(&spec, &server, &policy).await.unwrap();
        let http = OAuthHttp::new(client, policy);
        http.set_code("a&b".into());
        let body = format!("code={CODE_PLACEHOLDER}&state={CODE_PLACEHOLDER}&x=1");
        let sent = String::from_utf8(http.with_code(body.into_bytes())).unwrap();
        assert_eq!(sent, format!("code=a%26b&state={CODE_PLACEHOLDER}&x=1"));
    }

    #[test]
    fn what_strangers_say_is_one_short_line() {
        assert_eq!(shorten("a\n\u{1b}[2Jb"), "a  [2Jb");
        assert_eq!(shorten(&"x".repeat(300)).chars().count(), 201);
    }
}
