//! Where OAuth requests may go: a server must not make us ask inside our own network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Origin, Url};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Public,
    Loopback,
    Private,
    /// Link-local (where clouds keep their metadata), multicast, reserved.
    Never,
}

/// What may be asked, decided by where the MCP server itself is.
///
/// - `https`; plain `http` only on loopback, and only for a server on loopback.
/// - An address that is private or loopback only when the server's URL names an address of the
///   same class, or when the user configured that very origin. What a name of the server
///   resolves to widens nothing: the server's owner controls it.
/// - Link-local and reserved addresses never.
#[derive(Debug, Clone)]
pub(crate) struct AddressPolicy {
    server: Class,
    /// Origins that the user wrote down: the server's own, the pinned issuer, the identity
    /// provider.
    trusted: Arc<[Origin]>,
    /// Proxies resolve through the same resolver and are the user's own choice.
    proxy_hosts: Arc<[String]>,
}

impl AddressPolicy {
    pub(crate) fn new(server: &Url, configured: &[Url], proxies: &[String]) -> Self {
        let class = match server.host() {
            Some(Host::Ipv4(ip)) => classify(ip.into()),
            Some(Host::Ipv6(ip)) => classify(ip.into()),
            Some(Host::Domain(name)) if is_localhost(name) => Class::Loopback,
            _ => Class::Public,
        };
        Self {
            server: class,
            trusted: std::iter::once(server)
                .chain(configured)
                .map(Url::origin)
                .collect(),
            proxy_hosts: proxies
                .iter()
                .filter_map(|proxy| Url::parse(proxy).ok()?.host_str().map(normalize))
                .collect(),
        }
    }

    /// Checks a URL as it is written.
    ///
    /// # Errors
    /// Why it may not be asked.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), String> {
        let trusted = self.trusted.contains(&url.origin());
        let (class, written) = match url.host() {
            Some(Host::Ipv4(ip)) => (classify(ip.into()), true),
            Some(Host::Ipv6(ip)) => (classify(ip.into()), true),
            Some(Host::Domain(name)) if is_localhost(name) => (Class::Loopback, true),
            Some(Host::Domain(name)) if is_cloud_metadata(name) => (Class::Never, true),
            Some(Host::Domain(_)) => (Class::Public, false),
            None => return Err("it has no host".to_owned()),
        };
        match url.scheme() {
            "https" => {}
            "http" if class == Class::Loopback => {}
            _ => return Err("it is not https".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it carries a user name or password".to_owned());
        }
        if written && !trusted && !self.allows(class) {
            return Err(match class {
                Class::Never => "it is a link-local or reserved address".to_owned(),
                _ => "it points inside this network, where the server is not".to_owned(),
            });
        }
        Ok(())
    }

    fn allows(&self, class: Class) -> bool {
        match class {
            Class::Public => true,
            Class::Never => false,
            Class::Loopback | Class::Private => self.server == class,
        }
    }

    fn is_trusted_host(&self, host: &str) -> bool {
        self.proxy_hosts.iter().any(|proxy| proxy == host)
            || self.trusted.iter().any(|origin| match origin {
                Origin::Tuple(_, Host::Domain(name), _) => normalize(name) == host,
                _ => false,
            })
    }
}

/// Resolves names for OAuth requests, and keeps only the addresses that the policy allows, so
/// that what is checked is what is connected to.
#[derive(Debug, Clone)]
pub(crate) struct GuardedResolver(pub(crate) AddressPolicy);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let host = normalize(name.as_str());
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let trusted = policy.is_trusted_host(&host);
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| {
                    let class = classify(address.ip());
                    policy.allows(class) || (trusted && class != Class::Never)
                })
                .collect();
            if allowed.is_empty() {
                return Err(RefusedHost(host).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Every address of a host was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0} resolves to an address inside this network, where the server is not")]
pub(crate) struct RefusedHost(pub(crate) String);

fn normalize(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

fn is_localhost(name: &str) -> bool {
    let name = normalize(name);
    name == "localhost" || name.ends_with(".localhost")
}

fn is_cloud_metadata(name: &str) -> bool {
    matches!(
        normalize(name).as_str(),
        "metadata" | "metadata.google.internal" | "metadata.azure.internal"
    )
}

fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(inner) => classify_v4(inner),
            None => classify_v6(ip),
        },
    }
}

fn classify_v4(ip: Ipv4Addr) -> Class {
    let [a, b, c, _] = ip.octets();
    if ip.is_loopback() {
        Class::Loopback
    } else if ip.is_private() || (a == 100 && (64..128).contains(&b)) {
        Class::Private
    } else if a == 0
        || a >= 224
        || ip.is_link_local()
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || ip.is_documentation()
    {
        Class::Never
    } else {
        Class::Public
    }
}

fn classify_v6(ip: Ipv6Addr) -> Class {
    let [a, b, c, ..] = ip.segments();
    if ip.is_loopback() {
        Class::Loopback
    } else if a & 0xfe00 == 0xfc00 {
        Class::Private
    } else if ip.is_unspecified()
        || ip.is_multicast()
        || a & 0xffc0 == 0xfe80
        // Teredo, documentation, local NAT64.
        || (a == 0x2001 && b == 0)
        || (a == 0x2001 && b == 0xdb8)
        || (a == 0x64 && b == 0xff9b && c == 1)
    {
        Class::Never
    } else {
        Class::Public
    }
}

/// The IPv4 address inside a mapped, compatible, NAT64 (RFC 6052) or 6to4 address.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(join(g, h)),
        [0, 0, 0, 0, 0, 0] if g != 0 => Some(join(g, h)),
        [0x2002, ..] => Some(join(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(server: &str, configured: &[&str]) -> AddressPolicy {
        let configured: Vec<Url> = configured.iter().map(|url| url.parse().unwrap()).collect();
        AddressPolicy::new(&server.parse().unwrap(), &configured, &[])
    }

    #[test]
    fn a_public_server_cannot_point_inside() {
        let policy = policy("https://mcp.example.com/mcp", &["https://10.1.2.3/realm"]);
        for (url, ok) in [
            ("https://as.example.com/x", true),
            ("http://as.example.com/x", false),
            ("https://127.0.0.1/x", false),
            ("http://127.0.0.1/x", false),
            ("https://localhost/x", false),
            ("https://a.localhost./x", false),
            ("https://10.0.0.9/x", false),
            ("https://192.168.1.1/x", false),
            ("https://100.64.0.1/x", false),
            ("https://169.254.169.254/latest", false),
            ("https://[fe80::1]/x", false),
            ("https://[fd00::1]/x", false),
            ("https://[::ffff:10.0.0.1]/x", false),
            ("https://[64:ff9b::a9fe:a9fe]/x", false),
            ("https://[2002:7f00:1::]/x", false),
            ("https://0x7f.1/x", false),
            ("https://metadata.google.internal/x", false),
            ("https://0.0.0.0/x", false),
            ("https://user@as.example.com/x", false),
            ("file:///etc/passwd", false),
            ("https://8.8.8.8/x", true),
            // What the user wrote down is the user's business.
            ("https://10.1.2.3/token", true),
            ("https://10.1.2.3:8443/token", false),
        ] {
            let verdict = policy.check_url(&url.parse().unwrap());
            assert_eq!(verdict.is_ok(), ok, "{url}: {verdict:?}");
        }
    }

    #[test]
    fn a_server_inside_may_name_its_neighbours() {
        let on_loopback = policy("http://127.0.0.1:3000/mcp", &[]);
        for (url, ok) in [
            ("http://localhost:9000/x", true),
            ("http://[::1]:9000/x", true),
            ("https://10.0.0.1/x", false),
            ("http://10.0.0.1/x", false),
            ("http://169.254.169.254/x", false),
        ] {
            assert_eq!(
                on_loopback.check_url(&url.parse().unwrap()).is_ok(),
                ok,
                "{url}"
            );
        }
        let private = policy("https://10.0.0.1/mcp", &[]);
        assert!(
            private
                .check_url(&"https://10.0.0.2/x".parse().unwrap())
                .is_ok()
        );
        assert!(
            private
                .check_url(&"http://10.0.0.2/x".parse().unwrap())
                .is_err()
        );
        assert!(
            private
                .check_url(&"https://127.0.0.1/x".parse().unwrap())
                .is_err()
        );
    }

    #[tokio::test]
    async fn names_are_checked_by_what_they_resolve_to() {
        let resolve = |server: &str| {
            let resolver = GuardedResolver(policy(server, &[]));
            async move {
                resolver
                    .resolve("localhost".parse().unwrap())
                    .await
                    .map(|found| found.count())
            }
        };
        assert!(resolve("http://localhost:1/mcp").await.unwrap() > 0);
        let Err(error) = resolve("https://mcp.example.com/mcp").await else {
            panic!("a public server reached into loopback");
        };
        assert!(error.to_string().contains("inside this network"), "{error}");
    }
}
