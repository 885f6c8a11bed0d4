//! Egress proxies: the key `proxy` of an account, and the variables of the environment.

use std::sync::Arc;

use super::fault::Fault;
use super::interpolate::Environment;
use super::reader::ValueFault;
use super::{BaseUrl, Secret};
use crate::net::egress_proxy::{EgressProxy, EnvironmentProxies};

/// Value of an account's `proxy`: `None` for `none`, which stands for no proxy whatever the environment says.
pub(super) fn proxy(written: &Secret) -> Result<Option<Arc<EgressProxy>>, ValueFault> {
    match written.expose() {
        "none" => Ok(None),
        url => EgressProxy::parse(url).map(|proxy| Some(Arc::new(proxy))).map_err(|problem| {
            let hint = "write it like \"http://proxy:3128\", with user:password@ before the host where it asks \
                        for them; \"none\" is no proxy, also if HTTPS_PROXY names one";
            ValueFault::new(problem, hint)
        }),
    }
}

/// The proxies that the environment names, and a warning for each variable that is not followed.
pub(super) fn of_environment(environment: Environment<'_>) -> (Arc<EnvironmentProxies>, Vec<Fault>) {
    let (proxies, faults) = EnvironmentProxies::new(environment);
    let hint = "it is not followed; write it like http://proxy:3128, or set `proxy` of each account";
    let warnings = faults.into_iter().map(|fault| Fault::elsewhere(fault.variable, fault.problem, hint));
    (Arc::new(proxies), warnings.collect())
}

impl BaseUrl {
    /// The proxy that the environment names for this URL.
    pub(super) fn proxy_of(&self, proxies: &EnvironmentProxies) -> Option<Arc<EgressProxy>> {
        proxies.of(self.tls, &self.host, self.port).cloned()
    }
}
