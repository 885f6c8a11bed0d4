//! Lists of networks.

use super::reader::{ConfigReader, Located, Text, ValueFault};
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

/// The networks from where a key is good.
pub(super) fn addresses(reader: &ConfigReader<'_>, written: &Option<Located<Vec<Text>>>) -> Option<Networks> {
    let Some(written) = written else { return Some(Networks::default()) };
    if written.value.is_empty() {
        reader.fault(&written.location, "is empty", "leave it out to allow all addresses");
        return None;
    }
    // All networks are read, so that all faults are found.
    let checked: Vec<_> = written.value.iter().map(|text| reader.check(text, network)).collect();
    checked.into_iter().collect()
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
