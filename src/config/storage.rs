//! The hosts of object storage that a unified mount may contact, for results and for input files.

use std::sync::Arc;

use super::BaseUrl;
use super::base_url::base_url;
use super::reader::{ConfigReader, Located, ValueFault};
use crate::dashscope::pattern::matches;

/// One entry of `storage.hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageHost {
    /// A pattern of host names. Only TLS at port 443 and public addresses are allowed.
    Pattern(Box<str>),
    /// Exactly this scheme, host and port. Private addresses are allowed, as the operator named the origin.
    Origin(BaseUrl),
}

impl StorageHost {
    /// Tells whether the entry allows a URL with this scheme, host (in lower case) and port.
    pub fn allows(&self, tls: bool, host: &str, port: u16) -> bool {
        match self {
            StorageHost::Pattern(pattern) => tls && port == 443 && matches(pattern, host),
            StorageHost::Origin(origin) => {
                (tls, host, port) == (origin.tls, origin.host.as_str(), origin.port)
            }
        }
    }
}

/// Default hosts: DashScope's own buckets, and its buckets behind transfer acceleration.
pub(super) fn usual() -> Arc<[StorageHost]> {
    USUAL.iter().map(|pattern| StorageHost::Pattern((*pattern).into())).collect()
}

pub(super) fn check(reader: &ConfigReader<'_>, hosts: &[Located<String>]) -> Option<Arc<[StorageHost]>> {
    // All hosts are read, so that all faults are found.
    let checked: Vec<_> = hosts.iter().map(|written| reader.check(written, host)).collect();
    checked.into_iter().collect()
}

fn host(text: &str) -> Result<StorageHost, ValueFault> {
    let hint =
        "write a host like \"dashscope-*.oss-*.aliyuncs.com\", or an origin like \"http://127.0.0.1:8091\"";
    if text.contains("://") {
        let origin = base_url(text)?;
        return if origin.path.is_empty() {
            Ok(StorageHost::Origin(origin))
        } else {
            Err(ValueFault::new("has a path", hint))
        };
    }
    host_pattern(text).map(StorageHost::Pattern).ok_or_else(|| {
        ValueFault::new("is not the name of a host, in lower case and with a domain behind its last *", hint)
    })
}

/// Reads the name of a host, in lower case, or a pattern with `*`; `None` for any other text.
pub(super) fn host_pattern(text: &str) -> Option<Box<str>> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*".contains(&byte);
    // A pattern with a star must end in a domain: anybody may own hosts under `*` or `*.com`.
    let fixed = text.rsplit('*').next().unwrap_or_default().trim_matches('.');
    let is_bounded = !text.contains('*') || fixed.contains('.');
    (!text.is_empty() && text.bytes().all(fine) && is_bounded).then(|| text.into())
}

const USUAL: [&str; 2] = ["dashscope-*.oss-*.aliyuncs.com", "*.oss-accelerate.aliyuncs.com"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alibabas_hosts_are_allowed_and_nothing_that_looks_like_them() {
        let usual = usual();
        let allows = |tls, name: &str, port| usual.iter().any(|host| host.allows(tls, name, port));
        for host in [
            "dashscope-result-bj.oss-cn-beijing.aliyuncs.com",
            "dashscope-result-sh.oss-accelerate.aliyuncs.com",
            "dashscope-a717.oss-accelerate.aliyuncs.com",
            "dashscope-file-mgr.oss-cn-beijing.aliyuncs.com",
            "dashscope-result-sgp.oss-ap-southeast-1.aliyuncs.com",
        ] {
            assert!(allows(true, host, 443), "{host}");
            assert!(!allows(false, host, 80) && !allows(true, host, 8443), "{host}");
        }
        for host in [
            "localhost",
            "169.254.169.254",
            "evil.example.com",
            "dashscope-x.oss-y.aliyuncs.com.example.com",
            "oss-accelerate.aliyuncs.com.example.com",
            "mybucket.oss-cn-beijing.aliyuncs.com",
        ] {
            assert!(!allows(true, host, 443), "{host}");
        }
    }

    #[test]
    fn an_origin_is_allowed_to_the_letter() {
        let origin = host("http://127.0.0.1:8091").unwrap_or(StorageHost::Pattern("".into()));
        assert!(origin.allows(false, "127.0.0.1", 8091));
        for (tls, name, port) in
            [(true, "127.0.0.1", 8091), (false, "127.0.0.1", 80), (false, "localhost", 8091)]
        {
            assert!(!origin.allows(tls, name, port));
        }
    }

    #[test]
    fn what_anybody_may_have_is_no_host() {
        for text in
            ["", "*", "*.com", "a*", "A.example.com", "a.example.com/x", "a.example.com:443", "http://h/p"]
        {
            assert!(host(text).is_err(), "{text}");
        }
        assert!(host("*.example.com").is_ok() && host("files.internal").is_ok());
    }
}
