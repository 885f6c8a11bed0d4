//! Families of metrics, and the buckets of their histograms.

use prometheus::core::Metric as _;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts};

use crate::dashscope::operation::Operation;

/// A family of counters: name, help, and each series with its labels.
pub(super) fn counters<'a>(
    name: &str,
    help: &str,
    names: &[&str],
    series: impl IntoIterator<Item = (Vec<&'a str>, u64)>,
) -> MetricFamily {
    decimal_counters(name, help, names, series.into_iter().map(|(values, count)| (values, count as f64)))
}

/// A family of counters that may have fractions.
pub(super) fn decimal_counters<'a>(
    name: &str,
    help: &str,
    names: &[&str],
    series: impl IntoIterator<Item = (Vec<&'a str>, f64)>,
) -> MetricFamily {
    let metric = |(values, count): (Vec<&str>, f64)| {
        let mut counter = Counter::default();
        counter.set_value(count);
        let mut metric = Metric::from_label(labels(names, &values));
        metric.set_counter(counter);
        metric
    };
    family(name, help, MetricType::COUNTER, series.into_iter().map(metric).collect())
}

/// One counter of seconds.
pub(super) fn seconds_total(name: &str, help: &str, seconds: f64) -> MetricFamily {
    let mut counter = Counter::default();
    counter.set_value(seconds);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    family(name, help, MetricType::COUNTER, vec![metric])
}

/// A family of gauges.
pub(super) fn gauges<'a>(
    name: &str,
    help: &str,
    names: &[&str],
    series: impl IntoIterator<Item = (Vec<&'a str>, f64)>,
) -> MetricFamily {
    let metric = |(values, level): (Vec<&str>, f64)| {
        let mut gauge = Gauge::default();
        gauge.set_value(level);
        let mut metric = Metric::from_label(labels(names, &values));
        metric.set_gauge(gauge);
        metric
    };
    family(name, help, MetricType::GAUGE, series.into_iter().map(metric).collect())
}

/// A family of histograms. Each histogram holds its labels.
pub(super) fn histograms<'a>(
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = &'a Histogram>,
) -> MetricFamily {
    let series = series.into_iter().map(|histogram| histogram.metric()).collect();
    family(name, help, MetricType::HISTOGRAM, series)
}

fn family(name: &str, help: &str, kind: MetricType, series: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(series);
    family
}

fn labels(names: &[&str], values: &[&str]) -> Vec<LabelPair> {
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    names.iter().zip(values).map(pair).collect()
}

pub(super) fn request_duration(operation: Operation) -> Histogram {
    histogram(&[("operation", operation.name())], &REQUEST_BUCKETS)
}

pub(super) fn overhead(operation: Operation) -> Histogram {
    histogram(&[("operation", operation.name())], &OVERHEAD_BUCKETS)
}

pub(super) fn upstream_duration(account: &str, operation: Operation) -> Histogram {
    histogram(&[("account", account), ("operation", operation.name())], &UPSTREAM_BUCKETS)
}

pub(super) fn task_duration(model: &str) -> Histogram {
    histogram(&[("model", model)], &TASK_BUCKETS)
}

pub(super) fn completion_lag() -> Histogram {
    histogram(&[], &LAG_BUCKETS)
}

pub(super) fn store_commit() -> Histogram {
    histogram(&[], &COMMIT_BUCKETS)
}

/// # Panics
/// Never: labels and buckets are ours, and a test makes one of each.
fn histogram(labels: &[(&str, &str)], buckets: &[f64]) -> Histogram {
    // The name is not used: the family has its own.
    let opts = HistogramOpts::new("seconds", "seconds").buckets(buckets.to_vec());
    let opts = labels.iter().fold(opts, |opts, (name, value)| opts.const_label(*name, *value));
    Histogram::with_opts(opts).expect("labels of ours, and buckets in their order")
}

/// Buckets from an answer out of memory to a long stream.
const REQUEST_BUCKETS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Tens of microseconds are usual. Above a millisecond the machine, or the store, is busy.
const OVERHEAD_BUCKETS: [f64; 14] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5,
    2.5,
];
const UPSTREAM_BUCKETS: [f64; 15] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 300.0];
/// Up to the three hours after which DashScope ends a task.
const TASK_BUCKETS: [f64; 15] =
    [1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 3600.0, 10_800.0];
/// Fine for the lag of a held poll, and up to the hour that a task without a waiting client may take.
const LAG_BUCKETS: [f64; 16] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 30.0, 60.0, 3600.0];
const COMMIT_BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
