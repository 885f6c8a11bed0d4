//! The proxies that the environment names: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not.
//!
//! hyper-util has a matcher for these, too. It drops a value that it can't read without a word, and knows no ports.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::EgressProxy;
use crate::net::{authority, site};

/// Proxies by the scheme of the target, and the targets that need none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentProxies {
    https: Option<Arc<EgressProxy>>,
    http: Option<Arc<EgressProxy>>,
    no: Vec<Exclusion>,
}

/// A variable that is not followed. The problem never shows its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyVariableFault {
    pub variable: &'static str,
    pub problem: &'static str,
}

impl EnvironmentProxies {
    /// Reads the variables. One that can't be followed is left out, and has a fault to report.
    pub fn new(environment: &dyn Fn(&str) -> Option<String>) -> (Self, Vec<ProxyVariableFault>) {
        let mut faults: Vec<ProxyVariableFault> = Vec::new();
        let read = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                let value = environment(name)?.trim().to_owned();
                (!value.is_empty()).then_some((*name, value))
            })
        };
        let mut proxy = |names: &[&'static str]| {
            let (variable, value) = read(names)?;
            let url = if value.contains("://") { value } else { format!("http://{value}") };
            let parsed = EgressProxy::parse(&url).map_err(|problem| ProxyVariableFault { variable, problem });
            match parsed {
                Ok(proxy) => Some(Arc::new(proxy)),
                Err(fault) if faults.contains(&fault) => None,
                Err(fault) => {
                    faults.push(fault);
                    None
                }
            }
        };
        let https = proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let http = proxy(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]);
        let (variable, listed) = read(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let mut no = Vec::new();
        for entry in listed.split([',', ' ']).filter(|entry| !entry.is_empty()) {
            match Exclusion::parse(entry) {
                Some(exclusion) => no.push(exclusion),
                None => {
                    let problem = "has an entry that is no host, domain or network";
                    faults.push(ProxyVariableFault { variable, problem });
                }
            }
        }
        (Self { https, http, no }, faults)
    }

    /// The proxy for connections to a host; `None` if there is none, if the host is listed in `NO_PROXY`, or if it is
    /// this machine.
    pub fn of(&self, tls: bool, host: &str, port: u16) -> Option<&Arc<EgressProxy>> {
        let proxy = if tls { &self.https } else { &self.http }.as_ref()?;
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let ip = host.parse::<IpAddr>().ok();
        let is_here = site::is_this_machine(authority::join(&host, port).as_bytes());
        let is_listed = || self.no.iter().any(|entry| entry.fits(&host, ip, port));
        (!is_here && !is_listed()).then_some(proxy)
    }
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exclusion {
    All,
    Network(IpNet),
    /// A host and all hosts below it, at one port or any.
    Domain(Box<str>, Option<u16>),
    Address(IpAddr, Option<u16>),
}

impl Exclusion {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Exclusion::All);
        }
        if entry.contains('/') {
            return entry.parse().ok().map(Exclusion::Network);
        }
        if let Ok(ip) = entry.parse() {
            return Some(Exclusion::Address(ip, None));
        }
        let entry = entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry);
        let (host, port) = authority::split(entry.strip_prefix('.').unwrap_or(entry))?;
        Some(match host.parse() {
            Ok(ip) => Exclusion::Address(ip, port),
            Err(_) => Exclusion::Domain(host.trim_end_matches('.').to_ascii_lowercase().into(), port),
        })
    }

    /// Tells whether the entry names the host, which is in lower case; `ip` if it is an address.
    fn fits(&self, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
        let is_at = |listed: &Option<u16>| listed.is_none_or(|listed| listed == port);
        match self {
            Exclusion::All => true,
            Exclusion::Network(network) => ip.is_some_and(|ip| network.contains(&ip)),
            Exclusion::Address(listed, at) => ip == Some(*listed) && is_at(at),
            Exclusion::Domain(domain, at) => {
                let below = host.strip_suffix(&**domain);
                ip.is_none()
                    && is_at(at)
                    && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> (EnvironmentProxies, Vec<&'static str>) {
        let environment = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let (proxies, faults) = EnvironmentProxies::new(&environment);
        (proxies, faults.into_iter().map(|fault| fault.variable).collect())
    }

    #[test]
    fn the_scheme_of_the_target_decides() {
        let of = |variables: &[(&str, &str)]| {
            let (proxies, faults) = proxies(variables);
            assert!(faults.is_empty(), "{faults:?}");
            [true, false].map(|tls| proxies.of(tls, "dashscope.aliyuncs.com", 443).map(ToString::to_string))
        };
        let to = |proxy: &str| Some(proxy.to_owned());
        assert_eq!(of(&[]), [None, None]);
        assert_eq!(of(&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://b:1")]), [to("a:1"), None]);
        assert_eq!(of(&[("HTTPS_PROXY", " "), ("https_proxy", "b:1")]), [to("b:1"), None]);
        assert_eq!(of(&[("http_proxy", "http://h"), ("ALL_PROXY", "x:2")]), [to("x:2"), to("h:80")]);
    }

    #[test]
    fn no_proxy_lists_hosts_domains_networks_and_ports() {
        let listed = "internal.example, .corp.example,*.star.example 10.0.0.0/8,192.0.2.7,fd00::/8,Host:8443,[2001:db8::1]:444";
        let (proxies, faults) = proxies(&[("ALL_PROXY", "http://p"), ("no_proxy", listed)]);
        assert!(faults.is_empty(), "{faults:?}");
        let direct = |host: &str, port| proxies.of(true, host, port).is_none();
        for (host, port) in [
            ("internal.example", 443),
            ("a.Internal.example.", 443),
            ("corp.example", 443),
            ("a.corp.example", 1),
            ("a.star.example", 443),
            ("10.1.2.3", 443),
            ("192.0.2.7", 443),
            ("fd12::1", 443),
            ("host", 8443),
            ("2001:db8::1", 444),
            ("localhost", 443),
            ("a.localhost", 443),
            ("127.8.0.1", 443),
            ("::1", 443),
        ] {
            assert!(direct(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("notinternal.example", 443),
            ("internal.example.org", 443),
            ("11.0.0.1", 443),
            ("192.0.2.8", 443),
            ("host", 443),
            ("2001:db8::1", 443),
            ("dashscope.aliyuncs.com", 443),
        ] {
            assert!(!direct(host, port), "{host}:{port}");
        }
    }

    #[test]
    fn a_star_is_every_host() {
        let (proxies, _) = proxies(&[("HTTPS_PROXY", "http://p"), ("NO_PROXY", "*")]);
        assert!(
            ["dashscope.aliyuncs.com", "8.8.8.8"].iter().all(|host| proxies.of(true, host, 443).is_none())
        );
    }

    #[test]
    fn what_can_t_be_followed_is_reported_once() {
        let (found, faults) =
            proxies(&[("all_proxy", "socks5://p:1080"), ("NO_PROXY", "10.0.0.0/99,a.example")]);
        assert_eq!(faults, ["all_proxy", "NO_PROXY"]);
        assert!(found.of(true, "dashscope.aliyuncs.com", 443).is_none() && found.no.len() == 1);
    }
}
