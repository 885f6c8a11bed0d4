//! `dashgate usage`: who used what, from a running gateway's ledger.

use clap::{Args, Subcommand};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, json_line, misused};
use super::columns;
use crate::usage::Amount;

/// Show who used what, from the ledger of a running gateway.
///
/// Without a time, it is this month so far. The sums are exact: seconds and tokens as DashScope told them. The admin token
/// is taken from $DASHGATE_ADMIN_TOKEN. Exits with 0 when it is done, 1 when not, 64 for bad usage.
///
/// Examples:
///   dashgate usage --by tenant
///   dashgate usage --from 2026-11-01 --to 2026-12-01 --tenant acme --by day,model --csv
///   dashgate usage --task-id 0385dc79-5ff8-4d82-bcb6-b08628dbf5a5
///   dashgate usage export --tenant acme > entries.jsonl
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct UsageOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    #[command(flatten)]
    filter: UsageFilter,
    /// Properties that a row is for: any of tenant, key, model, account, class, day, month.
    #[arg(long, value_name = "NAMES", default_value = "tenant,model")]
    by: String,
    /// Print CSV, with a column for each unit.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print the report as JSON; with --request-id or --task-id, each entry as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<UsageCommand>,
}

#[derive(Debug, Args)]
struct UsageFilter {
    /// The first moment: a date, or RFC 3339.
    #[arg(long, global = true, value_name = "WHEN")]
    from: Option<String>,
    /// The moment behind the last one.
    #[arg(long, global = true, value_name = "WHEN")]
    to: Option<String>,
    /// Count this tenant only.
    #[arg(long, global = true, value_name = "NAME")]
    tenant: Option<String>,
    /// Count the key with this id only.
    #[arg(long, global = true, value_name = "ID")]
    key_id: Option<String>,
    /// Count this model only.
    #[arg(long, global = true, value_name = "NAME")]
    model: Option<String>,
    /// Show the entries of this request, and their corrections. Without --from, those of all time.
    #[arg(long, global = true, value_name = "ID", conflicts_with = "task_id")]
    request_id: Option<String>,
    /// Show the entries of this task, and their corrections. Without --from, those of all time.
    #[arg(long, global = true, value_name = "ID")]
    task_id: Option<String>,
}

#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// Print the entries themselves, oldest first, each as a line of JSON.
    Export,
    /// Correct what was charged from --from to --to to what today's prices say, as of each submit.
    ///
    /// A second time makes nothing. Corrections count when they are made.
    Reprice {
        /// Show what would be corrected, and correct nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print the sums as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`].
pub async fn run(
    options: &UsageOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    match options.command {
        Some(UsageCommand::Export) => {
            let path = format!("/admin/usage/entries?{}", options.filter.query());
            return gateway.list(&path, "entries", show).await;
        }
        Some(UsageCommand::Reprice { dry_run, json }) => {
            let sums = reprice(&gateway, &options.filter, dry_run).await?;
            show(&if json { json_line(&sums) } else { describe_sums(&sums) });
            return Ok(());
        }
        None => {}
    }
    if options.filter.is_for_one() {
        if options.csv {
            return Err(misused(
                "--csv is for reports; entries are shown as a table, or as lines with --json",
            ));
        }
        return look_up(&gateway, options, show).await;
    }
    let by = utf8_percent_encode(&options.by, NON_ALPHANUMERIC);
    let path = format!("/admin/usage?by={by}{}", options.filter.query());
    if options.csv {
        show(&gateway.text(&format!("{path}&format=csv")).await?);
        return Ok(());
    }
    let report = gateway.call(Method::GET, &path, None).await?;
    if options.json {
        show(&format!("{report}\n"));
    } else {
        show(&table(&report));
    }
    Ok(())
}

/// Shows the entries of one request or task, and what they cost together.
async fn look_up(
    gateway: &AdminClient,
    options: &UsageOptions,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let path = format!("/admin/usage/entries?{}", options.filter.query());
    if options.json {
        return gateway.list(&path, "entries", show).await;
    }
    let heads = ["AT", "SOURCE", "TENANT", "KEY", "MODEL", "STATUS", "AMOUNT", "USED"];
    let (mut uses, mut corrections, mut sum, mut currency) = (0, 0, Amount::ZERO, String::new());
    let describe = |entry: &Value| {
        let is_correction = entry["corrects"].is_string();
        *(if is_correction { &mut corrections } else { &mut uses }) += 1;
        let amount = entry["amount"].as_str().and_then(Amount::from_text).unwrap_or_default();
        sum = sum.saturating_add(amount);
        entry["currency"].as_str().unwrap_or_default().clone_into(&mut currency);
        let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty()).unwrap_or("-");
        let names = ["at", "source", "tenant", "key_id", "model", "status", "amount"].map(text);
        let remark =
            if is_correction { format!("{}: {}", text("corrects"), text("note")) } else { used(entry) };
        let [at, source, tenant, key, model, status, amount] = names.map(str::to_owned);
        [at, source, tenant, key, model, status, amount, remark]
    };
    gateway.table(&path, "entries", heads, describe, &show).await?;
    let counts = match (uses, corrections) {
        (0, 0) => "no entry: a task is entered at its end, a call at its last byte\n".to_owned(),
        _ => format!("\n{uses} uses, {corrections} corrections: {sum} {currency} together\n"),
    };
    show(&counts);
    Ok(())
}

/// The units of an entry, and what is uncertain of them.
fn used(entry: &Value) -> String {
    let units = entry["units"].as_object().into_iter().flatten();
    let units = units.map(|(unit, sum)| format!("{} {unit}", sum.as_str().unwrap_or("-")));
    let class = entry["class"].as_str().filter(|class| !class.is_empty()).map(str::to_owned);
    let flags = entry["flags"].as_array().into_iter().flatten();
    let flags = flags.filter_map(|flag| flag.as_str().map(str::to_owned));
    units.chain(class).chain(flags).collect::<Vec<_>>().join(", ")
}

/// Corrects piece by piece, so that any number of entries can be corrected. Returns the sums of all pieces.
async fn reprice(gateway: &AdminClient, filter: &UsageFilter, dry_run: bool) -> Result<Value, AdminFailure> {
    let UsageFilter {
        from: Some(from),
        to: Some(to),
        tenant,
        key_id: None,
        model: None,
        request_id: None,
        task_id: None,
    } = filter
    else {
        return Err(misused("reprice takes --from and --to, and --tenant for one tenant alone"));
    };
    let mut body = json!({ "from": from, "to": to, "dry_run": dry_run });
    if let Some(tenant) = tenant {
        body["tenant"] = tenant.as_str().into();
    }
    let (mut counts, mut sum) = ([0; 3], Amount::ZERO);
    loop {
        let part = gateway.call(Method::POST, "/admin/usage/reprice", Some(body.clone())).await?;
        for (count, name) in counts.iter_mut().zip(["entries", "corrections", "unpriced"]) {
            *count += part[name].as_u64().unwrap_or(0);
        }
        let amount = part["amount"].as_str().and_then(Amount::from_text).unwrap_or_default();
        sum = sum.saturating_add(amount);
        let Some(next) = part["next"].as_str() else { break };
        body["after"] = next.into();
    }
    let [entries, corrections, unpriced] = counts;
    Ok(json!({
        "entries": entries, "corrections": corrections, "unpriced": unpriced, "amount": sum.to_string(),
        "dry_run": dry_run,
    }))
}

fn describe_sums(sums: &Value) -> String {
    let would = if sums["dry_run"] == true { "would be made" } else { "were made" };
    let sum = sums["amount"].as_str().unwrap_or("-");
    let [entries, corrections, unpriced] = ["entries", "corrections", "unpriced"].map(|name| &sums[name]);
    format!(
        "{entries} entries: {corrections} corrections {would}, of {sum} together; {unpriced} have no price today\n"
    )
}

impl UsageFilter {
    /// True for the entries of one request or task.
    const fn is_for_one(&self) -> bool {
        self.request_id.is_some() || self.task_id.is_some()
    }

    /// The parameters that are given, each behind `&`.
    fn query(&self) -> String {
        let Self { from, to, tenant, key_id, model, request_id, task_id } = self;
        let given = [
            ("from", from),
            ("to", to),
            ("tenant", tenant),
            ("key", key_id),
            ("model", model),
            ("request_id", request_id),
            ("task_id", task_id),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given
            .map(|(name, value)| format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect()
    }
}

/// True for an amount that is not 0.
fn is_money(amount: &Value) -> bool {
    amount.as_str().is_some_and(|amount| amount.bytes().any(|digit| (b'1'..=b'9').contains(&digit)))
}

/// The report as a table: names to the left, numbers to the right, and the sum below.
fn table(report: &Value) -> String {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let by = texts(&report["by"]);
    let units: Vec<String> =
        report["total"]["units"].as_object().into_iter().flatten().map(|(unit, _)| unit.clone()).collect();
    let has_prices = ["amount", "credits"].into_iter().any(|name| is_money(&report["total"][name]));
    let money: Vec<&str> =
        ["amount", "credits"].into_iter().filter(|name| is_money(&report["total"][name])).collect();
    let uncertain = ["unpriced", "estimated", "cut", "unread"]
        .into_iter()
        .filter(|name| has_prices || *name != "unpriced")
        .filter(|name| report["total"][name] != 0);
    let counts: Vec<&str> = ["entries"].into_iter().chain(uncertain).collect();
    let line = |row: &Value, names: Vec<String>| -> Vec<String> {
        let counted = counts.iter().map(|name| row[name].to_string());
        let used = units.iter().map(|unit| row["units"][unit].as_str().unwrap_or("0").to_owned());
        let paid = money.iter().map(|name| row[name].as_str().unwrap_or("-").to_owned());
        names.into_iter().chain(counted).chain(paid).chain(used).collect()
    };
    let heads = by.iter().map(|name| name.to_uppercase());
    let counted = counts
        .iter()
        .chain(&money)
        .chain(&units.iter().map(String::as_str).collect::<Vec<_>>())
        .map(|name| name.to_uppercase())
        .collect::<Vec<_>>();
    let mut lines: Vec<Vec<String>> = vec![heads.chain(counted).collect()];
    for row in report["rows"].as_array().into_iter().flatten() {
        lines.push(line(row, by.iter().map(|name| row[name].as_str().unwrap_or("-").to_owned()).collect()));
    }
    let mut total = vec![String::new(); by.len()];
    if let Some(first) = total.first_mut() {
        "total".clone_into(first);
    }
    lines.push(line(&report["total"], total));
    let text = |name: &str| report[name].as_str().unwrap_or("-");
    let currency = if has_prices { format!(", in {}", text("currency")) } else { String::new() };
    let mut shown = format!("{} to {}{currency}\n\n", text("from"), text("to"));
    shown.push_str(&columns::table(&lines, by.len()));
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_a_table_that_a_person_reads() {
        let report = json!({
            "from": "2026-11-01T00:00:00+08:00", "to": "2026-12-01T00:00:00+08:00", "by": ["tenant", "model"],
            "rows": [
                {"tenant": "acme", "model": "wan2.7-t2v", "entries": 12, "estimated": 0, "cut": 0, "unread": 1,
                    "units": {"video_second": "60.040"}},
                {"tenant": "b", "model": "qwen3-max", "entries": 3, "estimated": 0, "cut": 0, "unread": 0,
                    "units": {"input_token": "1200"}},
            ],
            "total": {"entries": 15, "estimated": 0, "cut": 0, "unread": 1,
                "units": {"video_second": "60.040", "input_token": "1200"}},
        });
        let expected = "2026-11-01T00:00:00+08:00 to 2026-12-01T00:00:00+08:00\n\n\
            TENANT  MODEL       ENTRIES  UNREAD  INPUT_TOKEN  VIDEO_SECOND\n\
            acme    wan2.7-t2v       12       1            0        60.040\n\
            b       qwen3-max         3       0         1200             0\n\
            total                    15       1         1200        60.040\n";
        assert_eq!(table(&report), expected);
        let report = json!({
            "from": "a", "to": "b", "by": ["tenant"], "currency": "CNY", "rows": [],
            "total": {"entries": 2, "unpriced": 1, "estimated": 0, "cut": 0, "unread": 0, "amount": "3.000000000",
                "credits": "0.000000000", "units": {}},
        });
        let expected = "a to b, in CNY\n\n\
            TENANT  ENTRIES  UNPRICED       AMOUNT\n\
            total         2         1  3.000000000\n";
        assert_eq!(table(&report), expected);
    }

    #[test]
    fn a_filter_is_encoded() {
        let filter = UsageFilter {
            from: Some("2026-11-01T00:00:00+08:00".to_owned()),
            to: None,
            tenant: Some("a&b".to_owned()),
            key_id: None,
            model: None,
            request_id: None,
            task_id: None,
        };
        assert_eq!(filter.query(), "&from=2026%2D11%2D01T00%3A00%3A00%2B08%3A00&tenant=a%26b");
    }
}
