//! The installed curl speaks TLS with the gateway.

use std::process::Command;

use crate::harness::calls::{GENERATION, bearer};
use crate::harness::{Upstream, answer};
use crate::tls::TlsGateway;

fn curl(guarded: &TlsGateway, more: &[&str]) -> String {
    crate::clients::installed("curl");
    let ca = guarded.folder().join("ca.pem");
    let url = format!("https://localhost:{}{GENERATION}", guarded.gateway.address.port());
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--cacert"])
        .arg(ca)
        .args([
            "-H",
            &bearer(),
            "-d",
            "{}",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{http_version} %{ssl_verify_result}",
        ])
        .args(more)
        .arg(&url)
        .output()
        .expect("curl");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn curl_speaks_both_protocols_and_both_versions() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = TlsGateway::start(upstream.address, "", "");
    for (arguments, expected) in [
        (&[][..], "200 2 0"),
        (&["--http1.1"], "200 1.1 0"),
        (&["--tls-max", "1.2"], "200 2 0"),
        (&["--tlsv1.3", "--http1.1"], "200 1.1 0"),
    ] {
        assert_eq!(curl(&guarded, arguments), expected, "{arguments:?}");
    }
    let refused = curl(&guarded, &["--tls-max", "1.1"]);
    assert!(refused.starts_with("000 "), "an old version: {refused}");
}
