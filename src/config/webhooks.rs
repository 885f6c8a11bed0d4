//! Webhooks of a tenant: endpoints that are told of its events, and hosts that a submit may name an address at.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strum::VariantArray;

use super::Secret;
use super::node::{Node, Table, nearest};
use super::reader::{ConfigReader, Located, Location, Text, ValueFault};
use super::secret::secret;
use super::storage::host_pattern;
use super::unique::UniqueValues;
use super::webhook_url::WebhookUrl;
use crate::dashscope::pattern::matches;

/// An endpoint of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookEndpoint {
    pub url: WebhookUrl,
    /// At least one. Each signs, so that a receiver may change from one to another.
    pub secrets: Vec<WebhookSecret>,
    /// Names of event types, or patterns with `*`; at least one.
    pub events: Vec<String>,
    /// A task's end is told with the `output` of its answer.
    pub includes_output: bool,
    /// The operator lets it have any address, and speak cleartext.
    pub is_private: bool,
}

/// Webhooks of a tenant as checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WebhookSettings {
    pub endpoints: Arc<[WebhookEndpoint]>,
    /// Hosts, in lower case, that the address of a submit may have; names or patterns with `*`.
    pub hosts: Arc<[Box<str>]>,
}

/// A secret that signs deliveries: 24 to 64 bytes. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Box<[u8]>);

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub enum EventType {
    TaskSucceeded,
    TaskFailed,
    TaskCanceled,
    /// DashScope forgot the task before it told an end.
    TaskLost,
    /// 80 % of a budget is used.
    BudgetWarning,
    BudgetSpent,
    KeyExpiring,
    /// The operator tries the endpoints.
    WebhookTest,
}

impl WebhookEndpoint {
    /// True if the endpoint is told of events of this type. All are told of tests.
    pub fn wants(&self, event: EventType) -> bool {
        event == EventType::WebhookTest || self.events.iter().any(|pattern| matches(pattern, event.name()))
    }
}

impl WebhookSettings {
    /// Checks the address that a submit names.
    ///
    /// # Errors
    /// The problem, for the client.
    pub fn own_address(&self, text: &str) -> Result<WebhookUrl, &'static str> {
        if self.hosts.is_empty() {
            return Err("its tenant has no webhook_hosts, so it may not name an x-dashgate-webhook");
        }
        let url = WebhookUrl::parse(text).map_err(|_| "its x-dashgate-webhook is no plain URL")?;
        if !url.tls || url.port != 443 {
            return Err(
                "its x-dashgate-webhook does not begin with https://, or names another port than 443",
            );
        }
        if url.is_surely_inside() {
            return Err("its x-dashgate-webhook has an address that is not public");
        }
        if self.hosts.iter().any(|pattern| matches(pattern, &url.host)) {
            Ok(url)
        } else {
            Err("its x-dashgate-webhook is at a host that is not in its tenant's webhook_hosts")
        }
    }
}

impl WebhookSecret {
    /// Reads `whsec_` and the bytes in base64.
    fn parse(text: &str) -> Result<Self, ValueFault> {
        let hint = "make one with: echo whsec_$(openssl rand -base64 32)";
        let Some(coded) = text.strip_prefix("whsec_") else {
            return Err(ValueFault::new("does not begin with whsec_", hint));
        };
        let bytes =
            STANDARD.decode(coded).map_err(|_| ValueFault::new("is not base64 behind its whsec_", hint))?;
        if (SHORTEST_SECRET..=LONGEST_SECRET).contains(&bytes.len()) {
            return Ok(Self(bytes.into()));
        }
        Err(ValueFault::new(format!("does not have {SHORTEST_SECRET} to {LONGEST_SECRET} bytes"), hint))
    }

    /// The bytes that sign.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl EventType {
    /// The name in payloads and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TaskSucceeded => "task.succeeded",
            Self::TaskFailed => "task.failed",
            Self::TaskCanceled => "task.canceled",
            Self::TaskLost => "task.lost",
            Self::BudgetWarning => "budget.warning",
            Self::BudgetSpent => "budget.spent",
            Self::KeyExpiring => "key.expiring",
            Self::WebhookTest => "webhook.test",
        }
    }
}

/// Webhooks of a tenant as written.
pub(super) struct RawWebhooks {
    endpoints: Vec<RawEndpoint>,
    hosts: Option<Located<Vec<Text>>>,
}

struct RawEndpoint {
    location: Location,
    url: Option<Text>,
    secrets: Option<Located<Vec<Located<Secret>>>>,
    events: Option<Located<Vec<Text>>>,
    include: Option<Text>,
    private: Option<Located<bool>>,
}

/// Reads `webhooks` and `webhook_hosts` of a tenant.
pub(super) fn read(tenant: &mut Table<'_>) -> RawWebhooks {
    let hint = "write it like webhooks = [{ url = \"https://...\", secrets = [\"${ACME_WEBHOOK_SECRET}\"] }]";
    let endpoints = tenant.field("webhooks").and_then(|node| node.items(hint)).unwrap_or_default();
    let endpoints = endpoints.iter().filter_map(|item| item.table(hint)).map(endpoint).collect();
    let hosts = tenant.field("webhook_hosts").and_then(|node| list(&node));
    RawWebhooks { endpoints, hosts }
}

fn endpoint(mut table: Table<'_>) -> RawEndpoint {
    let url = table.required("url", "for example url = \"https://acme.example/hooks\"");
    let secrets = table.required("secrets", "for example secrets = [\"${ACME_WEBHOOK_SECRET}\"]");
    let endpoint = RawEndpoint {
        location: table.location.clone(),
        url: url.and_then(|node| node.string("write a URL in quotes")),
        secrets: secrets.and_then(|node| {
            let items = node.items("write secrets between [ and ]")?;
            // All secrets are read, so that all faults are found.
            let value = items.iter().filter_map(secret).collect();
            Some(Located { value, location: node.location })
        }),
        events: table.field("events").and_then(|node| list(&node)),
        include: table.field("include").and_then(|node| node.string("\"none\" or \"output\"")),
        private: table.field("private").and_then(|node| node.boolean()),
    };
    table.finish();
    endpoint
}

fn list(node: &Node<'_>) -> Option<Located<Vec<Text>>> {
    let value = node.strings("write words in quotes between [ and ]")?;
    Some(Located { value, location: node.location.clone() })
}

/// Checks the webhooks of a tenant.
pub(super) fn check(reader: &ConfigReader<'_>, written: &RawWebhooks) -> Option<WebhookSettings> {
    let mut urls = UniqueValues::default();
    let checked: Vec<_> =
        written.endpoints.iter().map(|one| check_endpoint(reader, one, &mut urls)).collect();
    if let Some(first) = written.endpoints.get(MOST_ENDPOINTS) {
        let problem = format!("is one of more than {MOST_ENDPOINTS} endpoints of the tenant");
        reader.fault(&first.location, problem, "each event is sent to all of them: name fewer");
        return None;
    }
    let hosts = match &written.hosts {
        None => Vec::new(),
        Some(hosts) => {
            if written.endpoints.is_empty() && !hosts.value.is_empty() {
                let hint = "add `webhooks`, whose first endpoint's secrets sign what goes to these hosts";
                reader.fault(&hosts.location, "has no secret to sign with", hint);
            }
            let hosts: Vec<_> = hosts.value.iter().map(|text| reader.check(text, own_host)).collect();
            hosts.into_iter().collect::<Option<_>>()?
        }
    };
    Some(WebhookSettings { endpoints: checked.into_iter().collect::<Option<_>>()?, hosts: hosts.into() })
}

fn check_endpoint(
    reader: &ConfigReader<'_>,
    written: &RawEndpoint,
    urls: &mut UniqueValues<Arc<str>>,
) -> Option<WebhookEndpoint> {
    let is_private = written.private.as_ref().is_some_and(|private| private.value);
    let url = written.url.as_ref().and_then(|text| {
        let url = reader.check(text, |text: &str| endpoint_url(text, is_private))?;
        let hint = "one endpoint gets an event once; give it all secrets and events";
        urls.note(reader, Arc::clone(&url.text), &text.location, "is the same as", hint);
        Some(url)
    });
    let secrets = written.secrets.as_ref().and_then(|secrets| check_secrets(reader, secrets));
    let events = match &written.events {
        None => Some(vec!["*".to_owned()]),
        Some(events) if events.value.is_empty() => {
            reader.fault(&events.location, "is empty", "leave it out for all events");
            None
        }
        Some(events) => {
            // All patterns are read, so that all faults are found.
            let events: Vec<_> = events.value.iter().map(|text| reader.check(text, event_pattern)).collect();
            events.into_iter().collect()
        }
    };
    let includes_output = reader.setting(&written.include, include, false);
    Some(WebhookEndpoint { url: url?, secrets: secrets?, events: events?, includes_output, is_private })
}

fn check_secrets(
    reader: &ConfigReader<'_>,
    written: &Located<Vec<Located<Secret>>>,
) -> Option<Vec<WebhookSecret>> {
    if !(1..=MOST_SECRETS).contains(&written.value.len()) {
        let problem = format!("does not have 1 to {MOST_SECRETS} secrets");
        reader.fault(&written.location, problem, "two are enough to change from one to another");
        return None;
    }
    let mut once = UniqueValues::default();
    let secrets = written.value.iter().map(|text| {
        let secret = reader.check(text, |text: &Secret| WebhookSecret::parse(text.expose()))?;
        once.note(reader, secret.0.clone(), &text.location, "is the same as", "keep one of them");
        Some(secret)
    });
    secrets.collect::<Vec<_>>().into_iter().collect()
}

fn endpoint_url(text: &str, is_private: bool) -> Result<WebhookUrl, ValueFault> {
    let hint = "write it like \"https://acme.example/hooks\"";
    let url = WebhookUrl::parse(text).map_err(|problem| ValueFault::new(problem, hint))?;
    if is_private {
        return Ok(url);
    }
    if !url.tls {
        let hint = "write https://; or private = true, if it is reached over your own network";
        return Err(ValueFault::new("is not https://", hint));
    }
    if url.is_surely_inside() {
        let hint = "write private = true, if it is an endpoint of your own";
        return Err(ValueFault::new("has an address that is not public", hint));
    }
    Ok(url)
}

fn event_pattern(text: &str) -> Result<String, ValueFault> {
    let names: Vec<&'static str> = EventType::VARIANTS.iter().map(|event| event.name()).collect();
    if names.iter().any(|name| matches(text, name)) {
        return Ok(text.to_owned());
    }
    let hint = match nearest(text, &names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("known: {}; or a pattern like \"task.*\"", names.join(", ")),
    };
    Err(ValueFault::new("is no type of event", hint))
}

fn include(text: &str) -> Result<bool, ValueFault> {
    match text {
        "none" => Ok(false),
        "output" => Ok(true),
        _ => Err(ValueFault::new("is not known", "write \"none\" or \"output\"")),
    }
}

fn own_host(text: &str) -> Result<Box<str>, ValueFault> {
    host_pattern(text).ok_or_else(|| {
        ValueFault::new(
            "is not the name of a host, in lower case and with a domain behind its last *",
            "write a host like \"hooks.acme.example\" or \"*.acme.example\"",
        )
    })
}

/// Each event makes a delivery for each endpoint.
const MOST_ENDPOINTS: usize = 16;
/// Each secret makes a signature in the head.
const MOST_SECRETS: usize = 8;
/// Bounds of the specification, in bytes.
const SHORTEST_SECRET: usize = 24;
const LONGEST_SECRET: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_those_of_the_specification() {
        let coded = |length: usize| format!("whsec_{}", STANDARD.encode(vec![7; length]));
        for length in [24, 32, 64] {
            assert_eq!(WebhookSecret::parse(&coded(length)).map(|secret| secret.0.len()).ok(), Some(length));
        }
        for wrong in [&*coded(23), &coded(65), "whsec_", "whsec_!", &STANDARD.encode([7; 32])] {
            assert!(WebhookSecret::parse(wrong).is_err(), "{wrong}");
        }
        let secret = WebhookSecret::parse(&coded(24)).ok().expect("a secret");
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn patterns_name_events_that_there_are() {
        for fine in ["*", "task.*", "task.succeeded", "*.spent", "key.expiring"] {
            assert!(event_pattern(fine).is_ok(), "{fine}");
        }
        for wrong in ["", "task", "tasks.*", "task.done"] {
            assert!(event_pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_submit_names_an_address_at_an_allowed_host() {
        let settings = |hosts: &[&str]| WebhookSettings {
            endpoints: Arc::default(),
            hosts: hosts.iter().map(|host| (*host).into()).collect(),
        };
        let own = settings(&["*.acme.example", "acme.example", "127.0.0.1"]);
        for fine in
            ["https://acme.example/a?b=c", "https://HOOKS.acme.example:443/", "https://a.b.acme.example"]
        {
            assert!(own.own_address(fine).is_ok(), "{fine}");
            assert!(settings(&[]).own_address(fine).is_err(), "{fine}");
        }
        for wrong in [
            "http://acme.example/",
            "https://acme.example:8443/",
            "https://evil.example/.acme.example",
            "https://evil.example#.acme.example",
            "https://evil.example\\.acme.example/",
            "https://a@acme.example/",
            "https://acme.example.evil.example/",
            "https://127.0.0.1/",
            "acme.example",
            "",
        ] {
            assert!(own.own_address(wrong).is_err(), "{wrong}");
        }
    }
}
