//! `dashgate tenants`: tenants and their money, through a running gateway's admin API.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, cell, json_line, segment};
use super::tenant_settings;

/// Make and change tenants at run time, enter what a tenant paid in, and correct what it was charged.
///
/// Tenants of the configuration's file are listed, and changed there. A setting is KEY=VALUE with the keys of [[tenants]].
///
/// Credits and corrections are entries of the ledger: they stay for ever, and a mistake is put right by another entry, of a
/// negative amount. An id counts once, so a command that failed can be given again with the same --id. The admin token is
/// taken from $DASHGATE_ADMIN_TOKEN. Exits with 0 when it is done, 1 when not, 64 for bad usage.
///
/// Examples:
///   dashgate tenants create acme limits.requests_per_second=10 'models=["wan2.7-*"]'
///   dashgate tenants suspend acme
///   dashgate tenants credit acme 100.00 --note "bank transfer" --id invoice-42
///   dashgate tenants correct acme -3.00 --note "a black video" --corrects task:main/0f4c
///   dashgate tenants credits acme
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct TenantsOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    #[command(subcommand)]
    command: TenantsCommand,
}

#[derive(Debug, Subcommand)]
enum TenantsCommand {
    /// Make a tenant. Its keys are made with `dashgate keys create`.
    Create {
        #[command(flatten)]
        change: TenantChange,
    },
    /// List all tenants, those of the configuration too.
    List {
        /// Print each as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a tenant, with what is used of its limits and budgets, and which keys and tasks hold the slots.
    Show {
        #[command(flatten)]
        tenant: NamedTenant,
    },
    /// Change settings of a tenant that was made at run time; KEY=null takes one back to its default.
    Set {
        #[command(flatten)]
        change: TenantChange,
    },
    /// Refuse all calls of a tenant that was made at run time. What runs goes on, and is settled.
    Suspend {
        #[command(flatten)]
        tenant: NamedTenant,
    },
    /// Let a suspended tenant call again.
    Resume {
        #[command(flatten)]
        tenant: NamedTenant,
    },
    /// Delete a tenant that was made at run time: its keys are revoked, and its name is not used again.
    Delete {
        #[command(flatten)]
        tenant: NamedTenant,
    },
    /// Enter money that a tenant has paid in. A negative amount takes money back.
    Credit {
        #[command(flatten)]
        entry: EnteredMoney,
    },
    /// Correct what a tenant was charged. A negative amount charges less.
    Correct {
        #[command(flatten)]
        entry: EnteredMoney,
        /// The entry that is corrected: its `source`, as `dashgate usage export` shows it.
        #[arg(long, value_name = "SOURCE")]
        corrects: Option<String>,
    },
    /// List what a tenant has paid in, oldest first, and its balance.
    Credits {
        #[command(flatten)]
        list: ListedMoney,
    },
    /// List the corrections of what a tenant was charged, oldest first, and its balance.
    Corrections {
        #[command(flatten)]
        list: ListedMoney,
    },
}

#[derive(Debug, Args)]
struct TenantChange {
    /// The tenant.
    name: String,
    /// Settings, like async_header=add or 'models=["wan*"]'.
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Print the tenant as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct NamedTenant {
    /// The tenant.
    name: String,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct EnteredMoney {
    /// The tenant.
    name: String,
    /// In the gateway's currency, with up to nine decimals: 100.00
    #[arg(allow_negative_numbers = true)]
    amount: String,
    /// Why, in words for those who read the ledger; 500 characters at most.
    #[arg(long, value_name = "TEXT")]
    note: String,
    /// An id that counts once, such as the number of an invoice; without it, one is made.
    #[arg(long)]
    id: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListedMoney {
    /// The tenant.
    name: String,
    /// Print each as a line of JSON, without the balance.
    #[arg(long)]
    json: bool,
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`].
pub async fn run(
    options: &TenantsOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    match &options.command {
        TenantsCommand::Create { change } => {
            let mut settings = tenant_settings::read(&change.settings)?;
            settings.insert("name".to_owned(), change.name.as_str().into());
            let made = gateway.call(Method::POST, "/admin/tenants", Some(settings.into())).await?;
            tell(&made, &change.name, "made", change.json, show);
        }
        TenantsCommand::Set { change } => {
            let settings = tenant_settings::read(&change.settings)?.into();
            let changed = gateway.call(Method::PATCH, &path(&change.name)?, Some(settings)).await?;
            tell(&changed, &change.name, "changed", change.json, show);
        }
        TenantsCommand::Suspend { tenant } => {
            let settings = json!({ "enabled": false });
            let changed = gateway.call(Method::PATCH, &path(&tenant.name)?, Some(settings)).await?;
            tell(&changed, &tenant.name, "suspended; its calls are refused from now on", tenant.json, show);
        }
        TenantsCommand::Resume { tenant } => {
            let settings = json!({ "enabled": true });
            let changed = gateway.call(Method::PATCH, &path(&tenant.name)?, Some(settings)).await?;
            tell(&changed, &tenant.name, "it may call again", tenant.json, show);
        }
        TenantsCommand::Delete { tenant } => {
            let deleted = gateway.call(Method::DELETE, &path(&tenant.name)?, None).await?;
            tell(&deleted, &tenant.name, "deleted; its keys are revoked", tenant.json, show);
        }
        TenantsCommand::Show { tenant } => {
            let shown = gateway.call(Method::GET, &path(&tenant.name)?, None).await?;
            show(&if tenant.json { json_line(&shown) } else { describe(&shown) });
        }
        TenantsCommand::List { json } => list_tenants(&gateway, *json, show).await?,
        TenantsCommand::Credit { entry } => enter(&gateway, entry, "credits", None, show).await?,
        TenantsCommand::Correct { entry, corrects } => {
            enter(&gateway, entry, "corrections", corrects.as_deref(), show).await?;
        }
        TenantsCommand::Credits { list } => self::list(&gateway, list, "credits", show).await?,
        TenantsCommand::Corrections { list } => self::list(&gateway, list, "corrections", show).await?,
    }
    Ok(())
}

fn path(name: &str) -> Result<String, AdminFailure> {
    Ok(format!("/admin/tenants/{}", segment(name)?))
}

fn tell(answer: &Value, name: &str, what: &str, json: bool, show: impl Fn(&str)) {
    show(&if json { json_line(answer) } else { format!("{name}: {what}\n") });
}

/// A line for each setting of a tenant, and for what is used of its limits.
fn describe(tenant: &Value) -> String {
    let mut shown = String::new();
    for field in
        ["name", "source", "enabled", "accounts", "allow", "async_header", "created_at", "changed_at"]
    {
        line(&mut shown, field, &tenant[field]);
    }
    for (table, of) in [("", "settings"), ("use.", "use")] {
        for (name, value) in tenant[of].as_object().into_iter().flatten() {
            line(&mut shown, &format!("{table}{name}"), value);
        }
    }
    let text = |of: &Value, name: &str| of[name].as_str().map_or_else(|| of[name].to_string(), str::to_owned);
    let items = |of: &'_ Value| of.as_array().cloned().unwrap_or_default();
    for budget in items(&tenant["budgets"]) {
        let [amount, spent, held, left] = ["amount", "spent", "held", "left"].map(|name| text(&budget, name));
        let used = format!("{amount}: spent {spent}, held {held}, left {left}");
        line(&mut shown, &format!("budget.{}", text(&budget, "period")), &used.into());
    }
    let holders = &tenant["holders"];
    for key in items(&holders["keys"]) {
        let [id, requests, tasks] = ["id", "requests", "tasks"].map(|name| text(&key, name));
        line(&mut shown, "slots", &format!("{id}: {requests} request(s), {tasks} task(s)").into());
    }
    let more =
        holders["key_count"].as_u64().unwrap_or(0).saturating_sub(items(&holders["keys"]).len() as u64);
    if more > 0 {
        line(&mut shown, "slots", &format!("and {more} more key(s)").into());
    }
    for task in items(&holders["oldest_tasks"]) {
        let [id, key, at] = ["id", "key_id", "claimed_at"].map(|name| text(&task, name));
        line(&mut shown, "task", &format!("{id}: of {key}, since {at}").into());
    }
    shown
}

fn line(shown: &mut String, name: &str, value: &Value) {
    let _ = match value {
        Value::Null => return,
        Value::String(text) => writeln!(shown, "{name:<28} {text}"),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            writeln!(shown, "{name:<28} {other}")
        }
    };
}

async fn list_tenants(gateway: &AdminClient, json: bool, show: impl Fn(&str)) -> Result<(), AdminFailure> {
    let (path, name) = ("/admin/tenants", "tenants");
    if json {
        return gateway.list(path, name, show).await;
    }
    let cells = |tenant: &Value| {
        let state = if tenant["enabled"] == true { "enabled" } else { "suspended" };
        [cell(tenant, "name"), cell(tenant, "source"), state.to_owned(), cell(tenant, "changed_at")]
    };
    gateway.table(path, name, ["NAME", "SOURCE", "STATE", "CHANGED"], cells, show).await.map(drop)
}

async fn enter(
    gateway: &AdminClient,
    entry: &EnteredMoney,
    kind: &str,
    corrects: Option<&str>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let EnteredMoney { name, amount, note, id, json } = entry;
    let path = format!("/admin/tenants/{}/{kind}", segment(name)?);
    let sent = id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let mut body = json!({ "id": sent, "amount": amount, "note": note });
    if let Some(corrects) = corrects {
        body["corrects"] = corrects.into();
    }
    let made = gateway.call(Method::POST, &path, Some(body)).await.map_err(|mut failure| {
        if id.is_none() && !failure.usage {
            failure.problem.push_str(&format!("\nTo give it again, so that it counts once, add --id {sent}"));
        }
        failure
    })?;
    if *json {
        show(&format!("{made}\n"));
        return Ok(());
    }
    let text = |name: &str| made[name].as_str().unwrap_or("-");
    show(&format!(
        "{}: {} {} for the tenant {}, since {}\n{}",
        text("id"),
        text("amount"),
        text("currency"),
        text("tenant"),
        text("at"),
        balance(&made)
    ));
    Ok(())
}

async fn list(
    gateway: &AdminClient,
    list: &ListedMoney,
    kind: &str,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let path = format!("/admin/tenants/{}/{kind}", segment(&list.name)?);
    if list.json {
        return gateway.list(&path, kind, show).await;
    }
    let last = if kind == "corrections" {
        let cells =
            |entry: &Value| ["at", "amount", "id", "corrects", "note"].map(|field| cell(entry, field));
        gateway.table(&path, kind, ["AT", "AMOUNT", "ID", "CORRECTS", "NOTE"], cells, &show).await?
    } else {
        let cells = |entry: &Value| ["at", "amount", "id", "note"].map(|field| cell(entry, field));
        gateway.table(&path, kind, ["AT", "AMOUNT", "ID", "NOTE"], cells, &show).await?
    };
    show(&format!("\n{}", balance(&last)));
    Ok(())
}

fn balance(answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or("-");
    let (balance, spent, held) = (text("balance"), text("spent"), text("held"));
    format!("balance {balance} {}; spent {spent}, held {held}\n", text("currency"))
}
