//! Ingresses: they lead to the base's Service, and have the settings of the nginx that the tests run.

use std::collections::BTreeMap;
use std::fs;

use dashgate::config::Config;
use serde_json::{Value, json};

use super::kubernetes::{checked, of_the_guide, one, rendered};
use super::tools::root;

fn shipped(path: &str) -> String {
    let path = root().join("deploy").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifests(path: &str) -> Vec<Value> {
    checked(&shipped(&format!("kubernetes/{path}"))).1
}

fn annotations(ingress: &Value, prefix: &str) -> BTreeMap<String, String> {
    let all = ingress["metadata"]["annotations"].as_object().expect("annotations");
    let of_it = all.iter().filter_map(|(name, value)| {
        Some((name.strip_prefix(prefix)?.to_owned(), value.as_str().expect("a text").to_owned()))
    });
    of_it.collect()
}

#[test]
fn each_leads_to_the_service_of_the_base() {
    let (_, base) = rendered("base");
    let service = one(&base, "Service");
    for path in ["ingress/nginx/ingress.yaml", "ingress/alb/ingress.yaml"] {
        let ingresses = manifests(path);
        let ingress = one(&ingresses, "Ingress");
        let rule = &ingress["spec"]["rules"][0];
        assert_eq!(rule["host"], json!("dashgate.example.com"), "the host that the guide's command replaces");
        let backend = &rule["http"]["paths"][0]["backend"]["service"];
        assert_eq!(backend["name"], service["metadata"]["name"]);
        assert_eq!(backend["port"]["name"], service["spec"]["ports"][0]["name"]);
        assert_eq!(rule["http"]["paths"][0]["path"], json!("/"), "the path stays as it is");
    }
}

#[test]
fn an_nginx_in_a_cluster_is_set_as_the_one_on_a_host() {
    let ingresses = manifests("ingress/nginx/ingress.yaml");
    let set = annotations(one(&ingresses, "Ingress"), "nginx.ingress.kubernetes.io/");
    let file = shipped("nginx/dashgate.conf");
    let directive = |name: &str, after: &str| {
        let (_, file) = file.split_once(after).expect("a part of the file");
        let line = file.lines().find_map(|line| line.trim().strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}")).trim_end_matches(';').to_owned()
    };
    let expected = [
        ("proxy-body-size", directive("client_max_body_size", "server {")),
        ("proxy-request-buffering", directive("proxy_request_buffering", "server {")),
        ("proxy-buffering", directive("proxy_buffering", "server {")),
        ("proxy-http-version", directive("proxy_http_version", "server {")),
        ("proxy-next-upstream", directive("proxy_next_upstream", "server {")),
        ("proxy-next-upstream-tries", directive("proxy_next_upstream_tries", "server {")),
        // One value for all, that of WebSockets.
        ("proxy-read-timeout", seconds(&directive("proxy_read_timeout", "/api-ws/"))),
        ("proxy-send-timeout", seconds(&directive("proxy_send_timeout", "/api-ws/"))),
    ];
    assert_eq!(set, expected.map(|(name, value)| (name.to_owned(), value)).into());
    assert!(!file.lines().any(|line| !line.trim().starts_with('#') && line.contains("non_idempotent")));
    let usual = server_timeouts("");
    let read: u64 = seconds(&directive("proxy_read_timeout", "server {")).parse().expect("seconds");
    assert!(read > usual.upstream.as_secs(), "nginx gives up before the gateway, which says what went wrong");
}

#[test]
fn a_load_balancer_waits_longer_than_the_gateway() {
    let cluster = manifests("ingress/alb/albconfig.yaml");
    let config = one(&cluster, "AlbConfig");
    let class = one(&cluster, "IngressClass");
    assert_eq!(class["spec"]["parameters"]["name"], config["metadata"]["name"]);
    let ingresses = manifests("ingress/alb/ingress.yaml");
    let ingress = one(&ingresses, "Ingress");
    assert_eq!(ingress["spec"]["ingressClassName"], class["metadata"]["name"]);
    let listener = &config["spec"]["listeners"][0];
    let ports = &annotations(ingress, "alb.ingress.kubernetes.io/")["listen-ports"];
    let ports: Value = serde_json::from_str(ports).expect("JSON");
    assert_eq!(ports, json!([{"HTTPS": listener["port"]}]));
    assert_eq!(listener["gzipEnabled"], json!(false));
    // Bounds of ALB.
    let (request, idle) = (listener["requestTimeout"].as_u64(), listener["idleTimeout"].as_u64());
    let (request, idle) = (request.expect("seconds"), idle.expect("seconds"));
    assert!(request <= 180 && idle <= 60, "{listener}");
    let guide = shipped("guide/en/deploying.md");
    let (_, behind) = guide.split_once("[server.timeouts]\nupstream = ").expect("a setting");
    let of_the_guide = server_timeouts(&format!("upstream = {}", behind.lines().next().expect("a line")));
    assert!(of_the_guide.upstream.as_secs() < request, "ALB gives up before the gateway");
    assert!(of_the_guide.idle.as_secs() > idle, "the gateway closes a connection that ALB still uses");
}

#[test]
fn a_snapshot_is_of_the_claim_of_the_base_and_becomes_one_like_it() {
    let (_, base) = rendered("base");
    let claim = one(&base, "PersistentVolumeClaim");
    let snapshots = manifests("backup/snapshot.yaml");
    let snapshot = one(&snapshots, "VolumeSnapshot");
    assert_eq!(snapshot["spec"]["source"]["persistentVolumeClaimName"], claim["metadata"]["name"]);
    let restored = manifests("backup/restored.yaml");
    let mut restored = one(&restored, "PersistentVolumeClaim").clone();
    let source = restored["spec"].as_object_mut().expect("a claim").remove("dataSource").expect("a source");
    assert_eq!(source["kind"], snapshot["kind"]);
    assert_eq!(restored["metadata"]["name"], claim["metadata"]["name"]);
    assert_eq!(restored["spec"], claim["spec"]);
}

#[test]
fn the_operator_finds_what_the_guide_s_kustomization_labels() {
    let manifests = of_the_guide(|text| text.replace("/kubernetes/base ", "/kubernetes/monitoring "));
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        let labels = &one(&manifests, kind)["metadata"]["labels"];
        assert_eq!(labels["release"], json!("kube-prometheus-stack"), "{kind}: {labels}");
    }
    let labels = &one(&manifests, "Deployment")["metadata"]["labels"];
    assert!(labels["release"].is_null(), "{labels}");
}

/// `60s` or `1h` in seconds.
fn seconds(text: &str) -> String {
    humantime::parse_duration(text).expect("a time").as_secs().to_string()
}

/// The gateway's timeouts with a line in their table.
fn server_timeouts(line: &str) -> dashgate::config::Timeouts {
    let text = format!(
        "[server.timeouts]\n{line}\n[[accounts]]\nname = \"a\"\nbase_url = \"https://h\"\nkeys = [\"k\"]\n[[tenants]]\nname = \"t\"\n"
    );
    let loaded = Config::parse(&text, std::path::Path::new("."), &|_| None);
    loaded.unwrap_or_else(|faults| panic!("{faults:?}")).config.settings.server.timeouts
}
