//! Where the guide says more: the `see:` line below an error message.

use std::fmt;

use strum::VariantArray;

use crate::config::Fault;

/// A place of the guide. A test looks for the page and the heading of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub enum GuidePlace {
    Accounts,
    AdminSettings,
    AccountSettings,
    Audit,
    BrowserTokens,
    Health,
    Keys,
    MountSettings,
    Orphans,
    PollSettings,
    PriceSettings,
    Reload,
    ServerSettings,
    Settings,
    Start,
    StartFails,
    Store,
    StoreSettings,
    Tasks,
    TenantSettings,
    Tenants,
    Usage,
    Webhooks,
}

impl GuidePlace {
    /// Page below `deploy/guide/en`, and the anchor of its heading; no anchor stands for the whole page.
    pub const fn page_and_anchor(self) -> (&'static str, &'static str) {
        match self {
            Self::Accounts => ("accounts.md", ""),
            Self::AdminSettings => ("settings.md", "the-operators-listener"),
            Self::AccountSettings => ("settings.md", "accounts"),
            Self::Audit => ("keys.md", "audit"),
            Self::BrowserTokens => ("browsers.md", "browser-tokens"),
            Self::Health => ("observability.md", "health"),
            Self::Keys => ("keys.md", "keys-at-run-time"),
            Self::MountSettings => ("settings.md", "mounts"),
            Self::Orphans => ("tasks.md", "orphans"),
            Self::PollSettings => ("settings.md", "polls-and-submits"),
            Self::PriceSettings => ("settings.md", "use-and-prices"),
            Self::Reload => ("upgrading.md", "reload-of-the-configuration"),
            Self::ServerSettings => ("settings.md", "the-listener-of-clients"),
            Self::Settings => ("settings.md", ""),
            Self::Start => ("start.md", ""),
            Self::StartFails => ("troubleshooting.md", "the-gateway-does-not-start"),
            Self::Store => ("upgrading.md", ""),
            Self::StoreSettings => ("settings.md", "store-logs-and-traces"),
            Self::Tasks => ("tasks.md", "looking-up-a-task"),
            Self::TenantSettings => ("settings.md", "tenants"),
            Self::Tenants => ("keys.md", "tenants-at-run-time"),
            Self::Usage => ("usage.md", ""),
            Self::Webhooks => ("webhooks.md", "what-is-delivered"),
        }
    }

    /// The place that tells of a setting, by its key path, as in `tenants[0].limits.burst`.
    pub fn of_setting(path: &str) -> Self {
        match path.split(['.', '[']).next().unwrap_or_default() {
            "server" => Self::ServerSettings,
            "admin" => Self::AdminSettings,
            "store" | "log" | "traces" => Self::StoreSettings,
            "poll" | "submit" => Self::PollSettings,
            "usage" | "prices" => Self::PriceSettings,
            "accounts" => Self::AccountSettings,
            "mounts" => Self::MountSettings,
            "tenants" => Self::TenantSettings,
            _ => Self::Settings,
        }
    }
}

/// `see: PAGE#ANCHOR`, with the page's path in the repository: it is the same for all who have a copy, and an installed
/// program has no page beside it.
impl fmt::Display for GuidePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (page, anchor) = self.page_and_anchor();
        let mark = if anchor.is_empty() { "" } else { "#" };
        write!(f, "see: deploy/guide/en/{page}{mark}{anchor}")
    }
}

/// A `see:` line for each place that tells of the settings with these faults.
pub fn for_faults(faults: &[Fault]) -> String {
    let mut places = Vec::new();
    for fault in faults {
        let place = GuidePlace::of_setting(&fault.path);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.into_iter().map(|place| format!("{place}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_named_once() {
        let fault =
            |path: &str| Fault { position: None, path: path.into(), problem: "p".into(), hint: "".into() };
        let faults = ["tenants[0].name", "", "tenants[1].limits.burst", "log.access"].map(fault);
        assert_eq!(
            for_faults(&faults),
            "see: deploy/guide/en/settings.md#tenants\nsee: deploy/guide/en/settings.md\n\
             see: deploy/guide/en/settings.md#store-logs-and-traces\n"
        );
    }
}
