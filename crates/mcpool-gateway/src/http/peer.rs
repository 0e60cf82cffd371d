//! Where a request comes from: the address of its connection, or what a proxy that was named says of
//! it. It stands in the audit, and credentials that fail are counted by it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::Response,
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use ipnet::IpNet;
use mcpool_core::{Error, ErrorKind, Raw, Result};

use super::{Front, forward::Hopped, reply};
use crate::limits::at_least_one;

/// The header in which a proxy adds the address that it was reached from.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Requests with credentials that are not good, of one peer in a minute, that are answered with 401.
const FAILURE_LIMIT: u32 = 30;

/// Peers whose failures are counted one by one. Further ones are counted together.
const MAX_PEERS: usize = 10_000;

/// The address that a request comes from, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer(pub(super) Option<IpAddr>);

/// The proxies whose word is taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Adds an address or a network.
    ///
    /// # Errors
    /// `InvalidArgument` for any other text.
    pub(super) fn add(&mut self, text: &str) -> Result<()> {
        let network = text.parse::<IpNet>();
        let network = network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        self.0.push(network.map_err(|_| {
            Error::new(
                ErrorKind::InvalidArgument,
                "a proxy is named by its address or network, such as 10.0.0.7 or 10.0.0.0/8",
            )
        })?);
        Ok(())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|proxies| proxies.contains(&address))
    }

    /// Where a request on a connection comes from. From its end the header holds the address that
    /// each proxy was reached from: the first that is no proxy's is the client's, and what stands
    /// before it is what that client says.
    fn peer(&self, connection: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut peer = connection.to_canonical();
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut hops = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        while self.trusts(peer) {
            match hops.next().and_then(address) {
                Some(before) => peer = before,
                None => break,
            }
        }
        peer
    }
}

/// Reads an address, with a port or without one.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let parsed = bare.unwrap_or(text).parse();
    let with_port = || text.parse().map(|address: SocketAddr| address.ip());
    let address = parsed.or_else(|_| with_port()).ok()?;
    Some(IpAddr::to_canonical(&address))
}

/// How often each peer has sent credentials that are not good.
pub(super) struct Failures(DefaultKeyedRateLimiter<IpAddr>);

impl Default for Failures {
    fn default() -> Self {
        Self(RateLimiter::keyed(Quota::per_minute(at_least_one(
            FAILURE_LIMIT,
        ))))
    }
}

impl Failures {
    /// Counts a failure.
    ///
    /// # Errors
    /// How long the peer has to wait.
    fn count(&self, peer: IpAddr) -> std::result::Result<(), Duration> {
        if self.0.len() >= MAX_PEERS {
            self.0.retain_recent();
        }
        let peer = match self.0.len() < MAX_PEERS {
            true => network(peer),
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let refused = self.0.check_key(&peer);
        refused.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

/// What one party has of addresses: of IPv6 a network of 64 bits.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// A request whose credentials count against its peer when they are not good.
pub(super) struct Try(Option<IpAddr>);

impl Front {
    /// Notes where a request comes from.
    pub(super) fn note_peer(&self, request: &mut Request) -> Try {
        let hopped = request.extensions().get::<Hopped>().copied();
        let peer = match hopped {
            // The replica that got it knows.
            Some(hopped) => hopped.peer,
            None => {
                let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
                let connection = connection.map(|ConnectInfo(address)| address.ip());
                connection.map(|address| self.proxies.peer(address, request.headers()))
            }
        };
        request.extensions_mut().insert(Peer(peer));
        let tries = hopped.is_none() && request.headers().contains_key(header::AUTHORIZATION);
        Try(peer.filter(|_| tries))
    }

    /// Counts credentials that were not good, and answers a peer whose credentials fail too often
    /// with 429. Good ones are taken all the same: others may come from the same address.
    pub(super) fn judge(&self, Try(peer): Try, response: Response) -> Response {
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(peer) = peer
            && let Err(wait) = self.failures.count(peer)
        {
            tracing::debug!(%peer, "credentials failed too often");
            return reply::too_many(&Raw::null(), wait);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_word_of_a_proxy_counts_as_far_as_proxies_were_named() {
        let mut proxies = Proxies::default();
        for network in ["10.0.0.0/8", "fd00::/8", "192.0.2.9"] {
            proxies.add(network).unwrap();
        }
        for bad in ["", "proxy.example", "10.0.0.0/33", "10.0.0.1:80"] {
            let error = proxies.add(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
        }
        let peer = |connection: &str, said: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(FORWARDED_FOR, value.parse().unwrap());
            }
            proxies.peer(ip(connection), &headers).to_string()
        };
        assert_eq!(peer("192.0.2.9", &["198.51.100.7"]), "198.51.100.7");
        // A client that names itself another.
        assert_eq!(peer("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(peer("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(peer("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(peer("10.0.0.1", &["1.1.1.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            peer("10.0.0.1", &["1.1.1.1", "198.51.100.7, 10.0.0.2"]),
            "198.51.100.7"
        );
        assert_eq!(peer("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(peer("fd00::1", &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(peer("fd00::1", &["[2001:db8::7]"]), "2001:db8::7");
        // Nothing that is no address is believed, nor what stands before it.
        assert_eq!(peer("10.0.0.1", &["198.51.100.7, unknown"]), "10.0.0.1");
        assert_eq!(peer("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(peer("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn a_peer_may_fail_so_often_and_others_are_not_concerned() {
        let failures = Failures::default();
        for _ in 0..FAILURE_LIMIT {
            assert_eq!(failures.count(ip("2001:db8::1")), Ok(()));
        }
        // Another address of the same network.
        let wait = failures.count(ip("2001:db8::2")).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(60));
        assert_eq!(failures.count(ip("192.0.2.1")), Ok(()));
    }

    #[test]
    fn a_bounded_number_of_peers_is_remembered() {
        let failures = Failures::default();
        for n in 0..u32::try_from(MAX_PEERS).unwrap() + 2 * FAILURE_LIMIT {
            let _ = failures.count(IpAddr::V4(Ipv4Addr::from_bits(n + 1)));
        }
        // Further ones are counted together.
        assert!(failures.0.len() <= MAX_PEERS + 1);
    }
}
