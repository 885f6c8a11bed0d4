//! Lists of networks.

use super::reader::{ConfigReader, Text, ValueFault};
use crate::net::networks::{Network, NetworkFault, Networks};

/// The networks of proxies that may say who the client is.
pub(super) fn trusted_proxies(reader: &ConfigReader<'_>, written: &[Text]) -> Networks {
    written.iter().filter_map(|text| reader.check(text, proxies)).collect()
}

fn proxies(text: &str) -> Result<Network, ValueFault> {
    let network = network(text)?;
    if network.holds_all() {
        return Err(ValueFault::new(
            "trusts every client to say who it is",
            "name only the networks of your own proxies, like \"10.0.0.0/8\"",
        ));
    }
    Ok(network)
}

fn network(text: &str) -> Result<Network, ValueFault> {
    let hint = "write it like \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.1\"";
    text.parse().map_err(|fault| match fault {
        NetworkFault::Unreadable => ValueFault::new("is not a network of IP addresses", hint),
        NetworkFault::BitsBehindPrefix => {
            ValueFault::new("is an address inside a network, with the length of the network's prefix", hint)
        }
    })
}
