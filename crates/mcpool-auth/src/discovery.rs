//! Finding the authorization server of an MCP server (RFC 9728, RFC 8414), by rmcp, and checking
//! what was found.

mod error;

use std::{sync::Arc, time::Duration};

use mcpool_core::{DpopChoice, Error, ErrorKind, OAuthSpec, Result};
use mcpool_http_pool::Challenge;
use reqwest::{Method, StatusCode, header};
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, AuthorizationMetadataResolution,
    AuthorizationMetadataSource, OAuthHttpClient, ProtectedResourceMetadataInvalidReason,
};
use tokio::time::timeout;
use url::Url;

use crate::{
    binding::{Binding, OtherIssuer},
    error::refused,
    features,
    grant::ClientAuth,
    http::OAuthHttp,
    http_failure::HttpFailure,
    shown::{redacted, shorten},
};

/// How long finding an authorization server may take in all: a dozen requests, mostly.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is known of a server's authorization server.
pub(crate) struct Discovered {
    pub(crate) metadata: AuthorizationMetadata,
    /// The issuer; for a server without metadata (MCP 2025-03-26) its own origin.
    pub(crate) issuer: String,
    /// The `resource` to ask for (RFC 8707): exactly as published.
    pub(crate) resource: String,
    pub(crate) token_endpoint: Url,
    /// Whether both sides take tokens that are bound to a key.
    pub(crate) dpop: bool,
    /// Whether anything was published at all.
    pub(crate) published: bool,
    /// The scopes that the challenge, else the server's metadata, ask for.
    pub(crate) scopes: Vec<String>,
}

impl Discovered {
    /// How a client with or without a secret proves itself here.
    pub(crate) fn client_auth(&self, has_secret: bool) -> ClientAuth {
        if !has_secret {
            return ClientAuth::None;
        }
        let offered = self.strings("token_endpoint_auth_methods_supported");
        let has = |name: &str| offered.iter().any(|method| method == name);
        // Nothing said means basic (RFC 8414, section 2).
        if has("client_secret_post") && !has("client_secret_basic") {
            ClientAuth::Post
        } else {
            ClientAuth::Basic
        }
    }

    /// A list of strings from the metadata.
    pub(crate) fn strings(&self, field: &str) -> Vec<String> {
        self.metadata
            .additional_fields
            .get(field)
            .and_then(|list| list.as_array())
            .map(|list| {
                list.iter()
                    .filter_map(|item| item.as_str().map(str::to_owned))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// A text from the metadata.
    pub(crate) fn text(&self, field: &str) -> Option<String> {
        self.metadata
            .additional_fields
            .get(field)?
            .as_str()
            .map(str::to_owned)
    }
}

/// Why there is no authorization server to go to.
#[derive(Debug)]
pub(crate) enum DiscoveryFailure {
    /// There is, but not the one that the credentials are bound to.
    OtherIssuer(OtherIssuer),
    /// Anything else.
    Other(Error),
}

impl From<DiscoveryFailure> for Error {
    fn from(failure: DiscoveryFailure) -> Self {
        match failure {
            DiscoveryFailure::OtherIssuer(change) => change.into(),
            DiscoveryFailure::Other(error) => error,
        }
    }
}

impl From<Error> for DiscoveryFailure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Finds the authorization server: from the challenge that the server sent, else by asking it.
/// Only the one that the binding accepts is asked for its metadata.
pub(crate) async fn discover(
    http: &Arc<OAuthHttp>,
    server: &Url,
    spec: &OAuthSpec,
    binding: &Binding,
    challenge: Option<&str>,
) -> Result<Discovered, DiscoveryFailure> {
    http.bind(binding.clone());
    let found = timeout(TIMEOUT, find(http, server, spec, binding, challenge)).await;
    match found {
        Ok(Err(DiscoveryFailure::Other(error))) => Err(match http.failure() {
            Some(HttpFailure::OtherIssuer(change)) => DiscoveryFailure::OtherIssuer(*change),
            _ => DiscoveryFailure::Other(error),
        }),
        Ok(found) => found,
        Err(_) => Err(DiscoveryFailure::Other(Error::new(
            ErrorKind::Timeout,
            format!(
                "the authorization server was not found within {} s",
                TIMEOUT.as_secs()
            ),
        ))),
    }
}

async fn find(
    http: &Arc<OAuthHttp>,
    server: &Url,
    spec: &OAuthSpec,
    binding: &Binding,
    challenge: Option<&str>,
) -> Result<Discovered, DiscoveryFailure> {
    let asked = match challenge {
        Some(challenge) => Asked::Refused(Some(challenge.to_owned())),
        None => probe_challenge(http, server).await,
    };
    let challenges = Challenge::parse(asked.challenge().unwrap_or_default());
    let (metadata, published) = match &spec.metadata_url {
        Some(url) => (configured_metadata(http, url, spec).await?, true),
        None => {
            let found = resolve(http, server, asked.challenge()).await?;
            let guessed = found.source == AuthorizationMetadataSource::LegacyEndpointFallback;
            (found.metadata, !guessed)
        }
    };
    if !published && matches!(asked, Asked::Open) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "this server asks for no login: it answers without one, and names no authorization \
             server",
        )
        .into());
    }
    if !published && !challenges.is_empty() && !challenges.iter().any(Challenge::takes_tokens) {
        let schemes: Vec<&str> = challenges.iter().map(|one| one.scheme.as_str()).collect();
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "this server takes only {} credentials and names no authorization server: no \
                 login gets them; put them into the header Authorization",
                shorten(&schemes.join(", "))
            ),
        )
        .into());
    }
    let issuer = match &metadata.issuer {
        Some(issuer) => issuer.clone(),
        None if published => {
            return Err(refused(
                "the authorization server's metadata does not name its issuer (RFC 8414)",
            )
            .into());
        }
        // MCP 2025-03-26: the server itself, at places that nobody published.
        None => server.origin().ascii_serialization(),
    };
    binding
        .check(&issuer)
        .map_err(DiscoveryFailure::OtherIssuer)?;
    let token_endpoint = Url::parse(&metadata.token_endpoint)
        .map_err(|_| refused("the authorization server's token endpoint is not a URL"))?;
    http.check(&token_endpoint).map_err(Error::from)?;

    // rmcp checked the document that it took; one that it only guessed at and dropped says
    // nothing about this server.
    let resource_metadata = http
        .resource_metadata()
        .filter(|metadata| covers(&metadata.resource, server));
    let resource = resource_metadata
        .as_ref()
        .map_or_else(|| server.to_string(), |metadata| metadata.resource.clone());
    let offers_dpop = metadata
        .additional_fields
        .get("dpop_signing_alg_values_supported")
        .and_then(|list| list.as_array())
        .is_some_and(|list| list.iter().any(|item| *item == *crate::dpop::ALGORITHM));
    let server_takes_dpop = challenges.iter().any(|challenge| challenge.is("DPoP"))
        || resource_metadata
            .as_ref()
            .is_some_and(|metadata| metadata.takes_dpop());
    let dpop = match spec.dpop {
        DpopChoice::Never => false,
        DpopChoice::Always => true,
        _ if cfg!(feature = "dpop") => offers_dpop && server_takes_dpop,
        // Any other token would be refused.
        _ if resource_metadata
            .as_ref()
            .is_some_and(|metadata| metadata.needs_dpop()) =>
        {
            return Err(features::left_out(features::DPOP).into());
        }
        _ => false,
    };
    let scopes = challenges
        .iter()
        .filter(|challenge| challenge.takes_tokens())
        .find_map(|challenge| challenge.parameter("scope"))
        .map(|scope| scope.split_whitespace().map(str::to_owned).collect())
        .or_else(|| resource_metadata.map(|metadata| metadata.scopes_supported))
        .unwrap_or_default();
    Ok(Discovered {
        issuer,
        resource,
        token_endpoint,
        dpop,
        published,
        metadata,
        scopes,
    })
}

/// Finds the metadata by rmcp.
async fn resolve(
    http: &Arc<OAuthHttp>,
    server: &Url,
    challenge: Option<&str>,
) -> Result<AuthorizationMetadataResolution> {
    let found = resolve_as(http, server, challenge).await;
    // A slash at the end makes no other resource, for people and for servers. To rmcp it does:
    // it is asked again in the name that the server gives itself.
    let named = match &found {
        Err(AuthError::ProtectedResourceMetadataInvalid { reason, .. }) => match &**reason {
            ProtectedResourceMetadataInvalidReason::ResourceMismatch { permitted, .. } => {
                Some(permitted.clone())
            }
            _ => None,
        },
        // At a place that rmcp only guessed, a mismatch is passed over.
        Ok(found) if found.source != AuthorizationMetadataSource::ProtectedResourceMetadata => http
            .resource_metadata()
            .and_then(|metadata| Url::parse(&metadata.resource).ok()),
        _ => None,
    };
    let found = match named {
        Some(named) if named != *server && is_same_but_for_a_slash(&named, server) => {
            resolve_as(http, &named, challenge).await
        }
        _ => found,
    };
    found.map_err(|error| error::from_discovery(&error, http))
}

async fn resolve_as(
    http: &Arc<OAuthHttp>,
    server: &Url,
    challenge: Option<&str>,
) -> Result<AuthorizationMetadataResolution, AuthError> {
    AuthorizationManager::new_with_oauth_http_client(
        server.as_str(),
        Arc::clone(http) as Arc<dyn OAuthHttpClient>,
    )
    .await?
    .resolve_metadata_from_challenge(challenge)
    .await
}

/// The metadata at the place that the spec names. Its issuer must be there too, or be the one that
/// the spec names: who may say where codes and secrets are sent is the issuer (RFC 8414, section
/// 3.3).
async fn configured_metadata(
    http: &OAuthHttp,
    url: &str,
    spec: &OAuthSpec,
) -> Result<AuthorizationMetadata> {
    let invalid = |what: String| Error::new(ErrorKind::InvalidSpec, what);
    let place = Url::parse(url)
        .map_err(|_| invalid("the metadata_url of the OAuth settings is not a URL".to_owned()))?;
    let answer = http.get(&place).await?;
    if !answer.status.is_success() {
        return Err(refused(format!(
            "the authorization server's metadata at {} was answered with {}",
            redacted(&place),
            answer.status
        )));
    }
    let metadata: AuthorizationMetadata =
        serde_json::from_slice(&answer.body).map_err(|error| {
            refused(format!(
                "what is at {} is not authorization server metadata",
                redacted(&place)
            ))
            .with_source(error)
        })?;
    let issuer = metadata.issuer.as_deref().unwrap_or_default();
    let is_there = Url::parse(issuer).is_ok_and(|issuer| issuer.origin() == place.origin());
    if !is_there && spec.issuer.as_deref() != Some(issuer) {
        return Err(refused(format!(
            "refused for safety: the metadata at {} says that it is of {}; set issuer if that is \
             right",
            redacted(&place),
            shorten(issuer)
        )));
    }
    Ok(metadata)
}

/// What the server said when it was asked without credentials.
enum Asked {
    /// 401, mostly with a challenge.
    Refused(Option<String>),
    /// It answered.
    Open,
    /// It did not answer.
    Silent,
}

impl Asked {
    fn challenge(&self) -> Option<&str> {
        match self {
            Self::Refused(challenge) => challenge.as_deref(),
            Self::Open | Self::Silent => None,
        }
    }
}

/// Asks the server for a challenge, without any side effect: a GET, which Streamable HTTP and
/// legacy SSE both know, and a `ping` where only POST is guarded.
async fn probe_challenge(http: &OAuthHttp, server: &Url) -> Asked {
    const PING: &str = r#"{"jsonrpc":"2.0","id":"mcpool-auth","method":"ping"}"#;
    let mut asked = Asked::Silent;
    for (method, accept, body) in [
        (Method::GET, "text/event-stream", ""),
        (Method::POST, "application/json, text/event-stream", PING),
    ] {
        // A server that cannot be asked is found out by rmcp's own discovery, with its error.
        let Ok(answer) = http.probe(method, server, accept, body).await else {
            continue;
        };
        if answer.status != StatusCode::UNAUTHORIZED {
            if matches!(asked, Asked::Silent) {
                asked = Asked::Open;
            }
        } else {
            let challenges: Vec<&str> = answer
                .headers
                .get_all(header::WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .collect();
            if !challenges.is_empty() {
                return Asked::Refused(Some(challenges.join(", ")));
            }
            asked = Asked::Refused(None);
        }
    }
    asked
}

fn is_same_but_for_a_slash(one: &Url, other: &Url) -> bool {
    let bare = |url: &Url| url.path().trim_end_matches('/').to_owned();
    one.origin() == other.origin() && bare(one) == bare(other)
}

/// Whether a resource identifier is the server, or a part of its URL that the server lies in.
fn covers(resource: &str, server: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else {
        return false;
    };
    let path = resource.path();
    resource.origin() == server.origin()
        && (is_same_but_for_a_slash(&resource, server)
            || server
                .path()
                .strip_prefix(path)
                .is_some_and(|rest| path.ends_with('/') || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_covers_the_server_only_along_path_segments() {
        let server: Url = "https://mcp.example/team/mcp".parse().unwrap();
        for (resource, covered) in [
            ("https://mcp.example/team/mcp", true),
            ("https://mcp.example/team/mcp/", true),
            ("https://mcp.example/team", true),
            ("https://mcp.example/team/", true),
            ("https://mcp.example/", true),
            ("https://mcp.example", true),
            ("https://mcp.example/te", false),
            ("https://mcp.example/other", false),
            ("https://mcp.example/team/mcp/more", false),
            ("https://evil.example/team/mcp", false),
            ("http://mcp.example/team/mcp", false),
            ("https://mcp.example:444/team/mcp", false),
            ("not a url", false),
        ] {
            assert_eq!(covers(resource, &server), covered, "{resource}");
        }
    }
}
