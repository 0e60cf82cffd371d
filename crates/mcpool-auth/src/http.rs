//! The one way by which OAuth requests leave: it checks where they go, signs them with DPoP, and
//! keeps what rmcp does not give.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use mcpool_core::{Masker, Secret};
use mcpool_http_pool::RefusedAddress;
use reqwest::{Method, StatusCode, header};
use rmcp::transport::auth::{
    OAuthHttpClient, OAuthHttpClientError, OAuthHttpClientFuture, OAuthHttpRedirectPolicy,
    OAuthHttpRequest,
};
use tokio::time::timeout;
use url::{Host, Url, form_urlencoded};

use crate::{
    answers::OAuthErrorAnswer,
    binding::Binding,
    documents::{self, Document, ResourceMetadata},
    dpop::DpopKey,
    guarded_client::GuardedClient,
    http_failure::HttpFailure,
    shown::{redacted, shorten},
};

/// No OAuth document is anywhere near this.
const MAX_BODY: usize = 1024 * 1024;
const MAX_HOPS: usize = 5;
/// What a flow may ask in all; an honest one needs a dozen.
const MAX_REQUESTS: u32 = 64;
/// How long a name may take that a proxy resolves too.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the requests of one flow: a login, a refresh.
pub(crate) struct OAuthHttp {
    guarded: GuardedClient,
    masker: Masker,
    flow: Mutex<Flow>,
}

#[derive(Default)]
struct Flow {
    requests: u32,
    /// Whose metadata may be asked for.
    binding: Binding,
    token_endpoint: Option<Url>,
    dpop: Option<Arc<DpopKey>>,
    resource_metadata: Option<ResourceMetadata>,
    oauth_error: Option<OAuthErrorAnswer>,
    failure: Option<HttpFailure>,
}

/// An answer, with its body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl OAuthHttp {
    /// Sends by this client, and has masked what secrets come of it.
    pub(crate) fn new(guarded: GuardedClient, masker: Masker) -> Self {
        Self {
            guarded,
            masker,
            flow: Mutex::default(),
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What masks the secrets of this flow.
    pub(crate) fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Follows metadata to this authorization server only from now on.
    pub(crate) fn bind(&self, binding: Binding) {
        let mut flow = self.flow();
        flow.binding = binding;
        flow.resource_metadata = None;
        flow.failure = None;
    }

    /// Signs requests to this token endpoint with this key from now on.
    pub(crate) fn sign_with(&self, token_endpoint: Url, key: Arc<DpopKey>) {
        let mut flow = self.flow();
        flow.token_endpoint = Some(token_endpoint);
        flow.dpop = Some(key);
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

    /// Checks a URL as it is written, also one that somebody else will open: the authorization
    /// endpoint, by the browser.
    pub(crate) fn check(&self, url: &Url) -> Result<(), HttpFailure> {
        self.guarded
            .policy
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
        let mut headers = json_wanted();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        if let Some(secret) = authorization {
            let mut value = header::HeaderValue::from_str(secret.expose()).map_err(|_| {
                HttpFailure::Refused("the client's secret does not fit into a header".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let request = (Method::POST, url.clone(), headers, body.into_bytes());
        self.follow(request, OAuthHttpRedirectPolicy::Stop).await
    }

    /// Sends a document to a registration endpoint.
    pub(crate) async fn post_json(
        &self,
        url: &Url,
        document: &serde_json::Value,
    ) -> Result<Answer, HttpFailure> {
        let mut headers = json_wanted();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        let request = (
            Method::POST,
            url.clone(),
            headers,
            document.to_string().into_bytes(),
        );
        self.follow(request, OAuthHttpRedirectPolicy::Follow).await
    }

    /// Reads a document at a place that the user configured, without credentials and without
    /// following redirects. What it says of itself is the caller's to check.
    pub(crate) async fn get(&self, url: &Url) -> Result<Answer, HttpFailure> {
        let request = (Method::GET, url.clone(), json_wanted(), Vec::new());
        self.send(&request, Reading::Body).await
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
        self.send(&(method, url.clone(), headers, body.into()), Reading::Head)
            .await
    }

    /// Sends a request, once more if the server gives a DPoP nonce (RFC 9449, section 8).
    async fn send(&self, request: &Request, reading: Reading) -> Result<Answer, HttpFailure> {
        let (method, url, ..) = request;
        let mut result = Err(HttpFailure::BadAnswer("no attempt".to_owned()));
        for _ in 0..2 {
            let key = {
                let flow = self.flow();
                flow.dpop
                    .clone()
                    .filter(|_| flow.token_endpoint.as_ref() == Some(url))
            };
            result = self.send_once(request, key.as_deref(), reading).await;
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
            let is_new = key.set_nonce(url, nonce);
            let asked = OAuthErrorAnswer::read(answer.status, &answer.body)
                .is_some_and(|error| error.error == "use_dpop_nonce");
            if !(is_new && asked) {
                break;
            }
        }
        if let Ok(answer) = &mut result
            && answer.status == StatusCode::OK
            && *method == Method::GET
            && reading == Reading::Document
            && let Err(failure) = self.take_document(url, answer)
        {
            result = Err(failure);
        }
        let mut flow = self.flow();
        match &result {
            Ok(answer) => {
                flow.failure = None;
                flow.oauth_error = OAuthErrorAnswer::read(answer.status, &answer.body);
            }
            Err(failure) => {
                tracing::debug!(url = %redacted(url), %failure, "an OAuth request failed");
                flow.failure = Some(failure.clone());
            }
        }
        drop(flow);
        result
    }

    /// Checks a document, and keeps what is wanted of it.
    fn take_document(&self, url: &Url, answer: &mut Answer) -> Result<(), HttpFailure> {
        let mut flow = self.flow();
        let body = std::mem::take(&mut answer.body);
        answer.body = match documents::check(url, body, &flow.binding)? {
            Document::Resource(metadata, text) => {
                flow.resource_metadata = Some(*metadata);
                text
            }
            Document::Other(text) => text,
        };
        Ok(())
    }

    async fn send_once(
        &self,
        (method, url, headers, body): &Request,
        dpop: Option<&DpopKey>,
        reading: Reading,
    ) -> Result<Answer, HttpFailure> {
        self.count()?;
        self.check(url)?;
        self.check_before_proxy(url).await?;
        let mut headers = headers.clone();
        if let Some(key) = dpop {
            let proof = key
                .proof(method.as_str(), url, None)
                .ok()
                .and_then(|proof| header::HeaderValue::from_str(&proof).ok())
                .ok_or_else(|| {
                    HttpFailure::Refused("the DPoP proof could not be made".to_owned())
                })?;
            headers.insert("dpop", proof);
        }
        let response = self
            .guarded
            .client
            .request(method.clone(), url.clone())
            .headers(headers)
            .body(body.clone())
            .send()
            .await
            .map_err(|error| unreachable_or_refused(url, error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        // A probe may have opened an event stream that never ends.
        if reading != Reading::Head {
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

    /// Counts a request against the bound of the flow.
    fn count(&self) -> Result<(), HttpFailure> {
        let mut flow = self.flow();
        flow.requests += 1;
        match flow.requests > MAX_REQUESTS {
            true => Err(HttpFailure::BadAnswer(format!(
                "the authorization server leads to more than {MAX_REQUESTS} requests"
            ))),
            false => Ok(()),
        }
    }

    /// Checks what a name means here before a proxy resolves it, where nothing can be checked any
    /// more. A name that only the proxy knows is the proxy's to allow.
    async fn check_before_proxy(&self, url: &Url) -> Result<(), HttpFailure> {
        let Some(Host::Domain(host)) = url.host() else {
            return Ok(());
        };
        if self.guarded.proxies.of(url).is_none() {
            return Ok(());
        }
        let Ok(name) = host.parse() else {
            return Ok(());
        };
        match timeout(LOOKUP_TIMEOUT, self.guarded.resolver.resolve(name)).await {
            Ok(Err(error)) if error.is::<RefusedAddress>() => Err(inside(url, host)),
            _ => Ok(()),
        }
    }

    /// Follows redirects as far as that is safe: one origin, the method kept.
    async fn follow(
        &self,
        mut request: Request,
        policy: OAuthHttpRedirectPolicy,
    ) -> Result<Answer, HttpFailure> {
        let follow = policy == OAuthHttpRedirectPolicy::Follow;
        for _ in 0..MAX_HOPS {
            let answer = self.send(&request, Reading::Document).await?;
            let (method, url, ..) = &request;
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
            if *method == Method::GET && same_origin {
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
                    redacted(url),
                    if same_origin {
                        "another address".to_owned()
                    } else {
                        format!("another origin, {}", redacted(&target))
                    }
                )));
            }
            request.1 = target;
        }
        Err(self.refuse(format!("{} redirects without end", redacted(&request.1))))
    }

    fn refuse(&self, why: String) -> HttpFailure {
        let failure = HttpFailure::Refused(why);
        self.flow().failure = Some(failure.clone());
        failure
    }
}

/// How an answer is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Without its body.
    Head,
    /// As it is.
    Body,
    /// What a GET brings is a document that leads on, and is checked.
    Document,
}

/// Method, URL, headers and body.
type Request = (Method, Url, header::HeaderMap, Vec<u8>);

impl OAuthHttpClient for OAuthHttp {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let (parts, body) = request.request.into_parts();
            let answer = match parts.uri.to_string().parse() {
                Ok(url) => {
                    let ours = (parts.method, url, parts.headers, body);
                    self.follow(ours, request.redirect_policy).await
                }
                Err(_) => Err(HttpFailure::BadAnswer(
                    "an endpoint in the metadata is not a URL".to_owned(),
                )),
            };
            let answer = answer.map_err(|failure| Box::new(failure) as OAuthHttpClientError)?;
            let mut response = http::Response::new(answer.body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

fn json_wanted() -> header::HeaderMap {
    let json = header::HeaderValue::from_static("application/json");
    header::HeaderMap::from_iter([(header::ACCEPT, json)])
}

fn inside(url: &Url, host: &str) -> HttpFailure {
    HttpFailure::Refused(format!(
        "{} was not asked: {host} resolves to an address inside this network, where the server \
         is not; if that is right, set issuer",
        redacted(url)
    ))
}

fn unreachable_or_refused(url: &Url, error: reqwest::Error) -> HttpFailure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut reason = String::new();
    while let Some(error) = cause {
        if let Some(RefusedAddress(host)) = error.downcast_ref() {
            return inside(url, host);
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use mcpool_core::HttpSpec;
    use reqwest::dns::{Addrs, Name, Resolve, Resolving};

    use super::*;
    use crate::address::AddressPolicy;

    /// A name server that gives each answer once, and the last one for ever.
    struct Rebinding(Mutex<Vec<&'static str>>);

    impl Resolve for Rebinding {
        fn resolve(&self, _: Name) -> Resolving {
            let mut answers = self.0.lock().unwrap();
            let ip = match answers.len() {
                1 => answers[0],
                _ => answers.remove(0),
            };
            let address = SocketAddr::new(ip.parse().unwrap(), 0);
            Box::pin(async move { Ok(Box::new(std::iter::once(address)) as Addrs) })
        }
    }

    async fn http(spec: HttpSpec, answers: &[&'static str]) -> OAuthHttp {
        let server: Url = spec.url.parse().unwrap();
        let policy = AddressPolicy::new(&server, &[], Vec::new());
        let mut guarded = crate::guarded_client::build(&spec, &server, &policy)
            .await
            .unwrap();
        let lookup = Arc::new(Rebinding(Mutex::new(answers.to_vec())));
        let resolver = policy.resolver().with_lookup(lookup);
        guarded.resolver = Arc::new(resolver.clone());
        guarded.client = mcpool_http_pool::ClientSettings::new(&spec, &server)
            .builder()
            .await
            .unwrap()
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            // Nothing that is public is really asked.
            .timeout(Duration::from_millis(300))
            .build()
            .unwrap();
        OAuthHttp::new(guarded, Masker::new())
    }

    #[tokio::test]
    async fn a_name_is_checked_at_each_connect_whatever_it_meant_before() {
        let spec = HttpSpec::new("https://mcp.example/mcp");
        let http = http(spec, &["203.0.114.1", "127.0.0.1"]).await;
        let url: Url = "https://as.example/token".parse().unwrap();
        // It is public: only nobody answers.
        let first = http.get(&url).await.err().unwrap();
        assert!(matches!(first, HttpFailure::Unreachable { .. }), "{first}");
        let second = http.get(&url).await.err().unwrap();
        let HttpFailure::Refused(why) = &second else {
            panic!("{second}");
        };
        assert!(why.contains("inside this network"), "{why}");
        assert!(why.contains("set issuer"), "{why}");
    }

    #[tokio::test]
    async fn a_name_is_checked_before_a_proxy_resolves_it() {
        let mut spec = HttpSpec::new("https://mcp.example/mcp");
        spec.proxy = Some("http://127.0.0.1:1".to_owned());
        let http = http(spec, &["169.254.169.254"]).await;
        let failure = http
            .get(&"https://as.example/token".parse().unwrap())
            .await
            .err()
            .unwrap();
        assert!(matches!(failure, HttpFailure::Refused(_)), "{failure}");
    }

    #[tokio::test]
    async fn a_flow_ends() {
        let http = http(HttpSpec::new("https://mcp.example/mcp"), &["127.0.0.1"]).await;
        let url: Url = "https://as.example/".parse().unwrap();
        for _ in 0..MAX_REQUESTS {
            assert!(http.get(&url).await.is_err());
        }
        let failure = http.get(&url).await.err().unwrap();
        assert!(failure.to_string().contains("64 requests"), "{failure}");
    }
}
