//! Figures from the gateway's `/metrics`.

use std::collections::BTreeMap;

/// A histogram: the number of values up to each bucket's edge, summed over the other labels.
pub(crate) struct Histogram(BTreeMap<u64, (f64, f64)>);

impl Histogram {
    pub(crate) fn read(metrics: &str, family: &str) -> Option<Histogram> {
        let mut buckets = BTreeMap::new();
        for (labels, count) in samples(metrics, &format!("{family}_bucket")) {
            let edge: f64 = label(labels, "le")?.parse().ok()?;
            // Positive numbers sort as their bits do.
            buckets.entry(edge.to_bits()).or_insert((edge, 0.0)).1 += count;
        }
        (!buckets.is_empty()).then_some(Histogram(buckets))
    }

    /// The edge of the bucket that holds the percentile, which is at most this.
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let (_, (_, total)) = self.0.last_key_value()?;
        let rank = total * percent / 100.0;
        self.0.values().find(|(_, count)| *total > 0.0 && *count >= rank).map(|(edge, _)| *edge)
    }

    /// `p50 p90 p99`, and how many there were.
    pub(crate) fn summary(&self) -> String {
        let total = self.0.last_key_value().map_or(0.0, |(_, (_, total))| *total);
        let shown =
            |percent| self.percentile(percent).map_or_else(|| "-".to_owned(), |edge| format!("<={edge}"));
        format!("{} {} {} of {total}", shown(50.0), shown(90.0), shown(99.0))
    }
}

/// The sum of a family's samples with this label.
pub(crate) fn sum(metrics: &str, family: &str, name: &str, value: &str) -> f64 {
    let with = samples(metrics, family).filter(|(labels, _)| label(labels, name) == Some(value));
    with.map(|(_, sample)| sample).sum()
}

fn samples<'a>(metrics: &'a str, family: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(family)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.split(' ').next()?.parse().ok()?))
    })
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}
