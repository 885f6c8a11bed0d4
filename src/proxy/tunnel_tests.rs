use super::*;
use crate::config::{AsyncHeader, Billing, Limits, UsageOption, WebhookSettings};
use crate::dashscope::operation::Groups;
use crate::net::networks::Networks;
use crate::telemetry::metrics::{Metrics, Reason};
use crate::tenant::directory::Tenant;
use tokio::io::{DuplexStream, duplex};

fn tenant() -> Tenant {
    Tenant {
        series: Metrics::default().tenant(&"one".into(), 0),
        running: std::sync::Arc::default(),
        name: "one".into(),
        enabled: true,
        async_header: AsyncHeader::Require,
        stream_usage: UsageOption::AsSent,
        accounts: Vec::new(),
        allow: Groups::ALL,
        weight: 1,
        models: vec!["cosyvoice-*".into()],
        limits: Limits::default(),
        tenant_limits: Limits::default(),
        addresses: Networks::default(),
        billing: Billing::default(),
        tokens: None,
        is_for_browsers: false,
        browser_models: Vec::new(),
        webhooks: WebhookSettings::default(),
    }
}

/// A masked frame of text; the mask is 0.
fn run_task(model: &str) -> Vec<u8> {
    let text = format!(r#"{{"header":{{"action":"run-task"}},"payload":{{"model":"{model}"}}}}"#);
    let length = u8::try_from(text.len()).expect("short") | 0x80;
    [&[0x81, length, 0, 0, 0, 0], text.as_bytes()].concat()
}

fn refusal() -> Vec<u8> {
    websocket::close(1008, "Model access denied: this key may not use other.")
}

async fn carried<F: Future>(script: impl FnOnce(DuplexStream, DuplexStream) -> F) -> (Outcome, F::Output) {
    let (client, inner_client) = duplex(1 << 16);
    let (upstream, inner_upstream) = duplex(1 << 16);
    let tenant = tenant();
    let tenant = CurrentTenant::new(&tenant, None);
    let judge = SocketJudge { tenant, caller: None, names_models: true, money: None };
    let carry = carry_inspected(inner_client, inner_upstream, Duration::from_secs(60), &judge);
    tokio::join!(carry, script(client, upstream))
}

async fn rest(of: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    of.read_to_end(&mut rest).await.expect("read");
    rest
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_the_end_of_the_upstreams_frame() {
    let (outcome, (received, seen)) = carried(|mut client, mut upstream| async move {
        client.write_all(&run_task("cosyvoice-v2")).await.expect("written");
        upstream.write_all(b"\x82\x05ab").await.expect("written");
        let mut begun = [0; 4];
        client.read_exact(&mut begun).await.expect("read");
        client.write_all(&run_task("other")).await.expect("written");
        tokio::time::sleep(Duration::from_secs(1)).await;
        upstream.write_all(b"cde\x82\x01z").await.expect("written");
        (rest(&mut client).await, rest(&mut upstream).await)
    })
    .await;
    assert_eq!(outcome, Outcome::Rejected(Reason::ModelNotAllowed));
    assert_eq!(received, [b"cde", &refusal()[..]].concat());
    assert_eq!(seen, run_task("cosyvoice-v2"));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_end_is_cut_and_no_close_stands_in_it() {
    let (outcome, (received, _upstream)) = carried(|mut client, mut upstream| async move {
        upstream.write_all(b"\x82\x05ab").await.expect("written");
        let mut begun = [0; 4];
        client.read_exact(&mut begun).await.expect("read");
        client.write_all(&run_task("other")).await.expect("written");
        (rest(&mut client).await, upstream)
    })
    .await;
    assert_eq!((outcome, received), (Outcome::Rejected(Reason::ModelNotAllowed), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_goes_on_talking_is_left() {
    let (outcome, (received, _upstream)) = carried(|mut client, upstream| async move {
        client.write_all(&run_task("other")).await.expect("written");
        while client.write_all(&[0; 1024]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        (rest(&mut client).await, upstream)
    })
    .await;
    assert_eq!((outcome, received), (Outcome::Rejected(Reason::ModelNotAllowed), refusal()));
}

#[tokio::test]
async fn a_talk_without_a_refusal_ends_as_any_other() {
    let (outcome, (received, seen)) = carried(|mut client, mut upstream| async move {
        client.write_all(&run_task("cosyvoice-v2")).await.expect("written");
        client.shutdown().await.expect("shut");
        let seen = rest(&mut upstream).await;
        upstream.write_all(b"\x82\x05ab").await.expect("written");
        drop(upstream);
        (rest(&mut client).await, seen)
    })
    .await;
    assert_eq!((outcome, received), (Outcome::Tunnelled, b"\x82\x05ab".to_vec()));
    assert_eq!(seen, run_task("cosyvoice-v2"));
}
