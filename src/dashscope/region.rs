//! DashScope's regions and their hosts (protocol 6.4). A key is good in one region only: another one refuses it with 401.

/// A region of DashScope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    Beijing,
    HongKong,
    Singapore,
    Virginia,
    Frankfurt,
    Tokyo,
}

impl Region {
    /// The region that a host serves; `None` for hosts that do not tell it, such as a proxy's.
    pub fn of(host: &str) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let dedicated = host.split_once('.').map_or("", |(_, zone)| zone);
        HOSTS
            .iter()
            .find(|(_, shared, zone)| *shared == Some(host) || *zone == dedicated)
            .map(|(region, ..)| *region)
    }

    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Region::Beijing => "China (Beijing)",
            Region::HongKong => "China (Hong Kong)",
            Region::Singapore => "Singapore",
            Region::Virginia => "US (Virginia)",
            Region::Frankfurt => "Germany (Frankfurt)",
            Region::Tokyo => "Japan (Tokyo)",
        }
    }
}

/// True for the host of a workspace, which serves no other.
pub fn is_workspace(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.split_once('.').is_some_and(|(_, zone)| HOSTS.iter().any(|(_, _, known)| *known == zone))
}

/// The likely causes of a refused key, for the operator. A key that is sent to the wrong region is refused like one that
/// does not exist.
pub fn refused_key_causes(host: &str) -> String {
    let region = Region::of(host).map(|region| format!(", {}", region.name())).unwrap_or_default();
    format!(
        "it is mistyped or revoked, or it is a key of another region than that of {host}{region}: each key is good in \
         one region only"
    )
}

/// The host of DashScope that a misspelt host was meant to be, or the end of it; `None` for DashScope's own hosts and
/// for those that resemble none. Lower case is expected. Hosts of regions that may open later are not misspelt.
pub fn meant_host(host: &str) -> Option<&'static str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let shared = HOSTS.iter().filter_map(|(_, shared, _)| *shared).chain(PLANS);
    let near = shared.map(|known| (known, distance(host, known))).min_by_key(|(_, edits)| *edits);
    if let Some(suffix) = host.strip_prefix("dashscope-").and_then(|rest| rest.strip_suffix(".aliyuncs.com"))
    {
        return (distance(suffix, "intl") == 1).then_some(ABROAD);
    }
    if let Some((known, edits)) = near
        && edits <= MOST_EDITS
    {
        return (edits > 0).then_some(known);
    }
    let (_, zone) = host.split_once('.')?;
    let zones = HOSTS.iter().map(|(_, _, known)| (*known, distance(zone, known)));
    let (known, edits) = zones.min_by_key(|(_, edits)| *edits)?;
    // Regions of one country differ in their number, or in a word like `east`.
    let is_same_but_for_digits = without_digits(zone) == without_digits(known);
    (edits > 0 && edits < MOST_EDITS && !is_same_but_for_digits).then_some(known)
}

fn without_digits(zone: &str) -> String {
    zone.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

/// Slips of the hand between two texts.
fn distance(one: &str, other: &str) -> usize {
    // The distance is at least the difference in length, and costs time in the product of both.
    let difference = one.len().abs_diff(other.len());
    if difference > MOST_EDITS { difference } else { strsim::damerau_levenshtein(one, other) }
}

/// Each region's shared host, and the end of the hosts of its workspaces.
const HOSTS: [(Region, Option<&str>, &str); 6] = [
    (Region::Beijing, Some("dashscope.aliyuncs.com"), "cn-beijing.maas.aliyuncs.com"),
    (Region::Singapore, Some(ABROAD), "ap-southeast-1.maas.aliyuncs.com"),
    (Region::Virginia, Some("dashscope-us.aliyuncs.com"), "us-east-1.maas.aliyuncs.com"),
    (Region::HongKong, Some("cn-hongkong.dashscope.aliyuncs.com"), "cn-hongkong.maas.aliyuncs.com"),
    (Region::Frankfurt, None, "eu-central-1.maas.aliyuncs.com"),
    (Region::Tokyo, None, "ap-northeast-1.maas.aliyuncs.com"),
];
const ABROAD: &str = "dashscope-intl.aliyuncs.com";
/// Hosts of plans, which do not tell a region.
const PLANS: [&str; 2] = ["coding.dashscope.aliyuncs.com", "coding-intl.dashscope.aliyuncs.com"];
const MOST_EDITS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_tell_their_region() {
        for (host, expected) in [
            ("dashscope.aliyuncs.com", Some(Region::Beijing)),
            ("dashscope.aliyuncs.com.", Some(Region::Beijing)),
            ("dashscope-intl.aliyuncs.com", Some(Region::Singapore)),
            ("cn-hongkong.dashscope.aliyuncs.com", Some(Region::HongKong)),
            ("llm-1.cn-hongkong.maas.aliyuncs.com", Some(Region::HongKong)),
            ("trial.eu-central-1.maas.aliyuncs.com", Some(Region::Frankfurt)),
            ("coding.dashscope.aliyuncs.com", None),
            ("127.0.0.1", None),
            ("localhost", None),
        ] {
            assert_eq!(Region::of(host), expected, "{host}");
            assert_eq!(is_workspace(host), host.contains(".maas."), "{host}");
        }
    }

    #[test]
    fn misspelt_hosts_are_told_from_others() {
        for (host, expected) in [
            ("dashscope.aliyun.com", "dashscope.aliyuncs.com"),
            ("dashscope.aliyuncs.cn", "dashscope.aliyuncs.com"),
            ("dashscop.aliyuncs.com", "dashscope.aliyuncs.com"),
            ("dahsscope.aliyuncs.com", "dashscope.aliyuncs.com"),
            ("dash-scope.aliyuncs.com", "dashscope.aliyuncs.com"),
            ("dashscope.alyiuncs.com", "dashscope.aliyuncs.com"),
            ("dashscope-int.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
            ("dashscope_intl.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
            ("dashscope-itnl.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
            ("dashscope-intl.aliyun.com", "dashscope-intl.aliyuncs.com"),
            ("dashcope-us.aliyuncs.com", "dashscope-us.aliyuncs.com"),
            ("cn-hongkon.dashscope.aliyuncs.com", "cn-hongkong.dashscope.aliyuncs.com"),
            ("llm-1.cn-bejing.maas.aliyuncs.com", "cn-beijing.maas.aliyuncs.com"),
            ("llm-1.cn-beijing.mass.aliyuncs.com", "cn-beijing.maas.aliyuncs.com"),
        ] {
            assert_eq!(meant_host(host), Some(expected), "{host}");
        }
        for host in [
            "dashscope.aliyuncs.com",
            "dashscope.aliyuncs.com.",
            "dashscope-us.aliyuncs.com",
            "dashscope-eu.aliyuncs.com",
            "dashscope-finance.aliyuncs.com",
            "coding-intl.dashscope.aliyuncs.com",
            "token-plan.cn-beijing.maas.aliyuncs.com",
            "llm-1.ap-southeast-1.maas.aliyuncs.com",
            "llm-1.ap-southeast-5.maas.aliyuncs.com",
            "llm-1.us-west-1.maas.aliyuncs.com",
            "h",
            "dashscope",
            "dashscope.test",
            "127.0.0.1",
            "proxy.example.com",
            "",
        ] {
            assert_eq!(meant_host(host), None, "{host}");
        }
    }
}
