//! One of several gateways that serve the same pool with the same sealing keys: where the others
//! reach it.

use std::{fmt, sync::Arc};

use mcpool_core::{Error, ErrorKind, Result};
use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Bytes of an address: each session token carries one.
const MAX_ADDRESS: usize = 200;

/// The base URL at which other replicas reach a gateway.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Replica(Arc<str>);

impl Replica {
    /// Reads a URL such as `http://10.0.0.7:7332`, with the path under which the router is
    /// mounted, if it is.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) says what is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("the address of a replica {why}"),
            )
        };
        if text.len() > MAX_ADDRESS {
            return Err(bad(&format!("is longer than {MAX_ADDRESS} bytes")));
        }
        let url =
            Url::parse(text).map_err(|_| bad("must be a URL such as http://10.0.0.7:7332"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(bad("must begin with http:// or https:// and name a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("may hold no user and no password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("may have no query and no fragment"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').into()))
    }

    /// The address, without a slash at its end.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_plain_url() {
        let read = |text: &str| Replica::new(text).map(|replica| replica.as_str().to_owned());
        assert_eq!(
            read("http://10.0.0.7:7332/").unwrap(),
            "http://10.0.0.7:7332"
        );
        assert_eq!(read("https://[::1]:1/a/b/").unwrap(), "https://[::1]:1/a/b");
        for bad in [
            "",
            "10.0.0.7:7332",
            "ftp://host",
            "http://user:canary@host",
            "http://host/?q",
            "http://host/#f",
            &format!("http://{}", "h".repeat(MAX_ADDRESS)),
        ] {
            let error = read(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
            assert!(!error.to_string().contains("canary"));
        }
    }
}
