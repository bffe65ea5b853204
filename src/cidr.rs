//! Sets of CIDR ranges.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// CIDR ranges in their original order and spelling.
///
/// IPv4-mapped IPv6 addresses (`::ffff:192.0.2.1`) are treated as IPv4, in the ranges and in the addresses to match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CidrSet {
    texts: Box<[Box<str>]>,
    ranges: Box<[IpNet]>,
}

/// A text that is not a CIDR range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range; write it as address/length, for example 192.0.2.0/24")]
pub struct CidrError(String);

impl CidrSet {
    /// Parses ranges such as `10.0.0.0/8` or `2001:db8::/32`. Host bits may be set. An address without a prefix length is an
    /// error.
    ///
    /// # Errors
    /// [`CidrError`] for the first text that is not a CIDR range.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, CidrError> {
        let ranges = texts.iter().map(|text| parse_range(text.as_ref())).collect::<Result<_, _>>()?;
        let texts = texts.iter().map(|text| text.as_ref().into()).collect();
        Ok(Self { texts, ranges })
    }

    /// Whether the set has no ranges. Callers treat an empty set as no restriction.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a range contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// The ranges in their original spelling.
    pub fn texts(&self) -> &[Box<str>] {
        &self.texts
    }
}

/// The addresses that one client usually controls: an IPv4 address, or the /64 network of an IPv6 address. IPv4 in IPv6 is IPv4.
pub fn client_network(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = u128::MAX << 64;
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

fn parse_range(text: &str) -> Result<IpNet, CidrError> {
    let range: IpNet = text.parse().map_err(|_| CidrError(text.to_owned()))?;
    Ok(match range {
        IpNet::V6(v6) => unmap(v6).map_or(IpNet::V6(v6), IpNet::V4),
        IpNet::V4(v4) => IpNet::V4(v4),
    })
}

fn unmap(range: Ipv6Net) -> Option<Ipv4Net> {
    let mapped: Ipv6Addr = range.addr();
    let length = range.prefix_len().checked_sub(96)?;
    Ipv4Net::new(mapped.to_ipv4_mapped()?, length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> CidrSet {
        CidrSet::parse(texts).unwrap()
    }

    #[test]
    fn addresses_are_matched_against_ranges() {
        let set = set(&["10.1.2.3/8", "2001:db8::/32", "::ffff:192.0.2.0/120"]);
        for (address, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("::ffff:10.0.0.1", true),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("192.0.2.77", true),
            ("192.0.3.1", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert_eq!(&*set.texts()[0], "10.1.2.3/8");
    }

    #[test]
    fn client_is_an_ipv4_address_or_an_ipv6_network() {
        for (address, client) in
            [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:0:1:ffff::2", "2001:db8:0:1::")]
        {
            assert_eq!(client_network(address.parse().unwrap()), client.parse::<IpAddr>().unwrap(), "{address}");
        }
    }

    #[test]
    fn malformed_ranges_are_rejected() {
        for text in ["10.0.0.1", "10.0.0.0/33", "", "a/8", "10.0.0.0/8 "] {
            assert!(CidrSet::parse(&[text]).is_err(), "{text}");
        }
    }
}
