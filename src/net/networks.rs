//! Networks of IP addresses, as an operator writes them: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// All addresses that begin with the same bits. IPv4 written inside IPv6, like `::ffff:192.0.2.0/120`, is IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u32,
}

/// Networks of one setting. Clones share the list. As text, they have commas between them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Networks(Arc<[Network]>);

/// Why a text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFault {
    /// The text is not an address, with or without a prefix length.
    Unreadable,
    /// The address has bits set behind its prefix; with the network that was most likely meant.
    BitsBehindPrefix,
}

impl Network {
    /// True if the address is in the network. IPv4 inside IPv6 is taken for IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix_bits) == self.first
    }

    /// True if every address of its kind is in the network.
    pub fn holds_all(&self) -> bool {
        self.prefix_bits == 0
    }
}

impl FromStr for Network {
    type Err = NetworkFault;

    /// # Errors
    /// `Unreadable`, and `BitsBehindPrefix` for a text like `10.0.0.1/8`.
    fn from_str(text: &str) -> Result<Self, NetworkFault> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NetworkFault::Unreadable)?;
        let most = bits(written);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_bits = match prefix {
            None => Some(most),
            Some(text) => is_number(text).then(|| text.parse().ok()).flatten().filter(|bits| *bits <= most),
        };
        let prefix_bits = prefix_bits.ok_or(NetworkFault::Unreadable)?;
        if masked(written, prefix_bits) != written {
            return Err(NetworkFault::BitsBehindPrefix);
        }
        let first = written.to_canonical();
        Ok(match prefix_bits.checked_sub(most - bits(first)) {
            Some(prefix_bits) => Self { first, prefix_bits },
            // The network holds more than the IPv4 addresses inside IPv6.
            None => Self { first: written, prefix_bits },
        })
    }
}

impl Networks {
    /// True if one of the networks holds the address.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Networks {
    /// Each network by itself.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.0.iter()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, prefix_bits } = self;
        if *prefix_bits == bits(*first) { write!(f, "{first}") } else { write!(f, "{first}/{prefix_bits}") }
    }
}

impl FromStr for Networks {
    type Err = NetworkFault;

    /// # Errors
    /// The fault of the first network that can't be read.
    fn from_str(text: &str) -> Result<Self, NetworkFault> {
        text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse).collect()
    }
}

impl TryFrom<String> for Networks {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse().map_err(|_| "not networks of IP addresses")
    }
}

impl From<Networks> for String {
    fn from(networks: Networks) -> Self {
        networks.0.iter().map(Network::to_string).collect::<Vec<_>>().join(",")
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// Length of an address of this kind.
fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => Ipv4Addr::BITS,
        IpAddr::V6(_) => Ipv6Addr::BITS,
    }
}

/// The address with all bits behind the first `prefix_bits` cleared.
fn masked(address: IpAddr, prefix_bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let host_bits = Ipv4Addr::BITS.saturating_sub(prefix_bits);
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let host_bits = Ipv6Addr::BITS.saturating_sub(prefix_bits);
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network: Network = network.parse().expect("a network");
        network.contains(address.parse().expect("an address"))
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.200", "192.0.2.127"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.1", "11.0.0.1"),
        ] {
            assert!(contains(network, inside), "{inside} in {network}");
            assert!(!contains(network, outside), "{outside} not in {network}");
        }
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        let text = "10.0.0.0/8, 192.0.2.1,2001:db8::/32,::ffff:10.0.0.0/104";
        let networks: Networks = text.parse().expect("networks");
        assert_eq!(String::from(networks.clone()), "10.0.0.0/8,192.0.2.1,2001:db8::/32,10.0.0.0/8");
        assert_eq!(String::from(networks.clone()).parse(), Ok(networks));
        assert!("".parse::<Networks>().is_ok_and(|none| none.is_empty()));
    }

    #[test]
    fn faulty_texts_are_refused() {
        for text in
            ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "10.0.0/8", "a.example", "*"]
        {
            assert_eq!(text.parse::<Network>(), Err(NetworkFault::Unreadable), "{text}");
        }
        for text in ["10.0.0.1/8", "2001:db8::1/32", "192.0.2.1/0"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkFault::BitsBehindPrefix), "{text}");
        }
    }
}
