//! TLS on the admin listener, and a client certificate beside the token.

use std::process::Command;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::harness::gateway::write_config;
use crate::harness::tls::{Authority, Identity, TlsClient};
use crate::harness::{ADMIN_TOKEN, Gateway, Message, Upstream, client, message};
use crate::tls::text;

struct AdminGateway {
    authority: Authority,
    gateway: Gateway,
}

impl AdminGateway {
    fn start(more: &str) -> Self {
        let authority = Authority::new();
        let folder = tempfile::tempdir().expect("a folder");
        authority.server().write(folder.path(), "server");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("written");
        let tls = format!("[admin]\ntls = {{ cert = \"server.crt\", key = \"server.key\" {more} }}");
        let text = text(Upstream::answering("").address, "", "").replace("[admin]", &tls);
        write_config(folder.path(), &text);
        let gateway = Gateway::from_file_in(folder, &text);
        Self { authority, gateway }
    }

    fn trusted(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        self.authority.trusted(identity, &["http/1.1"])
    }

    fn ask(&self, identity: Option<&Identity>, request_line: &str, token: &str) -> Message {
        let mut secure =
            TlsClient::connect(self.gateway.admin, &self.trusted(identity)).expect("a handshake");
        let token = format!("Authorization: Bearer {token}");
        secure.ask(message(request_line, &[&token], "")).expect("an answer")
    }

    /// The program's own client, with more arguments.
    fn keys(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let url = format!("https://localhost:{}", self.gateway.admin.port());
        let output = Command::new(env!("CARGO_BIN_EXE_dashgate"))
            .env_clear()
            .env("DASHGATE_ADMIN_TOKEN", ADMIN_TOKEN)
            .current_dir(self.gateway.directory.path())
            .args(["keys", "--admin", &url])
            .args(arguments)
            .output()
            .expect("a process");
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
    }
}

#[test]
fn the_operators_listener_speaks_tls() {
    let operated = AdminGateway::start("");
    assert_eq!(operated.ask(None, "GET /readyz", "").status(), 200);
    assert_eq!(operated.ask(None, "GET /admin/keys", ADMIN_TOKEN).status(), 200);
    assert_eq!(operated.ask(None, "GET /admin/keys", "wrong").status(), 401);
    let clear = client::once(operated.gateway.admin, message("GET /livez", &[], ""));
    assert_eq!((clear.status(), clear.json()["code"].as_str()), (400, Some("cleartext")));
    let (code, printed) = operated.keys(&["--ca", "ca.pem", "create", "--tenant", "one", "--id", "made"]);
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = operated.keys(&["list"]);
    assert_eq!(code, Some(1), "an authority that is not known: {printed}");
    assert!(printed.contains("TLS with localhost:"), "{printed}");
}

#[test]
fn a_certificate_is_needed_beside_the_token() {
    let operated = AdminGateway::start(", client_ca = \"ca.pem\"");
    let identity = operated.authority.client("operator", &[], 1);
    for (identity, path, token, status) in [
        (None, "GET /readyz", "", 200),
        (None, "GET /metrics", "", 200),
        (None, "GET /admin/keys", ADMIN_TOKEN, 403),
        (Some(&identity), "GET /admin/keys", ADMIN_TOKEN, 200),
        (Some(&identity), "GET /admin/keys", "wrong", 401),
        (Some(&identity), "GET /readyz", "", 200),
    ] {
        assert_eq!(operated.ask(identity, path, token).status(), status, "{path}");
    }
    let refused = operated.ask(None, "GET /admin/keys", ADMIN_TOKEN);
    assert_eq!(refused.json()["code"], "no_certificate");
    let forged = Authority::new().client("operator", &[], 1);
    let secure = TlsClient::connect(operated.gateway.admin, &operated.trusted(Some(&forged)));
    assert!(secure.and_then(|mut secure| secure.ask(message("GET /livez", &[], ""))).is_err());
    identity.write(operated.gateway.directory.path(), "operator");
    let mine = ["--ca", "ca.pem", "--cert", "operator.crt", "--cert-key", "operator.key", "list"];
    let (code, printed) = operated.keys(&mine);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(operated.keys(&["--ca", "ca.pem", "list"]).0, Some(1));
}
