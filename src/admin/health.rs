//! Liveness, readiness and metrics, for load balancers, Kubernetes and Prometheus; they need no token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use serde_json::json;

use super::Admin;
use super::response::{AdminResponse, answer, text};
use crate::dashscope::refusal::RefusalCause;
use crate::dashscope::task::Status;
use crate::lifecycle::liveness::MOST_STILL;
use crate::lifecycle::readiness::Requirement;
use crate::lifecycle::reload::ReloadHandle;
use crate::store::{StoreCause, StoreHealth, WHAT_IS_REFUSED};
use crate::telemetry::diagnostics;
use crate::telemetry::metrics::ScrapeFigures;
use crate::webhooks::TenantWaiting;

impl Admin {
    pub(super) fn live(&self) -> AdminResponse {
        match self.threads.borrow().stuck() {
            None => answer(StatusCode::OK, &json!({ "status": "live" })),
            Some(thread) => {
                let problem = format!("{thread} has not turned for {MOST_STILL} seconds");
                answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "stuck", "problem": problem }))
            }
        }
    }

    pub(super) fn ready(&self) -> AdminResponse {
        let mut failing: Vec<(&str, String)> = self.readiness.missing().map(describe).collect();
        let store = &self.shared.store;
        if let StoreHealth::Unwritable(fault) = store.health()
            // A database that is away must not take every replica out of the balancer at once.
            && (!store.has_replicas() || fault.cause == StoreCause::Closed)
        {
            // Readiness needs no token, so the path of the store is for the log alone.
            failing.push(("store", format!("the store {}; {WHAT_IS_REFUSED}", fault.cause)));
        }
        let names: Vec<&str> = failing.iter().map(|(name, _)| *name).collect();
        match failing.first() {
            None => answer(StatusCode::OK, &json!({ "status": "ready", "failing": names })),
            Some((status, _)) => {
                let problems: Vec<&str> = failing.iter().map(|(_, problem)| &**problem).collect();
                let body = json!({ "status": status, "failing": names, "problem": problems.join("; ") });
                answer(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
        }
    }

    pub(super) async fn metrics(&self) -> AdminResponse {
        self.shared.read_orphans().await;
        let states = [("pending", Status::Pending), ("running", Status::Running), ("other", Status::Other)];
        let now = Instant::now();
        let directory = self.shared.directory.load();
        let cooldowns = directory.accounts.iter().flat_map(|account| {
            let status = account.status(now);
            RefusalCause::ALL.map(|cause| (Arc::clone(&status.name), cause, status.resting_for(cause)))
        });
        let orphans =
            self.shared.hub.orphans().into_iter().map(|(account, orphans)| {
                (account, orphans.iter().filter(|orphan| orphan.has_own_key).count())
            });
        let leads = |account: &Arc<str>| self.shared.hub.leads(account, now);
        let leaders =
            directory.accounts.iter().map(|account| (Arc::clone(&account.name), leads(&account.name)));
        let tenants = || directory.tenants().iter().filter(|tenant| *tenant.series.name() == tenant.name);
        let budgets = tenants().flat_map(|tenant| {
            let mut used = BTreeMap::new();
            for budget in self.shared.budgets(tenant, SystemTime::now()) {
                // A tenant may have several budgets for a period: the one that is used most is told.
                let most = used.entry(budget.period.label()).or_insert(f64::MIN);
                *most = budget.used_ratio().max(*most);
            }
            used.into_iter().map(|(period, used)| (Arc::clone(&tenant.name), period, used))
        });
        let balances = tenants().filter_map(|tenant| {
            let balance = self.shared.prepaid(tenant)?.balance();
            Some((Arc::clone(&tenant.name), balance.nanos() as f64 / 1e9))
        });
        let mut in_flight = BTreeMap::new();
        for tenant in directory.tenants() {
            let (requests, tasks) =
                (tenant.running.count(), self.shared.limits.tasks_of_tenant(&tenant.name));
            // Tenants past the first thousand share a label.
            for (kind, count) in [("requests", requests), ("tasks", tasks.into())] {
                *in_flight.entry((Arc::clone(tenant.series.name()), kind)).or_insert(0) += count;
            }
        }
        let clock = SystemTime::now();
        let age = |since: SystemTime| clock.duration_since(since).unwrap_or_default().as_secs_f64();
        let waiting = self.webhooks.read().into_iter();
        // Tenants past the first thousand have no label of their own.
        let labelled = |waiting: &TenantWaiting| {
            let series = directory.tenant(&waiting.tenant).map(|tenant| &tenant.series);
            series.is_some_and(|series| *series.name() == waiting.tenant)
        };
        let webhooks = waiting.filter(labelled).map(|one| (one.tenant, one.waiting, age(one.oldest)));
        let reloads = self.reloads.as_ref().map(ReloadHandle::counts);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        text(self.shared.metrics.text(&ScrapeFigures {
            tasks: states.map(|(name, status)| (name, self.shared.hub.count(status))).into(),
            old_tasks: self.shared.hub.count_submitted_before(SystemTime::now() - OLD),
            cooldowns: cooldowns.collect(),
            orphans: orphans.collect(),
            leaders: leaders.collect(),
            store_lag: self.shared.store.lag(),
            replicas: 1 + self.shared.store.exchange().others(now),
            budgets: budgets.collect(),
            balances: balances.collect(),
            in_flight: in_flight.into_iter().map(|((tenant, kind), count)| (tenant, kind, count)).collect(),
            webhooks: webhooks.collect(),
            lines_dropped: self.shared.access_log.dropped(),
            diagnostics_dropped: diagnostics::dropped(),
            reloads: reloads.map_or((0, 0), |counts| (count(&counts.ok), count(&counts.rejected))),
            config_hash: reloads.map_or(0, |counts| count(&counts.hash)),
            is_store_up: self.shared.store.health() == StoreHealth::Writable,
        }))
    }
}

fn describe((need, held, needed): (Requirement, usize, usize)) -> (&'static str, String) {
    let problem = match need {
        Requirement::Serving => {
            "it was asked to stop: what runs may end, and nothing new is taken".to_owned()
        }
        Requirement::Config => "there is no configuration to serve by".to_owned(),
        Requirement::Workers => format!("{held} of {needed} workers listen"),
        Requirement::Querier => "the querier, which asks for the state of tasks, does not run".to_owned(),
    };
    (need.name(), problem)
}

/// Age of tasks that are told apart as old: most end within minutes, and DashScope ends them after three hours.
const OLD: Duration = Duration::from_secs(3600);
