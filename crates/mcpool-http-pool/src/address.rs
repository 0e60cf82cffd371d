//! What kind of address an IP address is, by the IANA special-purpose registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mcpool_core::is_localhost;
use url::{Host, Url};

/// What an address is to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressClass {
    /// Of the public network.
    Public,
    /// This machine.
    Loopback,
    /// Of a private or shared network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// Nothing that a service is reached at: link-local (where clouds keep their metadata),
    /// multicast, reserved, for documentation or benchmarks, a translation of another address.
    Special,
}

impl AddressClass {
    /// The class of an address.
    ///
    /// An IPv4-mapped address is what it maps, because the system connects to that; one inside of
    /// the NAT64 prefix (RFC 6052) is public if what it embeds is. Every other block of the IANA
    /// special-purpose registries (RFC 6890) is special, and so is all of IPv6 that is not
    /// assigned to be global unicast (RFC 4291, section 2.4).
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(ip) => class_of_v4(ip),
            IpAddr::V6(ip) => class_of_v6(ip),
        }
    }
}

fn class_of_v4(ip: Ipv4Addr) -> AddressClass {
    match ip.octets() {
        [127, ..] => AddressClass::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => {
            AddressClass::Private
        }
        // "This network", link-local, protocol assignments, documentation, AS112, AMT, 6to4
        // relays, benchmarks; multicast, reserved, broadcast.
        [0 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 31, 196, _]
        | [192, 52, 193, _]
        | [192, 88, 99, _]
        | [192, 175, 48, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => AddressClass::Special,
        _ => AddressClass::Public,
    }
}

fn class_of_v6(ip: Ipv6Addr) -> AddressClass {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return class_of_v4(mapped);
    }
    if ip.is_loopback() {
        return AddressClass::Loopback;
    }
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let embedded = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
            match class_of_v4(embedded) {
                AddressClass::Public => AddressClass::Public,
                _ => AddressClass::Special,
            }
        }
        [0xfc00..=0xfdff, ..] => AddressClass::Private,
        // Protocol assignments (2001::/23, Teredo among them), documentation, 6to4, AS112.
        [0x2001, 0..=0x1ff, ..]
        | [0x2001, 0xdb8, ..]
        | [0x2002, ..]
        | [0x2620, 0x4f, 0x8000, ..]
        | [0x3fff, 0..=0xfff, ..] => AddressClass::Special,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        _ => AddressClass::Special,
    }
}

/// A host name as it is compared: in lower case, without a dot at its end.
#[must_use]
pub fn normalized(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether the URL's host is this machine, as it is written: nothing is resolved.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => AddressClass::of(ip.into()) == AddressClass::Loopback,
        Some(Host::Ipv6(ip)) => AddressClass::of(ip.into()) == AddressClass::Loopback,
        Some(Host::Domain(name)) => is_localhost(name),
        None => false,
    }
}

/// The same of a host alone, as it stands in a URL.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback(&url))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Both ends of every block of the IANA special-purpose registries, and the addresses beside
    /// them.
    #[test]
    fn every_special_purpose_block_and_its_neighbours() {
        use AddressClass::{Loopback, Private, Public, Special};
        for (address, class) in [
            ("0.0.0.0", Special),
            ("0.255.255.255", Special),
            ("1.0.0.0", Public),
            ("9.255.255.255", Public),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("11.0.0.0", Public),
            ("100.63.255.255", Public),
            ("100.64.0.0", Private),
            ("100.127.255.255", Private),
            ("100.128.0.0", Public),
            ("126.255.255.255", Public),
            ("127.0.0.0", Loopback),
            ("127.255.255.255", Loopback),
            ("128.0.0.0", Public),
            ("169.253.255.255", Public),
            ("169.254.0.0", Special),
            ("169.254.169.254", Special),
            ("169.254.255.255", Special),
            ("169.255.0.0", Public),
            ("172.15.255.255", Public),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("191.255.255.255", Public),
            ("192.0.0.0", Special),
            ("192.0.0.8", Special),
            ("192.0.0.170", Special),
            ("192.0.0.255", Special),
            ("192.0.1.0", Public),
            ("192.0.2.0", Special),
            ("192.0.2.255", Special),
            ("192.0.3.0", Public),
            ("192.31.196.0", Special),
            ("192.52.193.255", Special),
            ("192.88.99.2", Special),
            ("192.167.255.255", Public),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("192.169.0.0", Public),
            ("192.175.48.1", Special),
            ("198.17.255.255", Public),
            ("198.18.0.0", Special),
            ("198.19.255.255", Special),
            ("198.20.0.0", Public),
            ("198.51.100.0", Special),
            ("198.51.101.0", Public),
            ("203.0.113.255", Special),
            ("203.0.114.0", Public),
            ("223.255.255.255", Public),
            ("224.0.0.0", Special),
            ("239.255.255.255", Special),
            ("240.0.0.0", Special),
            ("255.255.255.255", Special),
            ("::", Special),
            ("::1", Loopback),
            ("::2", Special),
            // IPv4-compatible, mapped, and translated (RFC 2765): three places for one address.
            ("::127.0.0.1", Special),
            ("::8.8.8.8", Special),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:10.0.0.1", Private),
            ("::ffff:169.254.169.254", Special),
            ("::ffff:8.8.8.8", Public),
            ("::ffff:0:127.0.0.1", Special),
            ("::ffff:0:8.8.8.8", Special),
            ("64:ff9b::8.8.8.8", Public),
            ("64:ff9b::10.0.0.1", Special),
            ("64:ff9b::127.0.0.1", Special),
            ("64:ff9b::169.254.169.254", Special),
            ("64:ff9b:0:0:1::", Special),
            ("64:ff9b:1::1", Special),
            ("100::1", Special),
            ("100:0:0:1::1", Special),
            ("1fff:ffff::1", Special),
            ("2000::", Public),
            ("2001::1", Special),
            ("2001:0:4136:e378::1", Special),
            ("2001:1::1", Special),
            ("2001:2::1", Special),
            ("2001:3::1", Special),
            ("2001:4:112::1", Special),
            ("2001:10::1", Special),
            ("2001:20::1", Special),
            ("2001:30::1", Special),
            ("2001:1ff:ffff::1", Special),
            ("2001:200::1", Public),
            ("2001:db7:ffff::1", Public),
            ("2001:db8::1", Special),
            ("2001:db9::1", Public),
            ("2001:4860:4860::8888", Public),
            ("2002:7f00:1::", Special),
            ("2002:808:808::", Special),
            ("2003::1", Public),
            ("2620:4f:8000::1", Special),
            ("2620:4f:8001::1", Public),
            ("3ffe:ffff::1", Public),
            ("3fff::1", Special),
            ("3fff:fff:ffff::1", Special),
            ("3fff:1000::1", Public),
            ("4000::1", Special),
            ("5f00::1", Special),
            ("fbff:ffff::1", Special),
            ("fc00::1", Private),
            ("fd00::1", Private),
            ("fdff:ffff::1", Private),
            ("fe00::1", Special),
            ("fe80::1", Special),
            ("febf::1", Special),
            ("fec0::1", Special),
            ("feff::1", Special),
            ("ff02::1", Special),
        ] {
            assert_eq!(
                AddressClass::of(address.parse().unwrap()),
                class,
                "{address}"
            );
        }
    }

    #[test]
    fn this_machine_as_it_is_written() {
        for (url, is) in [
            ("http://127.0.0.1/", true),
            ("http://127.9.9.9/", true),
            ("http://2130706433/", true),
            ("http://[::1]/", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://localhost/", true),
            ("http://LOCALHOST./", true),
            ("http://a.localhost/", true),
            ("http://notlocalhost/", false),
            ("http://localhost.example/", false),
            ("http://[64:ff9b::7f00:1]/", false),
            ("http://0.0.0.0/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), is, "{url}");
        }
    }
}
