//! The proxies of the program's environment.

use super::{Process, program};
use crate::egress::ScriptedProxy;
use crate::harness::calls::{check_refusal, generate};
use crate::harness::{UPSTREAM_KEY, client, configuration, eventually, secrets};

#[test]
fn the_environment_s_proxy_is_used_and_shown_and_what_is_no_proxy_is_a_warning() {
    let proxy = ScriptedProxy::refusing();
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = ([127, 0, 0, 1], 1).into();
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", nowhere, &[UPSTREAM_KEY], "")], "");
    let text = text.replace("http://127.0.0.1:1\"", "https://dashscope.test\"");
    std::fs::write(folder.path().join("dashgate.toml"), text).expect("written");
    let url = format!("http://me:{}@{}", secrets::QUERY, proxy.address());
    let environment =
        [("https_proxy", &*url), ("ALL_PROXY", "socks5://127.0.0.1:1"), ("NO_PROXY", "10.0.0.0/8")];
    let mut process = Process::start(program(folder.path()).arg("serve").envs(environment));
    let refused = client::once(process.address(), generate("{}"));
    check_refusal(&refused, 503, "upstream_unreachable");
    assert!(proxy.heads()[0].starts_with("CONNECT dashscope.test:443 HTTP/1.1\r\n"));
    for line in [
        format!("the account main is reached through the proxy {} (dashscope.test)", proxy.address()),
        format!("through the proxy {}: it answered 502 Bad Gateway to CONNECT", proxy.address()),
        "ALL_PROXY: is not an http:// proxy, and no other kind is supported".to_owned(),
    ] {
        eventually("the log says so", || process.printed().contains(&line));
    }
}
