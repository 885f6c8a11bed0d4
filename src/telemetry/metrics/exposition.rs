//! The metrics in Prometheus' text format: one entry here for each family.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus::proto::MetricFamily;
use prometheus::{Histogram, TextEncoder};
use strum::VariantArray;

use super::counter_grid::counted;
use super::family::{counters, decimal_counters, gauges, histograms};
use super::label::{DeliveryResult, PollServed, Reason, SpanResult};
use super::series::{ModelSeries, OPERATIONS};
use super::{Metrics, process};
use crate::dashscope::operation::Operation;
use crate::dashscope::refusal::{RefusalCause, Throttling};

/// Figures of other modules, collected when the metrics are read.
#[derive(Debug, Default)]
pub struct ScrapeFigures {
    /// Tasks under way, by state.
    pub tasks: Vec<(&'static str, usize)>,
    /// Tasks under way whose submit was an hour ago or longer.
    pub old_tasks: usize,
    /// Number of an account's parts (the account itself, its keys, its models) that are in cooldown, by account and
    /// cause.
    pub cooldowns: Vec<(Arc<str>, RefusalCause, usize)>,
    /// Number of tasks that no client was told of, by account.
    pub orphans: Vec<(Arc<str>, usize)>,
    /// Accounts, each with whether this replica asks for its tasks.
    pub leaders: Vec<(Arc<str>, bool)>,
    /// Replicas that share the store, this one among them.
    pub replicas: usize,
    /// Time since which commits of other replicas may not be known here.
    pub store_lag: Duration,
    /// Part of each budget that is used, by tenant and period; each pair once.
    pub budgets: Vec<(Arc<str>, &'static str, f64)>,
    /// Requests and tasks in flight, by the label of their tenants and by kind; each pair once.
    pub in_flight: Vec<(Arc<str>, &'static str, u64)>,
    /// Webhooks that wait, by tenant: how many, and the seconds since the oldest began.
    pub webhooks: Vec<(Arc<str>, usize, f64)>,
    /// Money that is left of what prepaid tenants have paid in, in units of the currency.
    pub balances: Vec<(Arc<str>, f64)>,
    /// Dropped lines of the access log.
    pub lines_dropped: u64,
    pub diagnostics_dropped: u64,
    /// Reloads that were taken, and reloads that had a fault.
    pub reloads: (u64, u64),
    /// Hash of the files of the configuration in use; 0 where there are none.
    pub config_hash: u64,
    /// The store can be written, as far as is known.
    pub is_store_up: bool,
}

impl Metrics {
    /// Writes all families.
    pub fn text(&self, figures: &ScrapeFigures) -> String {
        let mut families = self.request_families();
        families.push(gauges(
            "dashgate_tenant_in_flight",
            "What runs, by tenant; requests: those of this gateway; tasks: all without a known end",
            &["tenant", "kind"],
            figures.in_flight.iter().map(|(tenant, kind, count)| (vec![&**tenant, *kind], *count as f64)),
        ));
        families.extend(self.client_families());
        families.extend(self.usage_families(figures));
        families.extend(self.webhook_families(figures));
        families.extend(self.upstream_families(figures));
        families.extend(self.task_families(figures));
        families.extend(self.gateway_families(figures));
        families.extend(process::families());
        // The encoder refuses a family without a series.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|one, other| one.name().cmp(other.name()));
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics can't be written");
            String::new()
        })
    }

    fn request_families(&self) -> Vec<MetricFamily> {
        let mut mounts = self.mounts.all();
        mounts.push(Arc::clone(&self.no_mount));
        let mut tenants = self.tenants.all();
        tenants.extend([Arc::clone(&self.no_tenant), Arc::clone(&self.other_tenants)]);
        let requests: Vec<_> = mounts
            .iter()
            .flat_map(|mount| mount.requests().map(|counted| (&*mount.prefix, counted)))
            .collect();
        let by_tenant: Vec<_> = tenants
            .iter()
            .flat_map(|tenant| tenant.requests().map(|counted| (&*tenant.name, counted)))
            .collect();
        let rejections = tenants.iter().flat_map(|tenant| {
            let named =
                |(reason, count): (usize, u64)| (vec![Reason::ALL[reason].name(), &*tenant.name], count);
            counted(&tenant.rejections).map(named)
        });
        vec![
            counters(
                "dashgate_requests_total",
                "Requests that have ended, by mount, operation, status and how they ended",
                &["mount", "operation", "code", "outcome"],
                requests.iter().map(|(mount, (operation, code, outcome, count))| {
                    (vec![*mount, *operation, code, *outcome], *count)
                }),
            ),
            counters(
                "dashgate_tenant_requests_total",
                "Requests that have ended, by tenant; none: requests without a known tenant",
                &["tenant", "operation", "code"],
                by_tenant
                    .iter()
                    .map(|(tenant, (operation, code, count))| (vec![*tenant, *operation, code], *count)),
            ),
            counters(
                "dashgate_rejections_total",
                "Requests that the gateway refused, by reason",
                &["reason", "tenant"],
                rejections,
            ),
            gauges(
                "dashgate_requests_in_flight",
                "Requests that run, WebSockets among them",
                &["operation"],
                self.in_flight
                    .iter()
                    .zip(Operation::ALL)
                    .map(|(level, operation)| (vec![operation.name()], read(level))),
            ),
        ]
    }

    fn usage_families(&self, figures: &ScrapeFigures) -> Vec<MetricFamily> {
        let mut models = self.models.all();
        models.push(Arc::clone(&self.other_models));
        let labels: Vec<&Arc<str>> = models.iter().map(|model| model.name()).collect();
        let mut tenants = self.tenants.all();
        tenants.extend([Arc::clone(&self.no_tenant), Arc::clone(&self.other_tenants)]);
        let uses: Vec<_> = tenants
            .iter()
            .flat_map(|tenant| tenant.uses.of(&labels).into_iter().map(|counted| (&*tenant.name, counted)))
            .collect();
        vec![
            decimal_counters(
                "dashgate_usage_units_total",
                "What the ledger's entries say was used, in units; model: as the configuration writes it, else other; \
                 none: a tenant that is not configured any more, or no class",
                &["tenant", "model", "unit", "class"],
                uses.iter().map(|(tenant, ((model, unit, class), thousandths))| {
                    (vec![*tenant, model, unit.label(), class], *thousandths as f64 / 1_000.0)
                }),
            ),
            decimal_counters(
                "dashgate_spend_total",
                "What the ledger's entries of uses charge, in units of the gateway's currency; none: a tenant that is \
                 not configured any more",
                &["tenant"],
                tenants
                    .iter()
                    .map(|tenant| (vec![&*tenant.name], tenant.spent.load(Ordering::Relaxed) as f64 / 1e9)),
            ),
            gauges(
                "dashgate_budget_used_ratio",
                "Part of a budget that is spent or held, in the period that runs; 1: all of it",
                &["tenant", "period"],
                figures.budgets.iter().map(|(tenant, period, used)| (vec![&**tenant, *period], *used)),
            ),
            gauges(
                "dashgate_prepaid_balance",
                "Money that a prepaid tenant has left, without what is held, in units of the gateway's currency",
                &["tenant"],
                figures.balances.iter().map(|(tenant, left)| (vec![&**tenant], *left)),
            ),
            counters(
                "dashgate_unpriced_total",
                "Entries of uses of which something has no price, of tenants with prices",
                &["model"],
                models
                    .iter()
                    .map(|model| (vec![&**model.name()], model.unpriced_uses.load(Ordering::Relaxed))),
            ),
            counters(
                "dashgate_usage_unread_total",
                "Entries whose usage was not understood, so that more was used than they say",
                &["model"],
                models.iter().map(|model| (vec![&**model.name()], model.unread_uses.load(Ordering::Relaxed))),
            ),
        ]
    }

    fn webhook_families(&self, figures: &ScrapeFigures) -> Vec<MetricFamily> {
        let mut tenants = self.tenants.all();
        tenants.extend([Arc::clone(&self.no_tenant), Arc::clone(&self.other_tenants)]);
        let results = tenants.iter().flat_map(|tenant| {
            let named = |(result, count): (usize, u64)| {
                (vec![&*tenant.name, DeliveryResult::VARIANTS[result].into()], count)
            };
            counted(&tenant.deliveries).map(named)
        });
        let waiting = || figures.webhooks.iter();
        vec![
            counters(
                "dashgate_webhook_deliveries_total",
                "Tries to deliver a webhook: delivered, failed (another try follows), or given up",
                &["tenant", "result"],
                results,
            ),
            gauges(
                "dashgate_webhooks_waiting",
                "Webhooks that wait for their delivery; all replicas tell the same",
                &["tenant"],
                waiting().map(|(tenant, count, _)| (vec![&**tenant], *count as f64)),
            ),
            gauges(
                "dashgate_webhooks_oldest_seconds",
                "Time since the oldest webhook that waits was to be delivered first",
                &["tenant"],
                waiting().map(|(tenant, _, seconds)| (vec![&**tenant], *seconds)),
            ),
        ]
    }

    fn client_families(&self) -> Vec<MetricFamily> {
        vec![
            histograms(
                "dashgate_request_duration_seconds",
                "Time from a request's head to the last byte of its answer, or the end of its WebSocket",
                made(&self.durations),
            ),
            histograms(
                "dashgate_overhead_seconds",
                "Part of a request's duration that was the gateway's own: without waiting for the upstream, for the \
                 client, for a submit's turn, or for the answer to a held poll",
                made(&self.overheads),
            ),
            counters(
                "dashgate_bytes_total",
                "Bytes of the bodies of requests (in) and of answers (out), on the clients' side; what a WebSocket \
                 carries is included. They are counted when an exchange has ended",
                &["direction"],
                [("in", &self.bytes_in), ("out", &self.bytes_out)]
                    .map(|(direction, bytes)| (vec![direction], bytes.load(Ordering::Relaxed))),
            ),
            gauges(
                "dashgate_connections",
                "Open connections of clients",
                &[],
                [(Vec::new(), read(&self.connections))],
            ),
            gauges(
                "dashgate_connections_limit",
                "Most open connections of clients: what the limit of file descriptors leaves them",
                &[],
                [(Vec::new(), read(&self.connections_limit))],
            ),
            counters(
                "dashgate_tls_handshake_failures_total",
                "TLS handshakes of clients that failed, took too long, or were given up for newer ones",
                &[],
                [(Vec::new(), self.failed_handshakes.load(Ordering::Relaxed))],
            ),
        ]
    }

    fn upstream_families(&self, figures: &ScrapeFigures) -> Vec<MetricFamily> {
        let accounts = self.accounts.all();
        let attempts: Vec<_> = accounts
            .iter()
            .flat_map(|account| account.attempts().map(|counted| (&*account.name, counted)))
            .collect();
        let errors: Vec<_> = accounts
            .iter()
            .flat_map(|account| account.errors.all().into_iter().map(|counted| (&*account.name, counted)))
            .collect();
        let throttled = accounts.iter().flat_map(|account| {
            let named = |(kind, count): (usize, u64)| {
                (vec![&*account.name, Throttling::ALL[kind].native_code()], count)
            };
            counted(&account.throttled).map(named)
        });
        vec![
            counters(
                "dashgate_upstream_requests_total",
                "Requests to DashScope, each attempt and each query of the gateway's own; none: no answer came",
                &["account", "operation", "code"],
                attempts
                    .iter()
                    .map(|(account, (operation, code, count))| (vec![*account, *operation, code], *count)),
            ),
            histograms(
                "dashgate_upstream_duration_seconds",
                "Time of these requests, from the search for a connection to the head of the answer, or the failure",
                accounts.iter().flat_map(|account| made(&account.durations)),
            ),
            counters(
                "dashgate_upstream_errors_total",
                "Answers of DashScope that are errors, by DashScope's own code; other: one that it does not document",
                &["account", "operation", "code"],
                errors
                    .iter()
                    .map(|(account, (operation, code, count))| (vec![*account, *operation, *code], *count)),
            ),
            gauges(
                "dashgate_clock_skew_seconds",
                "Seconds by which DashScope's clock is ahead of this host's, by the date of the latest answer to a query \
                 of the gateway's own; below zero: behind. Exact to a second",
                &["account"],
                accounts.iter().filter_map(|account| Some((vec![&*account.name], account.clock_skew()?))),
            ),
            counters(
                "dashgate_upstream_throttled_total",
                "Answers of DashScope that the account was asked too often, by DashScope's own code",
                &["account", "code"],
                throttled,
            ),
            counters(
                "dashgate_unread_submits_total",
                "Submits that DashScope accepted with an answer that could not be read: each may have made a task \
                 without an owner",
                &["account"],
                accounts
                    .iter()
                    .map(|account| (vec![&*account.name], account.unread_submits.load(Ordering::Relaxed))),
            ),
            gauges(
                "dashgate_account_cooldown",
                "Parts of the account that are in cooldown for this cause: the account itself, its keys, or models",
                &["account", "cause"],
                figures
                    .cooldowns
                    .iter()
                    .map(|(account, cause, count)| (vec![&**account, cause.name()], *count as f64)),
            ),
            gauges(
                "dashgate_orphans",
                "Tasks on the account's list that no client was told of, and that a key of ours has made",
                &["account"],
                figures.orphans.iter().map(|(account, count)| (vec![&**account], *count as f64)),
            ),
            gauges(
                "dashgate_leader",
                "1 on the replica that asks for the tasks of the account, 0 on the others",
                &["account"],
                figures
                    .leaders
                    .iter()
                    .map(|(account, leads)| (vec![&**account], f64::from(u8::from(*leads)))),
            ),
        ]
    }

    fn task_families(&self, figures: &ScrapeFigures) -> Vec<MetricFamily> {
        let mut models = self.models.all();
        models.push(Arc::clone(&self.other_models));
        let ends: Vec<_> = models
            .iter()
            .flat_map(|model| model.ends.all().into_iter().map(|counted| (&**model.name(), counted)))
            .collect();
        let ended = |series: &&Arc<ModelSeries>| series.task_durations.get_sample_count() > 0;
        vec![
            counters(
                "dashgate_polls_total",
                "Task queries of clients, by where their answer came from: memory that was fresh enough (cache), a \
                 query of the upstream (upstream), or what was known last (stale)",
                &["served"],
                by_variant::<PollServed>(&self.polls),
            ),
            gauges(
                "dashgate_tasks",
                "Tasks that have not ended, by the state in which they were seen last",
                &["state"],
                figures.tasks.iter().map(|(state, count)| (vec![*state], *count as f64)),
            ),
            gauges(
                "dashgate_tasks_old",
                "Tasks that have not ended an hour after their submit",
                &[],
                [(Vec::new(), figures.old_tasks as f64)],
            ),
            counters(
                "dashgate_tasks_ended_total",
                "Tasks that have ended, each counted by the gateway that settled it; lost: DashScope forgot the task \
                 before its end was known. code: DashScope's code of a failure, other: one that it does not document",
                &["model", "status", "code"],
                ends.iter().map(|(model, (status, code, count))| (vec![*model, *status, *code], *count)),
            ),
            histograms(
                "dashgate_task_duration_seconds",
                "Time from a task's submit to its end, by the upstream's clock, whatever its end; model: as the \
                 configuration writes it, else other",
                models.iter().filter(ended).map(|series| &series.task_durations),
            ),
            histograms(
                "dashgate_completion_lag_seconds",
                "Time from a task's end, by the upstream's clock, until the gateway knew of it",
                [&self.completion_lag],
            ),
        ]
    }

    fn gateway_families(&self, figures: &ScrapeFigures) -> Vec<MetricFamily> {
        let (ok, rejected) = figures.reloads;
        vec![
            histograms(
                "dashgate_store_commit_seconds",
                "Time of a store commit, which makes changes durable and may hold many of them",
                [&self.store_commit],
            ),
            gauges(
                "dashgate_replicas",
                "Gateways that share the store and were heard in the last three seconds, this one among them",
                &[],
                [(Vec::new(), figures.replicas as f64)],
            ),
            gauges(
                "dashgate_store_lag_seconds",
                "Time since which this gateway may not know what other replicas have done, 0 without a database",
                &[],
                [(Vec::new(), figures.store_lag.as_secs_f64())],
            ),
            counters(
                "dashgate_trace_spans_total",
                "Spans that a collector took (sent), did not take (failed), or that did not fit into the queue (dropped)",
                &["result"],
                by_variant::<SpanResult>(&self.spans),
            ),
            counters(
                "dashgate_config_reloads_total",
                "Configurations that were loaded anew and taken (ok), or had a fault and changed nothing (rejected)",
                &["result"],
                [(vec!["ok"], ok), (vec!["rejected"], rejected)],
            ),
            gauges(
                "dashgate_config_hash",
                "A number made of the bytes of the configuration in use and of the files that it names: gateways with the \
                 same files have the same",
                &[],
                [(Vec::new(), figures.config_hash as f64)],
            ),
            gauges(
                "dashgate_store_up",
                "1 while the store can be written, as far as is known",
                &[],
                [(Vec::new(), f64::from(u8::from(figures.is_store_up)))],
            ),
            counters(
                "dashgate_access_log_dropped_total",
                "Lines of the access log that did not fit into the buffer, or could not be written",
                &[],
                [(Vec::new(), figures.lines_dropped)],
            ),
            counters(
                "dashgate_diagnostics_dropped_total",
                "Lines of the diagnostics on standard error whose reader was too slow",
                &[],
                [(Vec::new(), figures.diagnostics_dropped)],
            ),
            gauges(
                "dashgate_build_info",
                "1, with the version and the commit of the program",
                &["version", "commit"],
                [(vec![env!("CARGO_PKG_VERSION"), env!("DASHGATE_COMMIT")], 1.0)],
            ),
        ]
    }
}

/// Counts of a label whose values are the variants of one enum.
fn by_variant<L: VariantArray + Copy + Into<&'static str>>(
    counts: &[AtomicU64],
) -> impl Iterator<Item = (Vec<&'static str>, u64)> {
    let labels = L::VARIANTS.iter().map(|label| (*label).into());
    labels.zip(counts).map(|(label, count)| (vec![label], count.load(Ordering::Relaxed)))
}

/// Histograms that have been used.
fn made(histograms: &[OnceLock<Histogram>; OPERATIONS]) -> impl Iterator<Item = &Histogram> {
    histograms.iter().filter_map(OnceLock::get)
}

fn read(level: &AtomicI64) -> f64 {
    level.load(Ordering::Relaxed) as f64
}
