//! DashScope's own limits on submits, by account and model: protocol 6.1, as far as it is confirmed. No limit is
//! assumed for a model that is not listed here.

use super::region::Region;

/// The limits of one account and model; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SubmitRule {
    pub requests_per_second: Option<f64>,
    /// The most tasks that may have been submitted and not ended.
    pub running: Option<u32>,
}

/// DashScope's own rule for a model at a host. Called for each submit, so names are compared without patterns.
pub fn rule(model: &str, host: &str) -> SubmitRule {
    let named = || BY_NAME.iter().find(|(names, _)| names.contains(&model));
    let begun =
        || BY_BEGINNING.iter().find(|(starts, _)| starts.iter().any(|start| model.starts_with(start)));
    let submits = named().or_else(begun).map(|(_, submits)| *submits);
    let is_faster = model == FASTER_ABROAD && is_abroad(host);
    SubmitRule {
        requests_per_second: if is_faster { Some(5.0) } else { submits },
        running: model.starts_with(REFUSES_TO_QUEUE).then_some(MOST_QUEUED),
    }
}

/// True for DashScope's hosts outside China. An unknown host may be a proxy to any region, so it does not count.
fn is_abroad(host: &str) -> bool {
    match Region::of(host) {
        Some(Region::Singapore | Region::Virginia | Region::Frankfurt | Region::Tokyo) => true,
        Some(Region::Beijing | Region::HongKong) | None => false,
    }
}

/// Submits a second, by a model's whole name.
const BY_NAME: [(&[&str], f64); 8] = [
    (&["wan2.6-t2v", "wan2.6-t2v-us", "wan2.6-i2v", "wan2.6-i2v-us", "wan2.6-i2v-flash"], 5.0),
    (&["wan2.6-r2v", "wan2.6-r2v-flash", "wan2.5-t2v-preview", "wan2.5-i2v-preview"], 5.0),
    (&["wan2.2-t2v-plus", "wan2.2-i2v-plus", "wan2.1-vace-plus"], 2.0),
    (&["wan2.1-kf2v-plus", "wanx2.1-kf2v-plus", "qwen-image"], 2.0),
    (&["wan2.2-animate-move", "wan2.2-animate-mix"], 5.0),
    (&["wan2.7-image", "wan2.7-image-pro"], 5.0),
    (&[FASTER_ABROAD], 1.0),
    (&["fun-asr"], 10.0),
];
/// Submits a second, by the beginning of a model's name.
const BY_BEGINNING: [(&[&str], f64); 4] = [
    (&["wan2.1-t2v-", "wanx2.1-t2v-", "wan2.1-i2v-", "wanx2.1-i2v-", "wan2.2-t2i-"], 2.0),
    (&["emo-", "liveportrait"], 5.0),
    (&[REFUSES_TO_QUEUE], 1.0),
    (&["paraformer-"], 20.0),
];
const FASTER_ABROAD: &str = "wan2.6-t2i";
/// The models for which DashScope refuses a submit past the limit of running tasks. For all others such a task stays
/// PENDING, so the gateway must not refuse it either.
const REFUSES_TO_QUEUE: &str = "text-embedding-async-";
/// 3 tasks that run and 50 that wait.
const MOST_QUEUED: u32 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_confirmed_has_a_rule() {
        let china = "dashscope.aliyuncs.com";
        for (model, submits, running) in [
            ("wan2.6-t2v", Some(5.0), None),
            ("wan2.6-r2v-flash", Some(5.0), None),
            ("wan2.5-i2v-preview", Some(5.0), None),
            ("wan2.2-i2v-plus", Some(2.0), None),
            ("wanx2.1-i2v-turbo", Some(2.0), None),
            ("wan2.1-kf2v-plus", Some(2.0), None),
            ("wan2.2-animate-mix", Some(5.0), None),
            ("wan2.7-image-pro", Some(5.0), None),
            ("wan2.6-t2i", Some(1.0), None),
            ("wan2.2-t2i-flash", Some(2.0), None),
            ("qwen-image", Some(2.0), None),
            ("text-embedding-async-v2", Some(1.0), Some(53)),
            ("fun-asr", Some(10.0), None),
            ("paraformer-v2", Some(20.0), None),
            ("wan2.7-t2v", None, None),
            ("wan2.7-i2v", None, None),
            ("wan3.0-video", None, None),
            ("qwen-plus", None, None),
            ("", None, None),
        ] {
            assert_eq!(rule(model, china), SubmitRule { requests_per_second: submits, running }, "{model}");
        }
    }

    #[test]
    fn the_region_matters_where_the_host_tells_it() {
        for (host, expected) in [
            ("dashscope.aliyuncs.com", 1.0),
            ("ws-1.cn-beijing.maas.aliyuncs.com", 1.0),
            ("cn-hongkong.dashscope.aliyuncs.com", 1.0),
            ("127.0.0.1", 1.0),
            ("dashscope-intl.aliyuncs.com", 5.0),
            ("ws-1.ap-southeast-1.maas.aliyuncs.com", 5.0),
        ] {
            assert_eq!(rule("wan2.6-t2i", host).requests_per_second, Some(expected), "{host}");
        }
    }
}
