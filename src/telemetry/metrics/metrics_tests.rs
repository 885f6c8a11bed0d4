use std::time::Instant;

use hyper::StatusCode;

use super::*;
use crate::dashscope::refusal::{RefusalCause, Throttling};
use crate::dashscope::usage::{Unit, Units};

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

/// Lines of the page after what the test counts.
const COUNTED: &[&str] = &[
    "dashgate_webhook_deliveries_total{tenant=\"acme\",result=\"given_up\"} 1",
    "dashgate_webhooks_waiting{tenant=\"acme\"} 7",
    "dashgate_webhooks_oldest_seconds{tenant=\"acme\"} 1.5",
    "dashgate_polls_total{served=\"cache\"} 0",
    "dashgate_polls_total{served=\"stale\"} 1",
    "dashgate_tasks{state=\"running\"} 2",
    "dashgate_tasks_old 1",
    "dashgate_tasks_ended_total{model=\"wan2.7-*\",status=\"FAILED\",code=\"InternalError.Timeout\"} 1",
    "dashgate_upstream_errors_total{account=\"main\",operation=\"submit\",code=\"InternalError.Algo\"} 1",
    "dashgate_clock_skew_seconds{account=\"main\"} -1.5",
    "dashgate_completion_lag_seconds_bucket{le=\"0.5\"} 1",
    "dashgate_completion_lag_seconds_bucket{le=\"0.25\"} 0",
    "dashgate_requests_total{mount=\"/wan\",operation=\"chat\",code=\"200\",outcome=\"answered\"} 1",
    "dashgate_requests_total{mount=\"/wan\",operation=\"chat\",code=\"none\",outcome=\"abandoned\"} 1",
    "dashgate_requests_total{mount=\"none\",operation=\"unlisted\",code=\"404\",outcome=\"rejected\"} 1",
    "dashgate_tenant_requests_total{tenant=\"acme\",operation=\"chat\",code=\"429\"} 1",
    "dashgate_rejections_total{reason=\"rate\",tenant=\"acme\"} 1",
    "dashgate_requests_in_flight{operation=\"chat\"} 1",
    "dashgate_tenant_in_flight{tenant=\"acme\",kind=\"requests\"} 4",
    "dashgate_tenant_in_flight{tenant=\"acme\",kind=\"tasks\"} 9",
    "dashgate_requests_in_flight{operation=\"submit\"} 0",
    "dashgate_request_duration_seconds_count{operation=\"chat\"} 1",
    "dashgate_overhead_seconds_bucket{operation=\"chat\",le=\"0.00005\"} 1",
    "dashgate_bytes_total{direction=\"in\"} 7",
    "dashgate_bytes_total{direction=\"out\"} 9",
    "dashgate_upstream_requests_total{account=\"main\",operation=\"chat\",code=\"200\"} 1",
    "dashgate_upstream_requests_total{account=\"main\",operation=\"chat\",code=\"none\"} 1",
    "dashgate_upstream_duration_seconds_count{account=\"main\",operation=\"chat\"} 2",
    "dashgate_upstream_throttled_total{account=\"main\",code=\"Throttling.RateQuota\"} 1",
    "dashgate_unread_submits_total{account=\"main\"} 0",
    "dashgate_spend_total{tenant=\"acme\"} 2.500000001",
    "dashgate_budget_used_ratio{tenant=\"acme\",period=\"month\"} 0.875",
    "dashgate_prepaid_balance{tenant=\"acme\"} -2.5",
    "dashgate_unpriced_total{model=\"wan2.7-*\"} 1",
    "dashgate_account_cooldown{account=\"main\",cause=\"unreachable\"} 1",
    "dashgate_orphans{account=\"main\"} 2",
    "dashgate_leader{account=\"main\"} 1",
    "dashgate_leader{account=\"other\"} 0",
    "dashgate_replicas 3",
    "dashgate_store_lag_seconds 0.25",
    "dashgate_task_duration_seconds_bucket{model=\"wan2.7-*\",le=\"60\"} 0",
    "dashgate_usage_units_total{tenant=\"acme\",model=\"wan2.7-*\",unit=\"video_second\",class=\"720P\"} 10.04",
    "dashgate_usage_unread_total{model=\"wan2.7-*\"} 1",
    "dashgate_usage_unread_total{model=\"other\"} 0",
    "dashgate_config_reloads_total{result=\"ok\"} 3",
    "dashgate_config_reloads_total{result=\"rejected\"} 4",
    "dashgate_config_hash 9007199254740991",
    "dashgate_store_up 1",
    "dashgate_connections 1",
    "dashgate_tls_handshake_failures_total 1",
    "dashgate_access_log_dropped_total 5",
    "dashgate_diagnostics_dropped_total 6",
];

#[test]
fn what_was_counted_stands_on_the_page() {
    let metrics = Arc::<Metrics>::default();
    metrics.count_poll(PollServed::Stale);
    metrics.completion_lag.observe(0.3);
    let mount = metrics.mount(&"/wan".into());
    mount.count_request(Operation::Chat, Some(StatusCode::OK), Outcome::Answered);
    mount.count_request(Operation::Chat, None, Outcome::Abandoned);
    metrics.no_mount.count_request(
        Operation::Unlisted,
        Some(StatusCode::NOT_FOUND),
        Outcome::Rejected(Reason::NoMount),
    );
    let tenant = metrics.tenant(&"acme".into(), 0);
    tenant.count_request(
        Operation::Chat,
        Some(StatusCode::TOO_MANY_REQUESTS),
        Outcome::Rejected(Reason::Rate),
    );
    metrics.count_exchange_start(Operation::Chat);
    metrics.observe_durations(Operation::Chat, Duration::from_millis(30), Duration::from_micros(40));
    metrics.count_body_bytes(7, 9);
    let account = metrics.account(&"main".into());
    account.start_attempt(Operation::Chat, Instant::now()).answered(StatusCode::OK, Instant::now());
    drop(account.start_attempt(Operation::Chat, Instant::now()));
    account.count_throttled(Throttling::RateQuota);
    account.count_error(Operation::Submit, "InternalError.Algo.Unheard");
    account.note_clock_skew(-1_500, 30_000);
    let model = metrics.model(&"wan2.7-*".into());
    model.task_durations.observe(61.0);
    tenant.count_use(&model, &Units::from_iter([(Unit::VideoSecond, 10_040)]), "720P");
    model.count_unread_use();
    model.count_end("FAILED", "InternalError.Timeout");
    model.count_unpriced_use();
    for nanos in [2_500_000_000, 1, -7] {
        tenant.count_spend(nanos);
    }
    tenant.count_delivery(DeliveryResult::GivenUp);
    let connected = metrics.count_connection();
    metrics.count_failed_handshake();
    let text = metrics.text(&ScrapeFigures {
        tasks: vec![("pending", 1), ("running", 2)],
        old_tasks: 1,
        cooldowns: vec![("main".into(), RefusalCause::Unreachable, 1)],
        orphans: vec![("main".into(), 2)],
        leaders: vec![("main".into(), true), ("other".into(), false)],
        replicas: 3,
        store_lag: Duration::from_millis(250),
        budgets: vec![("acme".into(), "month", 0.875)],
        balances: vec![("acme".into(), -2.5)],
        in_flight: vec![("acme".into(), "requests", 4), ("acme".into(), "tasks", 9)],
        webhooks: vec![("acme".into(), 7, 1.5)],
        lines_dropped: 5,
        diagnostics_dropped: 6,
        reloads: (3, 4),
        config_hash: (1 << 53) - 1,
        is_store_up: true,
    });
    for line in COUNTED {
        assert!(has(&text, line), "{line} is not in\n{text}");
    }
    assert!(
        text.contains("dashgate_build_info{version=\"") && text.contains("process_resident_memory_bytes ")
    );
    drop(connected);
    assert!(has(&metrics.text(&ScrapeFigures::default()), "dashgate_connections 0"));
}

#[test]
fn series_go_on_while_somebody_holds_them_and_then_are_gone() {
    let metrics = Metrics::default();
    let count = |tenant: &TenantSeries| {
        tenant.count_request(Operation::Chat, Some(StatusCode::OK), Outcome::Answered)
    };
    let line = |count: u32| {
        format!("dashgate_tenant_requests_total{{tenant=\"one\",operation=\"chat\",code=\"200\"}} {count}")
    };
    let before = metrics.tenant(&"one".into(), 0);
    count(&before);
    let after = metrics.tenant(&"one".into(), 0);
    drop(before);
    count(&after);
    assert!(has(&metrics.text(&ScrapeFigures::default()), &line(2)));
    drop(after);
    assert!(!metrics.text(&ScrapeFigures::default()).contains("tenant=\"one\""));
    for number in 0..10_000 {
        metrics.tenant(&format!("t{number}").into(), 0);
    }
    assert!(metrics.tenants.len() < 10, "{} are kept", metrics.tenants.len());
    count(&metrics.tenant(&"late".into(), MOST_TENANTS));
    count(&metrics.tenant(&"later".into(), MOST_TENANTS + 1));
    assert!(has(&metrics.text(&ScrapeFigures::default()), &line(2).replace("\"one\"", "\"other\"")));
}

#[test]
fn a_clock_that_is_wrong_is_told_once_until_it_is_right_by_a_margin() {
    let account = Metrics::default().account(&"main".into());
    let news = [0, 29_000, -31_000, 29_500, -30_500, 22_000, 31_000, 0];
    let news = news.map(|skew| account.note_clock_skew(skew, 30_000));
    assert_eq!(news, [None, None, Some(true), None, None, Some(false), Some(true), Some(false)]);
}
