use super::*;

fn settings(variables: &[(&str, &str)]) -> (Option<ExporterSettings>, Vec<&'static str>) {
    let read =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let (settings, faults) = ExporterSettings::from_environment(&read);
    (settings, faults.into_iter().map(|fault| fault.variable).collect())
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

#[test]
fn without_an_endpoint_there_is_nothing() {
    for variables in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
        &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
        &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
    ] {
        let (settings, faults) = settings(variables);
        assert!(settings.is_none() && faults.is_empty(), "{variables:?}");
    }
}

#[test]
fn what_would_send_spans_astray_turns_them_off() {
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://me:secret@collector"),
    ] {
        let (settings, faults) = settings(&[ENDPOINT, (variable, value)]);
        assert!(settings.is_none(), "{variable}={value}");
        assert_eq!(faults, [variable]);
    }
    let https = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector");
    let (settings, faults) = settings(&[https, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/not/there")]);
    assert!(settings.is_none() && faults == ["OTEL_EXPORTER_OTLP_CERTIFICATE"]);
}

/// A certificate without its key was left out without a word, so that the collector refused the spans; and faults named
/// variables that were not set.
#[test]
fn tls_faults_name_the_variable_that_was_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let (good, bad) = (folder.path().join("good.pem"), folder.path().join("bad.pem"));
    let issued = rcgen::generate_simple_self_signed(["collector".to_owned()]).expect("a certificate");
    std::fs::write(&good, issued.cert.pem() + &issued.signing_key.serialize_pem()).expect("written");
    std::fs::write(&bad, "no certificate").expect("written");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (good, bad) = (path(&good), path(&bad));
    let (certificate, key) = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY");
    let (traces_ca, ca) = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE");
    let endpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    for (variables, at_fault) in [
        (&[(certificate, &good)][..], certificate),
        (&[(key, &good)], key),
        (&[(certificate, &good), (key, &bad)], certificate),
        (&[(certificate, &bad), (key, &good)], certificate),
        (&[(traces_ca, &bad), (ca, &good)], traces_ca),
        (&[(ca, &bad)], ca),
    ] {
        let given = variables.iter().map(|(variable, file)| (*variable, file.as_str()));
        let all: Vec<_> = given.chain([(endpoint, "https://collector")]).collect();
        let (settings, faults) = settings(&all);
        assert!(settings.is_none(), "{variables:?}");
        assert_eq!(faults, [at_fault], "{variables:?}");
    }
    let whole = [(endpoint, "https://collector"), (certificate, &*good), (key, &*good), (ca, &*good)];
    assert!(settings(&whole).0.is_some_and(|settings| settings.tls.is_some()));
}

#[test]
fn endpoints_are_read_as_the_specification_has_them() {
    for (variable, url, authority, path, tls) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", "collector:4318", "/v1/traces", false),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/base/", "c:443", "/base/v1/traces", true),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/exact?x=1", "c:80", "/exact?x=1", false),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:4318", "[::1]:4318", "/", false),
    ] {
        let (settings, faults) = settings(&[(variable, url)]);
        let settings = settings.unwrap_or_else(|| panic!("{url}: {faults:?}"));
        assert_eq!((&*settings.authority, settings.path.to_string().as_str()), (authority, path));
        assert_eq!(settings.tls.is_some(), tls, "{url}");
    }
}

#[test]
fn the_environment_s_proxy_leads_to_the_collector() {
    let proxy = ("ALL_PROXY", "http://proxy:3128");
    for (url, no_proxy, expected) in [
        ("https://collector", "", Some("proxy:3128")),
        ("http://collector:4318", "collector:4317", Some("proxy:3128")),
        ("http://collector:4318", "collector:4318", None),
        ("http://127.0.0.1:4318", "", None),
    ] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("NO_PROXY", no_proxy), proxy];
        let (settings, _) = settings(&variables);
        let found = settings.expect("settings").proxy.map(|proxy| proxy.to_string());
        assert_eq!(found.as_deref(), expected, "{url}");
    }
}

#[test]
fn the_rest_is_read_and_what_is_wrong_is_left_out() {
    let (read, faults) = settings(&[
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-a=of-all"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Bearer%20secret, x-b = 1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "7"),
        ("OTEL_SERVICE_NAME", "gate"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=prod%2C1"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ]);
    let read = read.expect("settings");
    assert_eq!(faults, [""; 0]);
    assert_eq!(read.headers.get("authorization").map(HeaderValue::as_bytes), Some(&b"Bearer secret"[..]));
    assert!(read.headers.get("x-a").is_none() && read.headers.get("x-b").is_some());
    assert!(!format!("{read:?} {:?}", read.headers).contains("secret"));
    assert_eq!((read.gzip, read.timeout, read.most_waiting), (true, Duration::from_millis(2500), 7));
    let resource = |key: &str| {
        let mut found = read.resource.iter().filter(|(known, _)| known == key).map(|(_, value)| &**value);
        (found.next(), found.next())
    };
    assert_eq!(resource("service.name"), (Some("gate"), None));
    assert_eq!(resource("deployment.environment.name"), (Some("prod,1"), None));
    assert_eq!(read.sampler, Sampler { ratio: 0.25, follows_parent: false });
    let (read, faults) = settings(&[
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
    ]);
    let read = read.expect("settings");
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert_eq!((read.timeout, read.most_waiting), (Duration::from_secs(10), 2_048));
    assert_eq!(read.sampler, Sampler { ratio: 1.0, follows_parent: true });
}

#[test]
fn a_share_of_the_traces_is_taken_and_a_callers_word_holds() {
    let id = |number: u64| {
        let mut id = [7; 16];
        id[8..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        id
    };
    let sampler = Sampler { ratio: 0.25, follows_parent: true };
    let taken = (0..10_000).filter(|number| sampler.samples(None, &id(*number))).count();
    assert!((2_400..2_600).contains(&taken), "{taken}");
    assert!(sampler.samples(Some(true), &[0xff; 16]) && !sampler.samples(Some(false), &[0; 16]));
    let deaf = Sampler { follows_parent: false, ..sampler };
    assert!(!deaf.samples(Some(true), &[0xff; 16]) && deaf.samples(Some(false), &[0; 16]));
    for (ratio, all) in [(0.0, false), (1.0, true)] {
        let sampler = Sampler { ratio, follows_parent: true };
        assert!([[0; 16], [0xff; 16]].iter().all(|id| sampler.samples(None, id) == all), "{ratio}");
    }
}
