//! Paths of the admin listener, in one table; `openapi.json` describes them for programs.

use hyper::Method;

use super::problem::Problem;

/// Action that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Live,
    Ready,
    Metrics,
    Document,
    ListKeys,
    CreateKey,
    FindKey,
    ChangeKey,
    RotateKey,
    RevokeKey,
    ListTenants,
    CreateTenant,
    ShowTenant,
    ChangeTenant,
    DeleteTenant,
    ListCredits,
    EnterCredit,
    ListCorrections,
    EnterCorrection,
    ListAccounts,
    ListTasks,
    ShowTask,
    RefreshTask,
    ListOrphans,
    AssignOrphan,
    ListDeliveries,
    Redeliver,
    TestWebhooks,
    ReportUsage,
    ListEntries,
    Reprice,
    RotateTokens,
    ListAudit,
    ShowSession,
    ShowConfiguration,
    Reload,
}

impl Action {
    /// The name of a change in the audit; `None` for an action that changes nothing.
    pub(super) const fn change(self) -> Option<&'static str> {
        match self {
            Self::CreateKey => Some("create_key"),
            Self::ChangeKey => Some("change_key"),
            Self::RotateKey => Some("rotate_key"),
            Self::RevokeKey => Some("revoke_key"),
            Self::CreateTenant => Some("create_tenant"),
            Self::ChangeTenant => Some("change_tenant"),
            Self::DeleteTenant => Some("delete_tenant"),
            Self::EnterCredit => Some("enter_credit"),
            Self::EnterCorrection => Some("enter_correction"),
            Self::RefreshTask => Some("refresh_task"),
            Self::AssignOrphan => Some("assign_orphan"),
            Self::Redeliver => Some("redeliver_webhook"),
            Self::TestWebhooks => Some("test_webhooks"),
            Self::Reprice => Some("reprice"),
            Self::RotateTokens => Some("rotate_tokens"),
            Self::Reload => Some("reload"),
            Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Document
            | Self::ListKeys
            | Self::FindKey
            | Self::ListTenants
            | Self::ShowTenant
            | Self::ListCredits
            | Self::ListCorrections
            | Self::ListAccounts
            | Self::ListTasks
            | Self::ShowTask
            | Self::ListOrphans
            | Self::ListDeliveries
            | Self::ReportUsage
            | Self::ListEntries
            | Self::ListAudit
            | Self::ShowSession
            | Self::ShowConfiguration => None,
        }
    }
}

/// Every path in the spelling of `openapi.json`, with its methods and their actions.
pub(super) const PATHS: [(&str, &[(Method, Action)]); 29] = [
    ("/livez", &[(Method::GET, Action::Live)]),
    ("/readyz", &[(Method::GET, Action::Ready)]),
    ("/metrics", &[(Method::GET, Action::Metrics)]),
    ("/admin/openapi.json", &[(Method::GET, Action::Document)]),
    ("/admin/keys", &[(Method::GET, Action::ListKeys), (Method::POST, Action::CreateKey)]),
    ("/admin/keys/{id}", &[(Method::PATCH, Action::ChangeKey), (Method::DELETE, Action::RevokeKey)]),
    ("/admin/keys/find", &[(Method::POST, Action::FindKey)]),
    ("/admin/keys/{id}/rotate", &[(Method::POST, Action::RotateKey)]),
    ("/admin/tenants", &[(Method::GET, Action::ListTenants), (Method::POST, Action::CreateTenant)]),
    (
        "/admin/tenants/{name}",
        &[
            (Method::GET, Action::ShowTenant),
            (Method::PATCH, Action::ChangeTenant),
            (Method::DELETE, Action::DeleteTenant),
        ],
    ),
    (
        "/admin/tenants/{name}/credits",
        &[(Method::GET, Action::ListCredits), (Method::POST, Action::EnterCredit)],
    ),
    (
        "/admin/tenants/{name}/corrections",
        &[(Method::GET, Action::ListCorrections), (Method::POST, Action::EnterCorrection)],
    ),
    ("/admin/accounts", &[(Method::GET, Action::ListAccounts)]),
    ("/admin/tasks", &[(Method::GET, Action::ListTasks)]),
    ("/admin/tasks/{task_id}", &[(Method::GET, Action::ShowTask)]),
    ("/admin/tasks/{task_id}/refresh", &[(Method::POST, Action::RefreshTask)]),
    ("/admin/orphans", &[(Method::GET, Action::ListOrphans)]),
    ("/admin/orphans/{account}/{task_id}/assign", &[(Method::POST, Action::AssignOrphan)]),
    ("/admin/webhooks/deliveries", &[(Method::GET, Action::ListDeliveries)]),
    ("/admin/webhooks/deliveries/{id}/redeliver", &[(Method::POST, Action::Redeliver)]),
    ("/admin/webhooks/test", &[(Method::POST, Action::TestWebhooks)]),
    ("/admin/usage", &[(Method::GET, Action::ReportUsage)]),
    ("/admin/usage/entries", &[(Method::GET, Action::ListEntries)]),
    ("/admin/usage/reprice", &[(Method::POST, Action::Reprice)]),
    ("/admin/tokens/rotate", &[(Method::POST, Action::RotateTokens)]),
    ("/admin/audit", &[(Method::GET, Action::ListAudit)]),
    ("/admin/session", &[(Method::GET, Action::ShowSession)]),
    ("/admin/config", &[(Method::GET, Action::ShowConfiguration)]),
    ("/admin/reload", &[(Method::POST, Action::Reload)]),
];

/// True if the path needs the admin token.
pub(super) fn is_guarded(path: &str) -> bool {
    !matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// The action of a request, with the part of the path that stands for the template's names, like `{id}` or
/// `{account}/{task_id}`; empty where the template has none.
///
/// # Errors
/// `NotFound` or `WrongMethod`.
pub(super) fn route<'p>(method: &Method, path: &'p str) -> Result<(Action, &'p str), Problem> {
    let asked = if method == Method::HEAD { &Method::GET } else { method };
    // A key may have the id `find`, so a path may match two templates, which have different methods.
    let found = PATHS.iter().filter_map(|(template, offered)| Some((id(template, path)?, *offered)));
    let mut offered_here = Vec::new();
    for (id, offered) in found {
        if let Some((_, action)) = offered.iter().find(|(offer, _)| offer == asked) {
            return Ok((*action, id));
        }
        offered_here.extend(offered);
    }
    if offered_here.is_empty() {
        return Err(Problem::NotFound(PATHS.map(|(path, _)| path).to_vec()));
    }
    Err(Problem::WrongMethod(allowed(&offered_here)))
}

/// The part of the path that stands for the names, if the path matches the template.
fn id<'p>(template: &str, path: &'p str) -> Option<&'p str> {
    let Some((begin, end)) = template.find('{').zip(template.rfind('}')) else {
        return (template == path).then_some("");
    };
    let names = template[begin..=end].split('/');
    let id = path.strip_prefix(&template[..begin])?.strip_suffix(&template[end + 1..])?;
    let is_whole = id.split('/').all(|part| !part.is_empty()) && id.split('/').count() == names.count();
    is_whole.then_some(id)
}

/// The allowed methods; a path with GET also has HEAD.
fn allowed(offered: &[&(Method, Action)]) -> String {
    let mut names: Vec<&str> = offered.iter().map(|(offer, _)| offer.as_str()).collect();
    if names.contains(&"GET") {
        names.insert(1, "HEAD");
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_by_method_and_path() {
        for (method, path, action, id) in [
            (Method::GET, "/livez", Action::Live, ""),
            (Method::HEAD, "/readyz", Action::Ready, ""),
            (Method::GET, "/metrics", Action::Metrics, ""),
            (Method::GET, "/admin/openapi.json", Action::Document, ""),
            (Method::GET, "/admin/keys", Action::ListKeys, ""),
            (Method::POST, "/admin/keys", Action::CreateKey, ""),
            (Method::DELETE, "/admin/keys/a.b", Action::RevokeKey, "a.b"),
            (Method::PATCH, "/admin/keys/a", Action::ChangeKey, "a"),
            (Method::POST, "/admin/keys/a/rotate", Action::RotateKey, "a"),
            (Method::POST, "/admin/keys/find", Action::FindKey, ""),
            (Method::DELETE, "/admin/keys/find", Action::RevokeKey, "find"),
            (Method::GET, "/admin/tenants", Action::ListTenants, ""),
            (Method::POST, "/admin/tenants", Action::CreateTenant, ""),
            (Method::GET, "/admin/tenants/a.b", Action::ShowTenant, "a.b"),
            (Method::PATCH, "/admin/tenants/a", Action::ChangeTenant, "a"),
            (Method::DELETE, "/admin/tenants/a", Action::DeleteTenant, "a"),
            (Method::GET, "/admin/tenants/a.b/credits", Action::ListCredits, "a.b"),
            (Method::POST, "/admin/tenants/a/credits", Action::EnterCredit, "a"),
            (Method::GET, "/admin/tenants/a/corrections", Action::ListCorrections, "a"),
            (Method::POST, "/admin/tenants/a/corrections", Action::EnterCorrection, "a"),
            (Method::GET, "/admin/accounts", Action::ListAccounts, ""),
            (Method::GET, "/admin/tasks", Action::ListTasks, ""),
            (Method::GET, "/admin/tasks/t-1", Action::ShowTask, "t-1"),
            (Method::POST, "/admin/tasks/t-1/refresh", Action::RefreshTask, "t-1"),
            (Method::GET, "/admin/orphans", Action::ListOrphans, ""),
            (Method::POST, "/admin/orphans/a/t-1/assign", Action::AssignOrphan, "a/t-1"),
            (Method::GET, "/admin/webhooks/deliveries", Action::ListDeliveries, ""),
            (Method::POST, "/admin/webhooks/deliveries/msg_a/redeliver", Action::Redeliver, "msg_a"),
            (Method::POST, "/admin/webhooks/test", Action::TestWebhooks, ""),
            (Method::GET, "/admin/usage", Action::ReportUsage, ""),
            (Method::GET, "/admin/usage/entries", Action::ListEntries, ""),
            (Method::POST, "/admin/usage/reprice", Action::Reprice, ""),
            (Method::POST, "/admin/tokens/rotate", Action::RotateTokens, ""),
            (Method::GET, "/admin/audit", Action::ListAudit, ""),
            (Method::GET, "/admin/session", Action::ShowSession, ""),
            (Method::GET, "/admin/config", Action::ShowConfiguration, ""),
            (Method::POST, "/admin/reload", Action::Reload, ""),
        ] {
            assert_eq!(route(&method, path).ok(), Some((action, id)), "{method} {path}");
        }
        for path in [
            "/",
            "/admin",
            "/admin/",
            "/admin/keys/",
            "/admin/keys/a/b",
            "/admin/orphans/a/assign",
            "/livez/",
            "//livez",
        ] {
            let found = route(&Method::GET, path);
            assert!(
                matches!(found, Err(Problem::NotFound(_) | Problem::WrongMethod(_))),
                "{path}: {found:?}"
            );
        }
        for (path, expected) in [("/admin/keys", "GET, HEAD, POST"), ("/admin/keys/a", "PATCH, DELETE")] {
            let Err(Problem::WrongMethod(allowed)) = route(&Method::PUT, path) else {
                panic!("PUT is not offered")
            };
            assert_eq!(allowed, expected);
        }
    }

    #[test]
    fn only_health_and_metrics_are_open() {
        assert!(!["/livez", "/readyz", "/metrics"].into_iter().any(is_guarded));
        for path in ["/", "/livez/", "/admin/keys", "/Livez", "/livez/../admin/keys"] {
            assert!(is_guarded(path), "{path}");
        }
        let open: Vec<&str> = PATHS.iter().map(|(path, _)| *path).filter(|path| !is_guarded(path)).collect();
        assert_eq!(open, ["/livez", "/readyz", "/metrics"]);
    }
}
