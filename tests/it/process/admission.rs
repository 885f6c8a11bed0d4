//! Cost of admission in processor time per request: limits on against off, in one process, in turns.
//! DASHGATE_FIGURES=1 takes enough requests to tell; run it alone, with --nocapture.

use std::time::Duration;

use super::{Process, program};
use crate::harness::calls::generate;
use crate::harness::{Client, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, processor_time};

const HIGH: &str = "requests_per_second = 1000000, concurrent_requests = 1000";

#[test]
fn admission_costs_little_of_a_request() {
    let is_thorough = std::env::var_os("DASHGATE_FIGURES").is_some();
    let (rounds, requests) = if is_thorough { (40, 2_000) } else { (3, 50) };
    let tenants = [
        ("none", String::new()),
        ("of the key", format!("limits = {{ {HIGH} }}")),
        ("of key and tenant", format!("limits = {{ {HIGH} }}\ntenant_limits = {{ {HIGH} }}")),
        (
            "and a list of models",
            format!("models = [\"qwen*\"]\nlimits = {{ {HIGH} }}\ntenant_limits = {{ {HIGH} }}"),
        ),
    ];
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut text = format!(
        "server = {{ listen = \"127.0.0.1:0\", workers = 1 }}\nadmin = {{ listen = \"127.0.0.1:0\" }}\n\
         accounts = [{{ name = \"main\", base_url = \"http://{}\", keys = [\"{UPSTREAM_KEY}\"] }}]\n",
        upstream.address
    );
    for (number, (_, limits)) in tenants.iter().enumerate() {
        let key = format!("[{{ id = \"k{number}\", key = \"{TENANT_KEY}-{number}\" }}]");
        text += &format!("[[tenants]]\nname = \"t{number}\"\nkeys = {key}\n{limits}\n");
    }
    std::fs::write(folder.path().join("dashgate.toml"), text).expect("written");
    let mut process = Process::start(program(folder.path()).args(["serve", "-c", "dashgate.toml"]));
    let address = process.address();
    let mut client = Client::connect(address);
    let mut total = [Duration::ZERO; 4];
    for _ in 0..rounds {
        for (number, total) in total.iter_mut().enumerate() {
            let request =
                generate(r#"{"model":"qwen-plus"}"#).replace(TENANT_KEY, &format!("{TENANT_KEY}-{number}"));
            let before = processor_time(process.child.id());
            for _ in 0..requests {
                let got = client.ask(&request);
                assert_eq!((got.status(), got.field("ratelimit-limit").is_some()), (200, number > 0));
            }
            *total += processor_time(process.child.id()) - before;
        }
    }
    let each = total.map(|total| total.as_secs_f64() * 1e6 / f64::from(rounds * requests));
    for ((limits, _), each_limited) in tenants.iter().zip(each) {
        println!(
            "limits: {limits}: {each_limited:.2} us of processor time a request, {:.3} of none",
            each_limited / each[0]
        );
    }
}
