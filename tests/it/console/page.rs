//! The page as it is served: its files, their fields, and their size; nothing in it that a strict policy would stop.

use crate::console::files;
use crate::harness::{Client, Gateway, Message, Upstream, answer, client, message};

/// The most that all files of the page have together, in bytes.
const MOST_BYTES: usize = 300 * 1024;

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    (upstream, gateway)
}

fn get(gateway: &Gateway, path: &str, fields: &[&str]) -> Message {
    client::once(gateway.admin, message(&format!("GET {path}"), fields, ""))
}

#[test]
fn every_file_is_served_without_a_token_as_it_stands() {
    let (_upstream, gateway) = gateway();
    let files = files();
    assert!(files.len() > 20, "{}", files.len());
    for (name, text) in &files {
        let got = get(&gateway, &format!("/console/{name}"), &[]);
        assert_eq!((got.status(), &got.text()), (200, text), "{name}");
        let kind = match name.rsplit_once('.').expect("an ending").1 {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "js" => "text/javascript; charset=utf-8",
            other => panic!("{other}"),
        };
        assert_eq!(got.field("content-type").as_deref(), Some(kind), "{name}");
    }
    assert_eq!(get(&gateway, "/console/", &[]).body, get(&gateway, "/console/index.html", &[]).body);
    let moved = get(&gateway, "/console", &[]);
    assert_eq!((moved.status(), moved.field("location").as_deref()), (308, Some("console/")));
}

#[test]
fn all_files_together_are_small() {
    let sum: usize = files().iter().map(|(_, text)| text.len()).sum();
    assert!(sum <= MOST_BYTES, "the page has {sum} bytes");
}

#[test]
fn a_file_that_the_browser_has_is_not_sent_again() {
    let (_upstream, gateway) = gateway();
    let first = get(&gateway, "/console/main.js", &[]);
    let tag = first.field("etag").expect("a tag");
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let again = get(&gateway, "/console/main.js", &[&format!("If-None-Match: {known}")]);
        assert_eq!((again.status(), again.body.len()), (304, 0), "{known}");
        assert_eq!(again.field("etag").as_ref(), Some(&tag));
    }
    assert_eq!(get(&gateway, "/console/main.js", &["If-None-Match: \"other\""]).status(), 200);
    assert_ne!(get(&gateway, "/console/table.js", &[]).field("etag"), Some(tag));
}

#[test]
fn the_browser_is_told_to_take_nothing_else() {
    let (_upstream, gateway) = gateway();
    for path in ["/console/", "/console/main.js", "/console/style.css"] {
        let got = get(&gateway, path, &[]);
        let policy = got.field("content-security-policy").expect("a policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|one| one == rule), "{path}: {rule} in {policy}");
        }
        for (name, value) in [
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(got.field(name).as_deref(), Some(value), "{path}");
        }
        assert_eq!(got.field("set-cookie"), None);
    }
}

#[test]
fn nothing_in_it_is_inline_or_from_elsewhere() {
    for (name, text) in files() {
        for wrong in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "localStorage",
            "sessionStorage",
            "document.cookie",
            "indexedDB",
        ] {
            assert!(!text.contains(wrong), "{name} has {wrong}");
        }
        let addresses = text.matches("://").count();
        let namespaces = text.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(addresses, namespaces, "{name} names an address elsewhere");
        if name.ends_with(".html") {
            assert!(!text.contains("<style") && !text.contains("style=") && !text.contains(" on"), "{name}");
            let scripts = text.split("<script").skip(1);
            assert!(
                scripts.clone().count() == 1 && scripts.clone().all(|tag| tag.contains("src=\"")),
                "{name}"
            );
        }
    }
}

#[test]
fn every_module_that_is_imported_is_there() {
    let files = files();
    for (name, text) in &files {
        for (_, rest) in text.match_indices("from \"").map(|(at, found)| text.split_at(at + found.len())) {
            let path = rest.split('"').next().expect("a path");
            let mut place: Vec<&str> = name.split('/').collect();
            place.pop();
            for part in path.split('/') {
                match part {
                    "." => {}
                    ".." => assert!(place.pop().is_some(), "{name}: {path}"),
                    part => place.push(part),
                }
            }
            let wanted = place.join("/");
            assert!(files.iter().any(|(name, _)| *name == wanted), "{name} imports {path}");
        }
    }
}

/// A page of a foreign domain that DNS leads to this machine gets nothing of the console.
#[test]
fn a_foreign_host_gets_nothing() {
    let (_upstream, gateway) = gateway();
    for path in ["/console", "/console/", "/console/main.js"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example:8081\r\n\r\n");
        let got = client::once(gateway.admin, request);
        assert_eq!((got.status(), got.json()["code"].as_str()), (403, Some("foreign_host")), "{path}");
    }
}

#[test]
fn other_paths_and_methods_are_not_of_the_page() {
    let (_upstream, gateway) = gateway();
    for line in [
        "GET /console/nothing.js",
        "GET /console/../main.js",
        "GET /console//main.js",
        "GET /consoles",
        "POST /console/",
    ] {
        let got = client::once(gateway.admin, message(line, &[], ""));
        assert_eq!(got.status(), 401, "{line}");
    }
    let mut asked = Client::connect(gateway.admin);
    asked.send(message("HEAD /console/", &["Connection: close"], ""));
    assert_eq!(asked.head().status(), 200);
    assert_eq!(asked.rest(), b"");
}
