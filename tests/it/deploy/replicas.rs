//! Three replicas on Kubernetes: nothing that a lost node, an update or a database that is away takes out at once.

use std::fs;
use std::path::Path;

use dashgate::config::Config;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::kubernetes::{of_the_guide, one, rendered};

#[test]
fn nothing_is_left_of_what_only_one_replica_has() {
    for (overlay, others) in [("replicas", 0), ("replicas/monitored", 3)] {
        let (_, manifests) = rendered(overlay);
        let kinds: Vec<&str> = manifests.iter().filter_map(|manifest| manifest["kind"].as_str()).collect();
        assert_eq!(kinds.len(), 7 + others, "{overlay}: {kinds:?}");
        for kind in ["PersistentVolumeClaim", "HorizontalPodAutoscaler"] {
            assert!(!kinds.contains(&kind), "{overlay}: a {kind} is of one replica");
        }
    }
}

#[test]
fn an_operator_s_secrets_take_the_place_of_the_empty_ones() {
    let manifests = of_the_guide(|text| {
        text.replace("/kubernetes/base ", "/kubernetes/replicas ")
            .replace("secrets/acme.key]", "secrets/acme.key, secrets/db.password]")
    });
    assert_eq!(one(&manifests, "Deployment")["spec"]["replicas"], json!(3));
    let secrets = one(&manifests, "Secret")["data"].as_object().expect("data");
    assert_eq!(secrets.len(), 4, "{secrets:?}");
    assert!(secrets.values().all(|value| *value != json!("")), "{secrets:?}");
}

#[test]
fn an_update_and_a_lost_node_leave_replicas_that_serve() {
    let (_, manifests) = rendered("replicas");
    let deployment = &one(&manifests, "Deployment")["spec"];
    assert_eq!(deployment["replicas"], json!(3));
    assert_eq!(
        deployment["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})
    );
    assert_eq!(one(&manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"], json!(1));
    let pod = &deployment["template"]["spec"];
    let spread = &pod["topologySpreadConstraints"][0];
    assert_eq!(spread["topologyKey"], json!("kubernetes.io/hostname"));
    assert_eq!(spread["whenUnsatisfiable"], json!("DoNotSchedule"));
    // The pod tolerates the lost node for 30 s, so only the taint without a toleration leaves it out.
    assert_eq!(spread["nodeTaintsPolicy"], json!("Honor"));
    assert_eq!(spread["labelSelector"]["matchLabels"], deployment["selector"]["matchLabels"]);
    let tolerations = pod["tolerations"].as_array().expect("tolerations");
    assert!(tolerations.iter().all(|one| one["effect"] == json!("NoExecute")), "{tolerations:?}");
}

#[test]
fn a_database_that_is_away_ends_no_pod() {
    let (_, manifests) = rendered("replicas");
    let container = &one(&manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    for probe in ["startupProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["path"], json!("/livez"), "{probe}");
    }
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], json!("/readyz"));
}

#[test]
fn a_pod_leaves_the_balancer_before_it_drains() {
    let (_, manifests) = rendered("replicas");
    let pod = &one(&manifests, "Deployment")["spec"]["template"]["spec"];
    let before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("seconds");
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    let (_, alone) = rendered("base");
    let of_one =
        one(&alone, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
    assert!(before > 0 && grace - before >= of_one.expect("seconds"), "{before} s of {grace} s");
}

#[test]
fn the_database_is_the_one_that_the_configuration_names() {
    let (_, manifests) = rendered("replicas");
    let text = one(&manifests, "ConfigMap")["data"]["dashgate.toml"].as_str().expect("a file");
    let config: toml::Table = toml::from_str(text).expect("TOML");
    let url = config["store"]["url"].as_str().expect("a URL");
    assert!(url.ends_with("sslmode=verify-full"), "{url}");
    let policies = manifests.iter().filter(|manifest| manifest["kind"] == json!("NetworkPolicy"));
    let to_database = policies.flat_map(|policy| policy["spec"]["egress"].as_array().into_iter().flatten());
    let to_database: Vec<&Value> =
        to_database.filter(|rule| rule["ports"] == json!([{"port": 5432}])).collect();
    let [rule] = to_database[..] else { panic!("one rule: {to_database:?}") };
    let peer = &rule["to"][0];
    let label = |selector: &str, key: &str| peer[selector]["matchLabels"][key].as_str().expect("a label");
    let namespace = label("namespaceSelector", "kubernetes.io/metadata.name");
    let name = label("podSelector", "app.kubernetes.io/name");
    assert!(url.contains(&format!("@{name}.{namespace}/")), "{url} is not {name} in {namespace}");
}

#[test]
fn the_shipped_configuration_is_one_that_the_gateway_takes() {
    let (_, manifests) = rendered("replicas");
    let secrets = one(&manifests, "Secret")["data"].as_object().expect("data");
    let folder = TempDir::new().expect("a folder");
    for name in secrets.keys() {
        fs::write(folder.path().join(name), format!("0123456789abcdef-{name}\n")).expect("written");
    }
    let text = one(&manifests, "ConfigMap")["data"]["dashgate.toml"].as_str().expect("a file");
    let text = text.replace("/run/secrets/dashgate", &folder.path().display().to_string());
    let loaded = Config::parse(&text, Path::new("/etc/dashgate"), &|_| None);
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
}

#[test]
fn names_are_asked_for_on_the_node_too() {
    let (_, policy) = rendered("base");
    let egress = &one(&policy, "NetworkPolicy")["spec"]["egress"];
    let to_dns = egress.as_array().into_iter().flatten().find(|rule| rule["ports"][0]["port"] == json!(53));
    let peers = to_dns.expect("a rule")["to"].as_array().expect("peers");
    // NodeLocal DNSCache: at an address of the node's own, at the address of the cluster's Service, and as pods.
    for cidr in ["169.254.20.10/32", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] {
        assert!(peers.contains(&json!({"ipBlock": {"cidr": cidr}})), "{cidr}: {peers:?}");
    }
    let pods = &peers[0]["podSelector"]["matchExpressions"][0]["values"];
    assert_eq!(*pods, json!(["kube-dns", "node-local-dns"]));
    let ports = &to_dns.expect("a rule")["ports"];
    assert_eq!(*ports, json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]));
}
