//! A gateway that would start itself, or be its own server: hosts name `mcpool serve`, and a config may
//! import a host's servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mcpool::{HttpSpec, ServerSpec, TransportSpec, is_localhost};
use url::{Host, Url};

use crate::{config_files, exit::Failure, global::Global, render::out, text};

/// Names to a server's process the gateways that it is started within, by their configs.
const WITHIN: &str = "MCPOOL_WITHIN";

/// The gateways that this one is started within, this one, and where it listens.
#[derive(Debug, Clone)]
pub(crate) struct Nesting {
    within: String,
    listens: Option<SocketAddr>,
}

impl Nesting {
    /// Begins a gateway of this config.
    ///
    /// # Errors
    /// When it is started by a server of a gateway of the same config.
    pub(crate) fn enter(global: &Global, listens: Option<SocketAddr>) -> Result<Self, Failure> {
        // Without a config there is no server that could start it.
        let files = config_files::find(global).ok();
        let own = files.and_then(|files| files.digest().ok());
        let outer = std::env::var(WITHIN).unwrap_or_default();
        let all = outer.split(':').filter(|id| !id.is_empty());
        if all.clone().any(|id| own.as_deref() == Some(id)) {
            return Err(Failure::usage(text!(
                "this gateway is started by a server of its own config, and would start itself \
                 without end"
            ))
            .with_hint(text!(
                "take the entry that runs `mcpool serve` out of the config, or disable it; \
                 `mcpool list` shows where it stands"
            )));
        }
        let all: Vec<&str> = all.chain(own.as_deref()).collect();
        let within = all.join(":");
        Ok(Self { within, listens })
    }

    /// Names the gateways to the processes of these servers, and disables a server that is this
    /// gateway itself: each refresh of its tools would add all of them once more.
    pub(crate) fn mark(&self, specs: &mut [ServerSpec]) {
        for spec in specs {
            match &mut spec.transport {
                TransportSpec::Stdio(process) => {
                    let within = self.within.clone().into();
                    process.env.insert(WITHIN.to_owned(), within);
                }
                TransportSpec::Http(http)
                | TransportSpec::Sse(http)
                | TransportSpec::Auto(http)
                    if spec.enabled && self.listens.is_some_and(|at| leads_to(http, at)) =>
                {
                    spec.enabled = false;
                    out::tell(&text!(
                        "warning: {} is left out: its URL is that of this gateway\n",
                        spec.name
                    ));
                }
                _ => {}
            }
        }
    }
}

/// Whether requests to this server arrive at an address of this machine on which one listens.
fn leads_to(http: &HttpSpec, listens: SocketAddr) -> bool {
    let Some(url) = Url::parse(&http.url).ok() else {
        return false;
    };
    if http.unix_socket.is_some() || url.port_or_known_default() != Some(listens.port()) {
        return false;
    }
    let is_at = |ip: IpAddr| match listens.ip() {
        all if all.is_unspecified() => {
            // `::` takes IPv4 as well.
            (ip.is_loopback() || ip.is_unspecified()) && (all.is_ipv6() || ip.is_ipv4())
        }
        one => one == ip,
    };
    match url.host() {
        Some(Host::Ipv4(ip)) => is_at(ip.into()),
        Some(Host::Ipv6(ip)) => is_at(ip.to_canonical()),
        Some(Host::Domain(name)) if is_localhost(name) => {
            is_at(Ipv4Addr::LOCALHOST.into()) || is_at(Ipv6Addr::LOCALHOST.into())
        }
        Some(Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn leads(url: &str, listens: &str) -> bool {
        leads_to(&HttpSpec::new(url), listens.parse().unwrap())
    }

    #[test]
    fn a_url_of_the_own_address_is_known() {
        for (url, listens) in [
            ("http://127.0.0.1:7332/mcp", "127.0.0.1:7332"),
            ("http://localhost:7332/mcp", "127.0.0.1:7332"),
            ("http://LOCALHOST.:7332/", "[::1]:7332"),
            ("http://tools.localhost:7332/mcp", "127.0.0.1:7332"),
            ("http://[::1]:7332/mcp", "[::1]:7332"),
            ("http://[::ffff:127.0.0.1]:7332/mcp", "127.0.0.1:7332"),
            ("http://127.0.0.1:7332/team/mcp", "0.0.0.0:7332"),
            ("http://[::1]:7332/mcp", "[::]:7332"),
            ("http://192.0.2.1/mcp", "192.0.2.1:80"),
        ] {
            assert!(leads(url, listens), "{url} at {listens}");
        }
    }

    #[test]
    fn other_addresses_are_other_servers() {
        for (url, listens) in [
            ("http://127.0.0.1:7333/mcp", "127.0.0.1:7332"),
            ("http://127.0.0.2:7332/mcp", "127.0.0.1:7332"),
            ("http://example.com:7332/mcp", "0.0.0.0:7332"),
            ("http://192.0.2.2:7332/mcp", "0.0.0.0:7332"),
            ("https://localhost/mcp", "127.0.0.1:7332"),
            ("no url", "127.0.0.1:7332"),
        ] {
            assert!(!leads(url, listens), "{url} at {listens}");
        }
        let socket = HttpSpec::new("http://localhost:7332/mcp").with_unix_socket("/run/other");
        assert!(!leads_to(&socket, "127.0.0.1:7332".parse().unwrap()));
    }
}
