//! Kubernetes overlays: each renders, fits Kubernetes' schemas, and agrees with the gateway that it runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dashgate::config::Config;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::tools::{installed, root, run};

#[test]
fn every_overlay_renders_and_fits_the_schemas() {
    let overlays = [
        ("base", 8, 0),
        ("monitoring", 11, 2),
        ("sidecar", 4, 0),
        ("replicas", 7, 0),
        ("replicas/monitored", 10, 2),
    ];
    for (overlay, least, operators) in overlays {
        let (text, manifests) = rendered(overlay);
        assert!(manifests.len() >= least, "{overlay}: {}", manifests.len());
        let modules = installed("node");
        let mut validate = Command::new("node");
        validate.args(["--preserve-symlinks", "--preserve-symlinks-main", "scripts/operator.mjs"]);
        let counted = run(validate.current_dir(modules), &text);
        assert_eq!(counted.trim(), operators.to_string(), "the operator's kinds in {overlay}");
    }
}

#[test]
fn the_shipped_configuration_is_one_that_the_gateway_takes() {
    let (_, manifests) = rendered("base");
    let config = one(&manifests, "ConfigMap")["data"]["dashgate.toml"].as_str().expect("a file");
    let secrets = one(&manifests, "Secret");
    let names: Vec<&String> =
        secrets["stringData"].as_object().or(secrets["data"].as_object()).expect("data").keys().collect();
    let folder = TempDir::new().expect("a folder");
    for name in &names {
        fs::write(folder.path().join(name), format!("0123456789abcdef-{name}\n")).expect("written");
        assert!(config.contains(&format!("/run/secrets/dashgate/{name}\"")), "{name} is not used");
    }
    let here = folder.path().display().to_string();
    let text = config.replace("/run/secrets/dashgate", &here);
    let loaded = Config::parse(&text, Path::new("/etc/dashgate"), &|_| None);
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);

    // The shipped manifest can't be run by mistake: its secrets are empty.
    for name in &names {
        fs::write(folder.path().join(name), "").expect("written");
    }
    let faults = Config::parse(&text, Path::new("/etc/dashgate"), &|_| None).expect_err("no secrets");
    assert_eq!(faults.len(), names.len(), "{faults:?}");

    let pod = &one(&manifests, "Deployment")["spec"]["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(
        Duration::from_secs(grace) > loaded.config.settings.server.timeouts.drain,
        "a drain is cut after {grace} s"
    );
    let container = &pod["containers"][0];
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| Some((port["name"].as_str()?, port["containerPort"].as_u64()?)))
        .collect();
    assert_eq!(ports["http"], u64::from(loaded.config.settings.server.listen.port()));
    assert_eq!(ports["admin"], u64::from(loaded.config.settings.admin.listen.port()));
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let is_mounted = |path: &Path| {
        let below = |mount: &Value| mount["mountPath"].as_str().is_some_and(|mount| path.starts_with(mount));
        mounts.iter().any(below)
    };
    let store = loaded.config.settings.store.path().expect("a path");
    assert!(is_mounted(store), "{store:?}");
    assert!(is_mounted(Path::new("/run/secrets/dashgate")) && is_mounted(Path::new("/etc/dashgate")));
}

#[test]
fn the_guide_s_kustomization_puts_secrets_and_image_in() {
    let manifests = of_the_guide(|text| text);
    let secret = one(&manifests, "Secret");
    assert_eq!(
        secret["metadata"]["name"],
        json!("dashgate"),
        "no hash, or a change would restart the gateway"
    );
    let filled =
        secret["data"].as_object().expect("data").values().filter(|value| **value != json!("")).count();
    assert_eq!(filled, 3, "{secret}");
    let pod = &one(&manifests, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], json!("registry.example.com/dashgate:0.1.0"));
}

/// Manifests of the guide's kustomization, after a change of its text.
pub(super) fn of_the_guide(change: impl Fn(String) -> String) -> Vec<Value> {
    let guide = fs::read_to_string(root().join("deploy/guide/en/deploying.md")).expect("the guide");
    let (_, rest) = guide.split_once("cat > kustomization.yaml <<'END'\n").expect("a kustomization");
    let (kustomization, _) = rest.split_once("\nEND\n").expect("its end");
    // Kustomize takes no absolute paths.
    let folder = TempDir::new().expect("a folder");
    let here = folder.path().join("mine");
    fs::create_dir_all(here.join("secrets")).expect("a folder");
    for name in ["dashscope.key", "admin.token", "acme.key", "db.password"] {
        fs::write(here.join("secrets").join(name), "0123456789abcdef").expect("written");
    }
    let up = "../".repeat(here.canonicalize().expect("a folder").components().count() - 1);
    let below = root().strip_prefix("/").expect("an absolute path").display();
    let text = change(kustomization.to_owned()).replace("../deploy/", &format!("{up}{below}/deploy/"));
    fs::write(here.join("kustomization.yaml"), text).expect("written");
    rendered_from(&here).1
}

#[test]
fn no_container_has_more_rights_than_it_needs() {
    for overlay in ["base", "sidecar", "replicas"] {
        let (_, manifests) = rendered(overlay);
        let pods: Vec<&Value> = manifests
            .iter()
            .map(|one| &one["spec"]["template"]["spec"])
            .filter(|pod| !pod.is_null())
            .collect();
        assert!(!pods.is_empty());
        for pod in pods {
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], json!(true), "{pod}");
            assert_eq!(security["seccompProfile"]["type"], json!("RuntimeDefault"), "{pod}");
            assert_eq!(pod["automountServiceAccountToken"], json!(false), "{pod}");
            let containers = ["containers", "initContainers"]
                .map(|kind| pod[kind].as_array().cloned().unwrap_or_default());
            for container in containers.iter().flatten() {
                let security = &container["securityContext"];
                assert_eq!(security["readOnlyRootFilesystem"], json!(true), "{container}");
                assert_eq!(security["allowPrivilegeEscalation"], json!(false), "{container}");
                assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{container}");
            }
        }
    }
}

#[test]
fn the_embedded_store_belongs_to_one_replica() {
    let (_, manifests) = rendered("base");
    let deployment = &one(&manifests, "Deployment")["spec"];
    assert_eq!((&deployment["replicas"], &deployment["strategy"]["type"]), (&json!(1), &json!("Recreate")));
    assert_eq!(one(&manifests, "HorizontalPodAutoscaler")["spec"]["maxReplicas"], json!(1));
    // With one replica, a `maxUnavailable` of 0 would keep the node from being drained.
    assert_eq!(one(&manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"], json!(1));
    let claim = &one(&manifests, "PersistentVolumeClaim")["spec"];
    assert_eq!(claim["accessModes"], json!(["ReadWriteOncePod"]));
    let tolerations = deployment["template"]["spec"]["tolerations"].as_array().expect("tolerations");
    let given_up: Vec<_> = tolerations.iter().map(|one| (&one["key"], &one["tolerationSeconds"])).collect();
    let keys = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(Value::from);
    assert_eq!(given_up, [(&keys[0], &json!(30)), (&keys[1], &json!(30))]);
}

#[test]
fn only_the_sidecar_has_the_account_s_key() {
    let (_, manifests) = rendered("sidecar");
    for kind in ["Job", "Deployment"] {
        let pod = &one(&manifests, kind)["spec"]["template"]["spec"];
        let all = ["initContainers", "containers"]
            .map(|kind| pod[kind].as_array().cloned().unwrap_or_default())
            .concat();
        let (sidecars, apps): (Vec<&Value>, Vec<&Value>) =
            all.iter().partition(|one| one["name"] == json!("dashgate"));
        let [sidecar] = sidecars[..] else { panic!("one sidecar: {pod}") };
        assert!(sidecar["envFrom"].to_string().contains("dashscope"), "{sidecar}");
        for app in apps {
            assert!(app["envFrom"].is_null(), "{app}");
            assert!(app["env"].to_string().contains("http://127.0.0.1:8080/api/v1"), "{app}");
        }
    }
}

#[test]
fn the_sidecar_serves_an_application_that_is_not_changed() {
    let (text, _) = rendered("sidecar");
    for kind in ["Job", "Deployment"] {
        let mut both = Command::new(installed("python/bin/python"));
        both.arg(root().join("tests/deploy/sidecar.py")).arg(env!("CARGO_BIN_EXE_dashgate")).arg(kind);
        let said = run(&mut both, &text);
        assert!(
            said.contains("base URL: http://127.0.0.1:8080/api/v1") && said.contains("SUCCEEDED"),
            "{said}"
        );
    }
}

/// Manifests as JSON text and as values, after the check against Kubernetes' schemas.
pub(super) fn rendered(overlay: &str) -> (String, Vec<Value>) {
    rendered_from(&root().join("deploy/kubernetes").join(overlay))
}

fn rendered_from(folder: &Path) -> (String, Vec<Value>) {
    checked(&run(Command::new("kubectl").arg("kustomize").arg(folder), ""))
}

/// Manifests of a YAML text as JSON text and as values, after the check against Kubernetes' schemas.
pub(super) fn checked(yaml: &str) -> (String, Vec<Value>) {
    let python = installed("python/bin/python");
    let text = run(Command::new(python).arg(root().join("tests/deploy/manifests.py")), yaml);
    let mut parsed: Value = serde_json::from_str(&text).expect("JSON");
    let Value::Array(documents) = parsed["documents"].take() else { panic!("documents: {text}") };
    (text, documents)
}

pub(super) fn one<'m>(manifests: &'m [Value], kind: &str) -> &'m Value {
    let mut found = manifests.iter().filter(|manifest| manifest["kind"] == json!(kind));
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}
