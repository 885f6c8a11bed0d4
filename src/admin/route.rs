//! What there is, in one table.

use hyper::Method;

use super::problem::Problem;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action<'p> {
    Live,
    Ready,
    Metrics,
    ListKeys,
    CreateKey,
    /// By the key's id, as all below.
    RotateKey(&'p str),
    RevokeKey(&'p str),
    ListTenants,
    ListAccounts,
    ListTasks,
    Reload,
}

/// Whether the token is needed.
pub(super) fn is_guarded(path: &str) -> bool {
    !matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// # Errors
/// `NotFound` or `WrongMethod`.
pub(super) fn route<'p>(method: &Method, path: &'p str) -> Result<Action<'p>, Problem> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let offered: &[(Method, Action<'p>)] = match segments[..] {
        ["livez"] => &[(Method::GET, Action::Live)],
        ["readyz"] => &[(Method::GET, Action::Ready)],
        ["metrics"] => &[(Method::GET, Action::Metrics)],
        ["admin", "keys"] => &[(Method::GET, Action::ListKeys), (Method::POST, Action::CreateKey)],
        ["admin", "keys", id] => &[(Method::DELETE, Action::RevokeKey(id))],
        ["admin", "keys", id, "rotate"] => &[(Method::POST, Action::RotateKey(id))],
        ["admin", "tenants"] => &[(Method::GET, Action::ListTenants)],
        ["admin", "accounts"] => &[(Method::GET, Action::ListAccounts)],
        ["admin", "tasks"] => &[(Method::GET, Action::ListTasks)],
        ["admin", "reload"] => &[(Method::POST, Action::Reload)],
        _ => return Err(Problem::NotFound),
    };
    let asked = if method == Method::HEAD { &Method::GET } else { method };
    let found = offered.iter().find(|(offer, _)| offer == asked);
    found.map(|(_, action)| *action).ok_or_else(|| {
        let names: Vec<&str> = offered.iter().map(|(offer, _)| offer.as_str()).collect();
        Problem::WrongMethod(names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_by_method_and_path() {
        for (method, path, action) in [
            (Method::GET, "/livez", Action::Live),
            (Method::HEAD, "/readyz", Action::Ready),
            (Method::GET, "/metrics", Action::Metrics),
            (Method::GET, "/admin/keys", Action::ListKeys),
            (Method::POST, "/admin/keys", Action::CreateKey),
            (Method::DELETE, "/admin/keys/a.b", Action::RevokeKey("a.b")),
            (Method::POST, "/admin/keys/a/rotate", Action::RotateKey("a")),
            (Method::GET, "/admin/tenants", Action::ListTenants),
            (Method::GET, "/admin/accounts", Action::ListAccounts),
            (Method::GET, "/admin/tasks", Action::ListTasks),
            (Method::POST, "/admin/reload", Action::Reload),
        ] {
            assert_eq!(route(&method, path).ok(), Some(action), "{method} {path}");
        }
        for path in ["/", "/admin", "/admin/", "/admin/keys/", "/admin/keys/a/b", "/livez/", "//livez"] {
            let found = route(&Method::GET, path);
            assert!(matches!(found, Err(Problem::NotFound | Problem::WrongMethod(_))), "{path}: {found:?}");
        }
        let Err(Problem::WrongMethod(allowed)) = route(&Method::PUT, "/admin/keys") else {
            panic!("PUT is not offered")
        };
        assert_eq!(allowed, "GET, POST");
    }

    #[test]
    fn only_health_and_metrics_are_open() {
        assert!(!["/livez", "/readyz", "/metrics"].into_iter().any(is_guarded));
        for path in ["/", "/livez/", "/admin/keys", "/Livez", "/livez/../admin/keys"] {
            assert!(is_guarded(path), "{path}");
        }
    }
}
