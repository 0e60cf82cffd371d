//! Where OAuth requests may go: a server must not make us ask inside our own network.

use std::{net::IpAddr, sync::Arc};

use mcpool_core::is_localhost;
use mcpool_http_pool::{AddressClass, CheckedResolver, normalized};
use url::{Host, Origin, Url};

/// What may be asked, decided by where the MCP server itself is.
///
/// - `https`; plain `http` only on loopback, and only for a server on loopback.
/// - An address that is private or loopback only when the server's URL names an address of the
///   same class, or when the user configured that very origin. What a name of the server
///   resolves to widens nothing: the server's owner controls it.
/// - Link-local and other special addresses never.
#[derive(Debug, Clone)]
pub(crate) struct AddressPolicy {
    server: AddressClass,
    /// The server's origin, if the user lets credentials go to it over plain `http`.
    cleartext: Option<Origin>,
    /// Origins that the user wrote down: the server's own, the pinned issuer, the identity
    /// provider.
    trusted: Arc<[Origin]>,
    /// Proxies resolve through the same resolver and are the user's own choice.
    proxy_hosts: Arc<[String]>,
}

impl AddressPolicy {
    /// The policy for a server, the origins that the user configured beside it, and the hosts of
    /// the user's proxies.
    pub(crate) fn new(server: &Url, configured: &[Url], proxy_hosts: Vec<String>) -> Self {
        Self {
            server: written_class(server).unwrap_or(AddressClass::Public),
            cleartext: None,
            trusted: std::iter::once(server)
                .chain(configured)
                .map(Url::origin)
                .collect(),
            proxy_hosts: proxy_hosts.into(),
        }
    }

    /// Lets requests to the server itself go over plain `http`, wherever it is.
    pub(crate) fn with_cleartext_server(mut self, server: &Url) -> Self {
        self.cleartext = Some(server.origin());
        self
    }

    /// Checks a URL as it is written.
    ///
    /// # Errors
    /// Why it may not be asked.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), String> {
        let trusted = self.trusted.contains(&url.origin());
        let Some(host) = url.host_str() else {
            return Err("it has no host".to_owned());
        };
        let class = match url.host() {
            Some(Host::Domain(name)) if is_cloud_metadata(name) => Some(AddressClass::Special),
            _ => written_class(url),
        };
        match url.scheme() {
            "https" => {}
            "http" if class == Some(AddressClass::Loopback) => {}
            "http" if self.cleartext.as_ref() == Some(&url.origin()) => {}
            _ => return Err("it is not https".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it carries a user name or password".to_owned());
        }
        if trusted {
            return Ok(());
        }
        match class {
            // The resolver would let it through.
            None if self.proxy_hosts.contains(&normalized(host)) => {
                Err("it is the proxy".to_owned())
            }
            Some(AddressClass::Special) => Err("it is a link-local or reserved address".to_owned()),
            Some(class) if !self.allows(class) => {
                Err("it points inside this network, where the server is not".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn allows(&self, class: AddressClass) -> bool {
        match class {
            AddressClass::Public => true,
            AddressClass::Loopback | AddressClass::Private => self.server == class,
            _ => false,
        }
    }

    /// Whether a host may be connected to at this address.
    fn allows_address(&self, host: &str, ip: IpAddr) -> bool {
        if self.proxy_hosts.iter().any(|proxy| proxy == host) {
            return true;
        }
        let class = AddressClass::of(ip);
        if is_localhost(host) && class != AddressClass::Loopback {
            return false;
        }
        let trusted = self.trusted.iter().any(|origin| match origin {
            Origin::Tuple(_, Host::Domain(name), _) => normalized(name) == host,
            _ => false,
        });
        self.allows(class) || (trusted && class != AddressClass::Special)
    }

    /// A resolver that keeps only the addresses that may be connected to.
    pub(crate) fn resolver(&self) -> CheckedResolver {
        let policy = self.clone();
        CheckedResolver::new(move |host, ip| policy.allows_address(host, ip))
    }
}

/// The class of a URL's host, if it is written as an address or means this machine.
fn written_class(url: &Url) -> Option<AddressClass> {
    match url.host()? {
        Host::Ipv4(ip) => Some(AddressClass::of(ip.into())),
        Host::Ipv6(ip) => Some(AddressClass::of(ip.into())),
        Host::Domain(name) => is_localhost(name).then_some(AddressClass::Loopback),
    }
}

fn is_cloud_metadata(name: &str) -> bool {
    matches!(
        normalized(name).as_str(),
        "metadata" | "metadata.google.internal" | "metadata.azure.internal"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(server: &str, configured: &[&str]) -> AddressPolicy {
        let configured: Vec<Url> = configured.iter().map(|url| url.parse().unwrap()).collect();
        AddressPolicy::new(
            &server.parse().unwrap(),
            &configured,
            vec!["proxy.corp".to_owned()],
        )
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
            ("https://[fec0::1]/x", false),
            ("https://[fd00::1]/x", false),
            ("https://[::ffff:10.0.0.1]/x", false),
            ("https://[::ffff:0:10.0.0.1]/x", false),
            ("https://[64:ff9b::a9fe:a9fe]/x", false),
            ("https://[2002:7f00:1::]/x", false),
            ("https://0x7f.1/x", false),
            ("https://metadata.google.internal/x", false),
            ("https://0.0.0.0/x", false),
            ("https://user@as.example.com/x", false),
            ("https://Proxy.Corp./x", false),
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
        let check = |policy: &AddressPolicy, url: &str| policy.check_url(&url.parse().unwrap());
        let on_loopback = policy("http://127.0.0.1:3000/mcp", &[]);
        for (url, ok) in [
            ("http://localhost:9000/x", true),
            ("http://[::1]:9000/x", true),
            ("https://10.0.0.1/x", false),
            ("http://10.0.0.1/x", false),
            ("http://169.254.169.254/x", false),
        ] {
            assert_eq!(check(&on_loopback, url).is_ok(), ok, "{url}");
        }
        let private = policy("https://10.0.0.1/mcp", &[]);
        assert!(check(&private, "https://10.0.0.2/x").is_ok());
        assert!(check(&private, "http://10.0.0.2/x").is_err());
        assert!(check(&private, "https://127.0.0.1/x").is_err());
        // Plain http to the server itself, and to nobody else, when that is allowed by name.
        let server: Url = "http://10.0.0.1/mcp".parse().unwrap();
        let plain = policy(server.as_str(), &[]);
        assert!(check(&plain, "http://10.0.0.1/x").is_err());
        let plain = plain.with_cleartext_server(&server);
        assert!(check(&plain, "http://10.0.0.1/x").is_ok());
        assert!(check(&plain, "http://10.0.0.1:81/x").is_err());
    }

    #[test]
    fn names_are_checked_by_what_they_resolve_to() {
        let public = policy("https://mcp.corp/mcp", &["https://sso.corp/realm"]);
        let on_loopback = policy("http://localhost:1/mcp", &[]);
        for (policy, host, ip, ok) in [
            (&public, "as.example", "8.8.8.8", true),
            (&public, "as.example", "10.0.0.1", false),
            (&public, "as.example", "127.0.0.1", false),
            (&public, "as.example", "169.254.169.254", false),
            (&public, "as.example", "::ffff:10.0.0.1", false),
            (&public, "as.example", "fec0::1", false),
            // The user's own words, but never the cloud's metadata.
            (&public, "sso.corp", "10.0.0.1", true),
            (&public, "sso.corp", "169.254.169.254", false),
            (&public, "mcp.corp", "10.0.0.1", true),
            (&public, "proxy.corp", "10.0.0.1", true),
            (&on_loopback, "localhost", "127.0.0.1", true),
            (&on_loopback, "localhost", "8.8.8.8", false),
            (&on_loopback, "as.example", "127.0.0.1", true),
            (&on_loopback, "as.example", "10.0.0.1", false),
        ] {
            assert_eq!(
                policy.allows_address(host, ip.parse().unwrap()),
                ok,
                "{host} at {ip}"
            );
        }
    }
}
