//! Settings of the exporter, from the environment variables of OpenTelemetry's specification.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;

use crate::net::authority;
use crate::net::egress_proxy::{EgressProxy, EnvironmentProxies};
use crate::net::{Identity, ServerTls, client_config};

/// Settings of the exporter.
#[derive(Clone)]
pub struct ExporterSettings {
    pub(super) authority: String,
    pub(super) host: HeaderValue,
    pub(super) path: Uri,
    pub(super) tls: Option<ServerTls>,
    pub(super) proxy: Option<Arc<EgressProxy>>,
    /// Header fields, which may hold the collector's credentials.
    pub(super) headers: HeaderMap,
    pub(super) gzip: bool,
    /// Time for one batch, repeats included.
    pub(super) timeout: Duration,
    /// Time that a span waits for others.
    pub(super) delay: Duration,
    /// Most exchanges whose spans wait.
    pub(super) most_waiting: usize,
    /// Number of spans at which a batch is full; the last exchange of a batch may exceed it.
    pub(super) most_per_batch: usize,
    pub(super) resource: Vec<(String, String)>,
    pub(super) sampler: Sampler,
}

/// A variable that can't be followed. The problem never shows its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFault {
    pub variable: &'static str,
    pub problem: String,
}

/// Choice of the traces that are exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    /// Share of the traces that start here, and of all traces if callers don't decide.
    ratio: f64,
    /// True if the decision of a caller holds here, too.
    follows_parent: bool,
}

impl Sampler {
    pub(super) fn samples(&self, parent: Option<bool>, trace_id: &[u8; 16]) -> bool {
        match parent {
            Some(sampled) if self.follows_parent => sampled,
            Some(_) | None => {
                let [.., a, b, c, d, e, f, g, h] = *trace_id;
                let drawn = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
                drawn < (self.ratio * (1u64 << 63) as f64) as u64
            }
        }
    }
}

/// Reads a variable of the environment.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl ExporterSettings {
    /// Reads the settings; `None` if no spans are asked for. A variable that can't be followed is left out or, if spans
    /// would go to a wrong place, turns spans off. Each has a fault to report.
    pub fn from_environment(environment: Environment<'_>) -> (Option<Self>, Vec<SettingFault>) {
        let read = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let mut reading = EnvironmentReader { read: &read, faults: Vec::new() };
        let settings = reading.settings();
        (settings, reading.faults)
    }
}

impl fmt::Debug for ExporterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExporterSettings").field("authority", &self.authority).finish_non_exhaustive()
    }
}

struct EnvironmentReader<'a> {
    read: Environment<'a>,
    faults: Vec<SettingFault>,
}

impl EnvironmentReader<'_> {
    fn settings(&mut self) -> Option<ExporterSettings> {
        let is_off = |value: String| value.trim().eq_ignore_ascii_case("true");
        if (self.read)("OTEL_SDK_DISABLED").is_some_and(is_off) {
            return None;
        }
        let (variable, url) = self.endpoint()?;
        if !self.is_otlp() {
            return None;
        }
        let (authority, host, path, host_name) = self.parts(variable, &url)?;
        // Variables that can't be followed are reported with the configuration.
        let (proxies, _) = EnvironmentProxies::new(self.read);
        let proxy = authority::split(&authority)
            .and_then(|(host, port)| proxies.of(host_name.is_some(), host, port?).cloned());
        let tls = match host_name {
            None => None,
            Some(name) => Some(self.tls(variable, name)?),
        };
        Some(ExporterSettings {
            authority,
            host,
            path,
            tls,
            proxy,
            headers: self.headers(),
            gzip: self.is_gzip(),
            timeout: self
                .milliseconds(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"], 10_000),
            delay: self.milliseconds(["OTEL_BSP_SCHEDULE_DELAY"; 2], 5_000),
            most_waiting: self.count("OTEL_BSP_MAX_QUEUE_SIZE", 2_048),
            most_per_batch: self.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
            resource: self.resource(),
            sampler: self.sampler(),
        })
    }

    fn fault<T>(&mut self, variable: &'static str, problem: impl Into<String>) -> Option<T> {
        self.faults.push(SettingFault { variable, problem: problem.into() });
        None
    }

    /// Name and value of the first variable that is set.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, String)> {
        names.into_iter().find_map(|name| Some((name, (self.read)(name)?)))
    }

    fn endpoint(&self) -> Option<(&'static str, String)> {
        let traces_endpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        if let Some(url) = (self.read)(traces_endpoint) {
            return Some((traces_endpoint, url));
        }
        let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let url = (self.read)(endpoint)?;
        Some((endpoint, format!("{}/v1/traces", url.trim().trim_end_matches('/'))))
    }

    fn is_otlp(&mut self) -> bool {
        if let Some(exporter) = (self.read)("OTEL_TRACES_EXPORTER").filter(|name| name.trim() != "otlp") {
            if exporter.trim() != "none" {
                self.fault::<()>(
                    "OTEL_TRACES_EXPORTER",
                    "only `otlp` and `none` are known: no spans are sent",
                );
            }
            return false;
        }
        let protocol = self.first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        match protocol.filter(|(_, name)| name.trim() != "http/protobuf") {
            None => true,
            Some((variable, _)) => {
                let problem = "only http/protobuf is spoken, usually on port 4318: no spans are sent";
                self.fault::<()>(variable, problem);
                false
            }
        }
    }

    /// Splits a URL into `host:port`, the `Host` field, the path and, for TLS, the name of the host.
    fn parts(
        &mut self,
        variable: &'static str,
        url: &str,
    ) -> Option<(String, HeaderValue, Uri, Option<String>)> {
        let parse = || {
            let uri = url.trim().parse::<Uri>().ok()?;
            let usual = match uri.scheme_str()? {
                "http" => 80,
                "https" => 443,
                _ => return None,
            };
            let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
            let host = authority.host();
            let path = uri.path_and_query()?.as_str().parse().ok()?;
            let name = (usual == 443).then(|| host.trim_matches(['[', ']']).to_owned());
            let field = HeaderValue::from_str(authority.as_str()).ok()?;
            Some((format!("{host}:{}", authority.port_u16().unwrap_or(usual)), field, path, name))
        };
        match parse() {
            Some(parts) => Some(parts),
            None => self.fault(variable, "must be a URL like http://collector:4318: no spans are sent"),
        }
    }

    fn tls(&mut self, endpoint: &'static str, name: String) -> Option<ServerTls> {
        let ca = self.file(["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"])?;
        let certificate = self.file(CLIENT_CERTIFICATE)?;
        let key = self.file(CLIENT_KEY)?;
        let identity = match (&certificate, &key) {
            (Some((_, certificate)), Some((_, key))) => Some(Identity { certificate, key }),
            (None, None) => None,
            (Some((given, _)), None) | (None, Some((given, _))) => {
                let other = if certificate.is_none() { CLIENT_CERTIFICATE[1] } else { CLIENT_KEY[1] };
                return self
                    .fault(given, format!("{other} is not set, and one needs the other: no spans are sent"));
            }
        };
        let ca_pem = ca.as_ref().map(|(_, pem)| pem.as_slice());
        // Without the identity, only the authorities can be at fault.
        let checked = client_config(ca_pem, None).map_err(|error| (ca.as_ref(), error));
        let config = checked.and_then(|plain| match identity {
            None => Ok(plain),
            Some(_) => client_config(ca_pem, identity).map_err(|error| (certificate.as_ref(), error)),
        });
        let config = match config {
            Ok(config) => config,
            Err((file, error)) => {
                let variable = file.map_or(endpoint, |(variable, _)| *variable);
                return self.fault(variable, format!("{error}: no spans are sent"));
            }
        };
        match ServerName::try_from(name) {
            Ok(name) => Some((config, name)),
            Err(_) => self.fault(endpoint, "names no host: no spans are sent"),
        }
    }

    /// Reads a file, with the variable that names it: `Some(None)` if none does, `None` if it can't be read.
    #[expect(clippy::option_option, reason = "no file and no readable file are two things")]
    fn file(&mut self, names: [&'static str; 2]) -> Option<Option<(&'static str, Vec<u8>)>> {
        let Some((variable, path)) = self.first(names) else { return Some(None) };
        match std::fs::read(path.trim()) {
            Ok(bytes) => Some(Some((variable, bytes))),
            Err(error) => self.fault(variable, format!("{error}: no spans are sent")),
        }
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
        let Some((variable, text)) = self.first(names) else { return headers };
        for (name, value) in pairs(&text) {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.append(name, value);
                }
                _ => {
                    self.fault::<()>(variable, "must be like name=value,name=value");
                }
            }
        }
        headers
    }

    fn is_gzip(&mut self) -> bool {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        let Some((variable, name)) = self.first(names) else { return false };
        match name.trim() {
            "gzip" => true,
            "none" => false,
            _ => {
                self.fault::<()>(variable, "must be gzip or none: it is taken for none");
                false
            }
        }
    }

    fn milliseconds(&mut self, names: [&'static str; 2], usual: u64) -> Duration {
        let Some((variable, text)) = self.first(names) else { return Duration::from_millis(usual) };
        let number = text.trim().parse().ok().filter(|number| *number <= MOST_MILLISECONDS);
        let number = number.or_else(|| self.fault(variable, format!("must be milliseconds: it is {usual}")));
        Duration::from_millis(number.unwrap_or(usual))
    }

    fn count(&mut self, variable: &'static str, usual: usize) -> usize {
        let Some(text) = (self.read)(variable) else { return usual };
        let number = text.trim().parse().ok().filter(|number| (1..=MOST_WAITING).contains(number));
        let problem = || format!("must be a number from 1 to {MOST_WAITING}: it is {usual}");
        number.or_else(|| self.fault(variable, problem())).unwrap_or(usual)
    }

    /// Attributes of the resource. `OTEL_SERVICE_NAME` wins over `OTEL_RESOURCE_ATTRIBUTES`, which wins over defaults.
    fn resource(&self) -> Vec<(String, String)> {
        let mut attributes = vec![
            ("service.name".to_owned(), "dashgate".to_owned()),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let listed = (self.read)("OTEL_RESOURCE_ATTRIBUTES");
        let named = (self.read)("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name));
        for (key, value) in listed.as_deref().map(pairs).into_iter().flatten().chain(named) {
            attributes.retain(|(known, _)| *known != key);
            attributes.push((key, value));
        }
        attributes
    }

    fn sampler(&mut self) -> Sampler {
        let variable = "OTEL_TRACES_SAMPLER";
        let name = (self.read)(variable).unwrap_or_else(|| "parentbased_always_on".to_owned());
        let (follows_parent, root) = match name.trim().strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name.trim()),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => self.ratio(),
            _ => {
                self.fault::<()>(variable, "is none of those known: it is parentbased_always_on");
                return Sampler { ratio: 1.0, follows_parent: true };
            }
        };
        Sampler { ratio, follows_parent }
    }

    fn ratio(&mut self) -> f64 {
        let variable = "OTEL_TRACES_SAMPLER_ARG";
        let Some(text) = (self.read)(variable) else { return 1.0 };
        let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.or_else(|| self.fault(variable, "must be from 0 to 1: it is 1")).unwrap_or(1.0)
    }
}

/// Splits `name=value,name=value`, and percent-decodes the values.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(',').filter(|pair| !pair.trim().is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value.trim()).decode_utf8_lossy().into_owned();
        (name.trim().to_owned(), value)
    })
}

/// The variable for traces, and the one for all signals.
const CLIENT_CERTIFICATE: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
const CLIENT_KEY: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];
const MOST_WAITING: usize = 1_000_000;
const MOST_MILLISECONDS: u64 = 3_600_000;

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
