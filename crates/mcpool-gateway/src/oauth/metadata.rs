//! The metadata of an authorization server (RFC 8414, OpenID Connect Discovery), and the keys that it
//! names.

use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use mcpool_core::{Error, ErrorKind, Result};
use reqwest::{Client, Url};
use serde::{Deserialize, de::DeserializeOwned};

use super::key_set::Source;
use crate::https;

/// How long a document of the authorization server may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a document.
const MAX_DOCUMENT: usize = 256 * 1024;

/// What an issuer publishes.
pub(super) struct Metadata {
    issuer: Url,
    client: Client,
}

impl Metadata {
    pub(super) fn of_issuer(issuer: Url) -> Result<Self> {
        let client = https::client(FETCH_TIMEOUT)?;
        Ok(Self { issuer, client })
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

impl Source for Metadata {
    async fn fetch(&self) -> Result<JwkSet> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let mut last = None;
        for url in self.metadata_urls() {
            match self.document::<Document>(url).await {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}/", silent.local_addr().unwrap());
        let metadata = Metadata::of_issuer(checked(&issuer).unwrap()).unwrap();
        let begun = tokio::time::Instant::now();
        assert!(metadata.fetch().await.is_err());
        // One after the other: each place where its metadata may be.
        let places = u32::try_from(metadata.metadata_urls().len()).unwrap();
        let elapsed = begun.elapsed();
        assert!(elapsed >= FETCH_TIMEOUT * places, "{elapsed:?}");
        assert!(elapsed < FETCH_TIMEOUT * (places + 1), "{elapsed:?}");
    }
}
