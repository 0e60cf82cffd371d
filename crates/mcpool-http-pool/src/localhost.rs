//! `localhost` in both address families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mcpool_core::is_localhost;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::normalized;

/// Asks the system, and adds for `localhost` and the names below it the loopback addresses that
/// the system leaves out: a server that listens on `[::1]` alone is found where the hosts file
/// knows 127.0.0.1 alone, and the other way round (RFC 6761, section 6.3). The client tries one
/// after the other.
pub(crate) struct BothFamilies;

impl Resolve for BothFamilies {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            if !is_localhost(&normalized(name.as_str())) {
                let found: Vec<SocketAddr> = found?.collect();
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let mut addresses: Vec<SocketAddr> = found.into_iter().flatten().collect();
            for loopback in [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ] {
                let same_family =
                    |address: &SocketAddr| address.is_ipv4() == matches!(loopback, IpAddr::V4(_));
                if !addresses.iter().any(same_family) {
                    addresses.push(SocketAddr::new(loopback, 0));
                }
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolved(name: &str) -> Vec<IpAddr> {
        let found = BothFamilies.resolve(name.parse().unwrap()).await.unwrap();
        found.map(|address| address.ip()).collect()
    }

    #[tokio::test]
    async fn localhost_has_both_families() {
        for name in ["localhost", "LOCALHOST.", "app.localhost"] {
            let found = resolved(name).await;
            assert!(found.iter().any(IpAddr::is_ipv4), "{name}: {found:?}");
            assert!(found.iter().any(IpAddr::is_ipv6), "{name}: {found:?}");
        }
        assert_eq!(resolved("127.0.0.1").await, [Ipv4Addr::LOCALHOST]);
    }
}
