//! The keys of an authorization server (RFC 7517), fetched when they are needed.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse},
};
use mcpool_core::{Error, ErrorKind, Result};
use reqwest::{Client, Url, redirect::Policy};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::Mutex, time::Instant};

/// How long a document of the authorization server may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a document.
const MAX_DOCUMENT: usize = 256 * 1024;

/// How long keys are used before they are fetched again: one that was withdrawn is good no longer.
const KEYS_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The shortest time between two fetches, so that tokens with made-up keys cause no more.
const FETCH_PAUSE: Duration = Duration::from_secs(10);

/// The keys of one issuer.
pub(super) struct KeySet {
    issuer: Url,
    client: Client,
    keys: ArcSwapOption<Keys>,
    /// When a fetch last ended. Who holds it fetches.
    tried: Mutex<Option<Instant>>,
}

struct Keys {
    keys: JwkSet,
    fetched: Instant,
}

impl KeySet {
    pub(super) fn of_issuer(issuer: Url) -> Result<Self> {
        let failed = |error: &dyn std::error::Error| {
            Error::new(
                ErrorKind::Internal,
                format!("no TLS can be spoken: {error}"),
            )
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .map_err(|error| failed(&error))?
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            // The issuer is who was named, and nobody else.
            .redirect(Policy::none())
            .timeout(FETCH_TIMEOUT)
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self {
            issuer,
            client,
            keys: ArcSwapOption::empty(),
            tried: Mutex::default(),
        })
    }

    /// The key that a token names, if the issuer has it. One that is not known may be new: then
    /// the keys are fetched once more.
    ///
    /// # Errors
    /// When there are no keys, and none can be fetched.
    pub(super) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>> {
        // A key that is known waits for no fetch: made-up tokens hold up none that are good.
        if let Some(known) = self.known(id, algorithm) {
            return Ok(Some(known));
        }
        // Held while they are fetched: whoever comes meanwhile waits for the same keys.
        let mut tried = self.tried.lock().await;
        if let Some(known) = self.known(id, algorithm) {
            return Ok(Some(known));
        }
        let is_fresh = self.fresh().is_some();
        if tried.is_some_and(|at| at.elapsed() < FETCH_PAUSE) {
            return match is_fresh {
                true => Ok(None),
                false => Err(Error::new(
                    ErrorKind::NotConnected,
                    "they were not had just now",
                )),
            };
        }
        let fetched = self.fetch().await;
        // From its end on: a fetch may take longer than the pause.
        *tried = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                let found = find(&keys, id, algorithm);
                self.keys.store(Some(Arc::new(Keys {
                    keys,
                    fetched: Instant::now(),
                })));
                Ok(found)
            }
            // What is known of fresh keys is still true.
            Err(_) if is_fresh => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The keys, unless they are too old.
    fn fresh(&self) -> Option<Arc<Keys>> {
        let keys = self.keys.load_full();
        keys.filter(|keys| keys.fetched.elapsed() < KEYS_LIFETIME)
    }

    fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        find(&self.fresh()?.keys, id, algorithm)
    }

    async fn fetch(&self) -> Result<JwkSet> {
        #[derive(Deserialize)]
        struct Metadata {
            issuer: String,
            jwks_uri: String,
        }
        let mut last = None;
        for url in self.metadata_urls() {
            match self.document::<Metadata>(url).await {
                Ok(found) if same(&found.issuer, self.issuer.as_str()) => {
                    return self.document(checked(&found.jwks_uri)?).await;
                }
                // RFC 8414, section 3.3.
                Ok(_) => {
                    return Err(Error::new(
                        ErrorKind::Protocol,
                        "the authorization server's metadata names another issuer",
                    ));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Internal, "there is no metadata")))
    }

    /// Where metadata may be, in the order of MCP 2025-11-25 ("Authorization Server Metadata
    /// Discovery").
    fn metadata_urls(&self) -> Vec<Url> {
        let path = self.issuer.path().trim_end_matches('/');
        let paths = [
            format!("/.well-known/oauth-authorization-server{path}"),
            format!("/.well-known/openid-configuration{path}"),
            format!("{path}/.well-known/openid-configuration"),
        ];
        let urls = paths.iter().map(|path| {
            let mut url = self.issuer.clone();
            url.set_path(path);
            url
        });
        urls.collect()
    }

    async fn document<T: DeserializeOwned>(&self, url: Url) -> Result<T> {
        let failed = |error: reqwest::Error| {
            Error::new(ErrorKind::NotConnected, error.without_url().to_string())
        };
        let response = self.client.get(url).send().await.map_err(failed)?;
        let mut response = response.error_for_status().map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_DOCUMENT {
                return Err(Error::new(ErrorKind::TooLarge, "the document is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body)
            .map_err(|_| Error::new(ErrorKind::Protocol, "the document is not what it should be"))
    }
}

/// A URL that nobody on the way can change the answer of.
pub(super) fn checked(url: &str) -> Result<Url> {
    let refused = || {
        let why = "it must be an https URL, or http on this machine, without a query";
        Error::new(ErrorKind::InvalidArgument, why)
    };
    let url = Url::parse(url).map_err(|_| refused())?;
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    let is_plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if is_safe && is_plain {
        Ok(url)
    } else {
        Err(refused())
    }
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// The key of this name for this algorithm. Without a name there must be one alone that fits.
fn find(keys: &JwkSet, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let mut fitting = keys.keys.iter().filter(|key| fits(key, algorithm));
    let key = match id {
        Some(id) => fitting.find(|key| key.common.key_id.as_deref() == Some(id)),
        None => match (fitting.next(), fitting.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        },
    };
    DecodingKey::from_jwk(key?).ok()
}

fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let is_kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(
            algorithm,
            Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
        ),
        AlgorithmParameters::EllipticCurve(_) => {
            matches!(algorithm, Algorithm::ES256 | Algorithm::ES384)
        }
        AlgorithmParameters::OctetKeyPair(_) => algorithm == Algorithm::EdDSA,
        // A secret that is published is none.
        AlgorithmParameters::OctetKey(_) => false,
    };
    let signs = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    is_kind && signs
}
