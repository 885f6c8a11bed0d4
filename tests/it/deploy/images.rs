//! Images: each place names the image by the version of this program, the image tells whether it is well, and what it
//! prints is rotated.

use std::fs;

use serde_json::json;

use super::compose::compose;
use super::kubernetes::{one, rendered};
use super::tools::root;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn each_image_has_the_tag_that_the_guide_builds() {
    let tagged = format!("dashgate:{VERSION}");
    for overlay in ["base", "replicas"] {
        let (_, manifests) = rendered(overlay);
        let pod = &one(&manifests, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], json!(tagged), "{overlay}");
    }
    let (_, manifests) = rendered("sidecar");
    let native = &one(&manifests, "Job")["spec"]["template"]["spec"]["initContainers"][0]["image"];
    let classic = &one(&manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!([native, classic], [&json!(tagged); 2]);
    for service in ["gateway-1", "gateway-2"] {
        let image = compose()["services"][service]["image"].clone();
        assert_eq!(image, json!(format!("${{DASHGATE_IMAGE:-{tagged}}}")));
    }
    let file = shipped("container/Containerfile");
    assert!(file.contains(&format!("opencontainers.image.version=\"{VERSION}\"")), "{file}");
    assert!(file.contains(&format!(" -t {tagged} .")), "{file}");
    let guide = shipped("guide/en/deploying.md") + &shipped("guide/en/upgrading.md");
    let words: Vec<&str> = guide.split(|letter: char| letter.is_whitespace() || letter == '`').collect();
    let image = |word: &&str| {
        let (_, tag) = word.trim_start_matches("registry.example.com/").split_once("dashgate:")?;
        // A volume has a path behind its name.
        tag.starts_with(|letter: char| letter.is_ascii_alphanumeric()).then(|| tag.to_owned())
    };
    let tags: Vec<String> = words.iter().filter_map(image).collect();
    assert!(tags.len() > 5 && tags.iter().all(|tag| tag == VERSION), "{tags:?}");
}

#[test]
fn an_image_tells_whether_its_gateway_is_ready() {
    let file = shipped("container/Containerfile");
    let check = file.lines().find(|line| line.starts_with("HEALTHCHECK ")).expect("a check");
    assert!(check.ends_with(r#" CMD ["/usr/bin/dashgate", "health"]"#), "{check}");
    for service in ["gateway-1", "gateway-2"] {
        let test = compose()["services"][service]["healthcheck"]["test"].clone();
        assert_eq!(test, json!(["CMD", "dashgate", "health"]));
    }
}

#[test]
fn a_container_s_output_does_not_grow_for_ever() {
    for (name, service) in compose()["services"].as_object().expect("services") {
        let logging = &service["logging"];
        assert_eq!(logging["driver"], json!("json-file"), "{name}");
        assert!(logging["options"]["max-size"].is_string(), "{name}");
        assert!(logging["options"]["max-file"].as_str().is_some_and(|most| most != "1"), "{name}");
    }
}

fn shipped(path: &str) -> String {
    fs::read_to_string(root().join("deploy").join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
