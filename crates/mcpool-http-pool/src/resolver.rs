//! Name resolution that keeps only addresses which may be connected to.
//!
//! What is checked is what is connected to: the client asks this resolver for each connection,
//! so a name that means another machine a moment later (DNS rebinding) is checked again.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mcpool_core::is_localhost;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::{address::AddressClass, localhost::BothFamilies, normalized};

/// Of a name with more addresses, the rest is not tried.
const MAX_ADDRESSES: usize = 16;

type Allow = dyn Fn(&str, IpAddr) -> bool + Send + Sync;

/// Resolves names and keeps the addresses that are allowed for them, up to 16.
#[derive(Clone)]
pub struct CheckedResolver {
    allow: Arc<Allow>,
    lookup: Arc<dyn Resolve>,
}

impl CheckedResolver {
    /// A resolver that keeps the addresses for which `allow` says yes. It gets the name in lower
    /// case, without a dot at its end.
    #[must_use]
    pub fn new(allow: impl Fn(&str, IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self {
            allow: Arc::new(allow),
            lookup: Arc::new(BothFamilies),
        }
    }

    /// Asks this for addresses instead of the system.
    #[must_use]
    #[cfg(any(test, feature = "reqwest"))]
    pub fn with_lookup(mut self, lookup: Arc<dyn Resolve>) -> Self {
        self.lookup = lookup;
        self
    }

    /// The resolver of the pool's clients: `localhost` and names below it mean this machine,
    /// whatever a name server says (RFC 6761, section 6.3).
    #[must_use]
    pub fn for_servers() -> Self {
        Self::new(|host, ip| !is_localhost(host) || AddressClass::of(ip) == AddressClass::Loopback)
    }
}

impl fmt::Debug for CheckedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedResolver")
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let host = normalized(name.as_str());
            let mut found = this.lookup.resolve(name).await?.peekable();
            if found.peek().is_none() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no address").into());
            }
            let allowed: Vec<SocketAddr> = found
                .filter(|address| (this.allow)(&host, address.ip()))
                .take(MAX_ADDRESSES)
                .collect();
            if allowed.is_empty() {
                return Err(RefusedAddress(host).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Every address of a host was refused. It stands in the source chain of the client's error.
#[derive(Debug, thiserror::Error)]
#[error("{0} resolves to an address that may not be connected to")]
pub struct RefusedAddress(
    /// The host.
    pub String,
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Fixed(&'static [&'static str]);

    impl Resolve for Fixed {
        fn resolve(&self, _: Name) -> Resolving {
            let found: Vec<SocketAddr> = self
                .0
                .iter()
                .map(|ip| SocketAddr::new(ip.parse().unwrap(), 0))
                .collect();
            Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
        }
    }

    async fn resolved(name: &str, found: &'static [&'static str]) -> Result<Vec<String>, String> {
        CheckedResolver::for_servers()
            .with_lookup(Arc::new(Fixed(found)))
            .resolve(name.parse().unwrap())
            .await
            .map(|found| found.map(|address| address.ip().to_string()).collect())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn localhost_is_this_machine_whatever_a_name_server_says() {
        assert_eq!(
            resolved("localhost", &["203.0.114.1", "127.0.0.1", "::1"]).await,
            Ok(vec!["127.0.0.1".to_owned(), "::1".to_owned()])
        );
        for name in ["localhost", "LocalHost.", "a.localhost"] {
            let error = resolved(name, &["203.0.114.1"]).await.unwrap_err();
            assert!(error.contains("may not be connected to"), "{error}");
        }
        // A server of the user's own may be anywhere.
        assert!(resolved("mcp.example", &["10.0.0.1"]).await.is_ok());
        assert_eq!(
            resolved("mcp.example", &[]).await,
            Err("no address".to_owned())
        );
    }

    #[tokio::test]
    async fn the_system_is_asked_by_default() {
        let found = CheckedResolver::for_servers()
            .resolve("localhost".parse().unwrap())
            .await
            .unwrap();
        assert!(found.count() > 0);
    }
}
