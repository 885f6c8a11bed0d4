//! Browser tokens that a tenant may make for the pages of its users.

use std::time::Duration;

use super::limits::models;
use super::node::Node;
use super::reader::{ConfigReader, Located, Text, Whole, number};
use super::{cors, scalar};
use crate::dashscope::operation::{Group, Groups};

/// Rules of the browser tokens that a tenant may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Longest life of a token, 1,800 at most.
    pub seconds: u64,
    /// Groups of calls that a token may make, of those of its tenant.
    pub allow: Groups,
    /// Models that a token may use, of those of its tenant, as names or patterns with `*`. An empty list allows all.
    pub models: Vec<String>,
    /// The origin of the pages that may use a token; `None`: any page, and any program.
    pub origin: Option<Box<str>>,
}

impl TokenSettings {
    /// Longest life of a token.
    pub fn longest(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

pub(super) struct RawTokens {
    seconds: Option<Whole>,
    allow: Option<Located<Vec<Text>>>,
    models: Option<Vec<String>>,
    origin: Option<Text>,
}

/// Reads `tokens` of a tenant.
pub(super) fn read(node: &Node<'_>) -> Option<RawTokens> {
    let mut table = node.table("write it like { seconds = 600, allow = [\"generate\", \"tasks\"] }")?;
    let list = |node: Node<'_>| {
        let value = node.strings("write words in quotes between [ and ]")?;
        Some(Located { value, location: node.location })
    };
    let tokens = RawTokens {
        seconds: table.field("seconds").and_then(|node| node.whole(1..=MOST_SECONDS)),
        allow: table.field("allow").and_then(list),
        models: table.field("models").and_then(models),
        origin: table.field("origin").and_then(|node| node.string("write an origin in quotes")),
    };
    table.finish();
    Some(tokens)
}

/// `of_tenant`: what the tenant may do.
pub(super) fn check(
    reader: &ConfigReader<'_>,
    file: &RawTokens,
    of_tenant: Option<Groups>,
) -> Option<TokenSettings> {
    let of_tenant = of_tenant.unwrap_or(Groups::ALL);
    let allow = match &file.allow {
        None => Some(of_tenant),
        Some(written) if written.value.is_empty() => {
            reader.fault(&written.location, "is empty", "leave it out to allow what the tenant may do");
            None
        }
        Some(written) => {
            let groups: Vec<_> =
                written.value.iter().map(|group| check_group(reader, group, of_tenant)).collect();
            groups.into_iter().collect()
        }
    };
    let origin = match &file.origin {
        Some(origin) => Some(reader.check(origin, cors::origin)?),
        None => None,
    };
    let models = file.models.clone().unwrap_or_default();
    Some(TokenSettings { seconds: number(&file.seconds, MOST_SECONDS), allow: allow?, models, origin })
}

fn check_group(reader: &ConfigReader<'_>, written: &Text, of_tenant: Groups) -> Option<Group> {
    let group = reader.check(written, scalar::group)?;
    if !of_tenant.contains(group) {
        let hint = "a token may do nothing that its tenant may not";
        reader.fault(&written.location, "is not in `allow` of the tenant", hint);
        return None;
    }
    Some(group)
}

/// Longest life of DashScope's own tokens.
const MOST_SECONDS: u64 = 1_800;
