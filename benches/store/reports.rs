//! Reports over all entries, as an operator asks for them.

use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::fill::MONTH;
use crate::gateway::{Gateway, mebibytes};

/// Asks for each report, prints what it cost, and returns the reports.
pub(crate) fn measure(gateway: &Gateway, entries: u64) -> io::Result<Vec<String>> {
    let days = |days: u64| SystemTime::now() - MONTH + std::time::Duration::from_secs(days * 24 * 3600);
    let date = |time: SystemTime| -> String {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        humantime::format_rfc3339_seconds(UNIX_EPOCH + std::time::Duration::from_secs(seconds))
            .to_string()
            .chars()
            .take(10)
            .collect()
    };
    let month = format!("from={}&to={}", date(days(0) - DAY), date(days(32)));
    let week = format!("from={}&to={}", date(days(14)), date(days(21)));
    let asked = [
        ("the month by tenant", format!("{month}&by=tenant")),
        ("the month by model", format!("{month}&by=model")),
        ("the month by tenant, model and day, as CSV", format!("{month}&by=tenant,model,day&format=csv")),
        ("the month of one tenant, by model and day", format!("{month}&tenant=tenant-7&by=model,day")),
        ("a week by tenant", format!("{week}&by=tenant")),
    ];
    let mut told = Vec::new();
    for (name, query) in asked {
        told.push(timed(gateway, name, || gateway.get(&format!("/admin/usage?{query}")))?);
    }
    let total: Value = serde_json::from_str(&told[0])?;
    if total["total"]["entries"] != entries {
        return Err(io::Error::other(format!(
            "{entries} entries were made, and reported: {}",
            total["total"]
        )));
    }
    timed(gateway, &format!("{} pages of 1000 entries", PAGES), || pages(gateway, &month))?;
    Ok(told)
}

/// The first pages of all entries.
fn pages(gateway: &Gateway, month: &str) -> io::Result<String> {
    let (mut after, mut bytes) = (String::new(), 0);
    for _ in 0..PAGES {
        let page = gateway.get(&format!("/admin/usage/entries?{month}&limit=1000&after={after}"))?;
        bytes += page.len();
        let page: Value = serde_json::from_str(&page)?;
        match page["after"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    Ok(format!("{bytes} bytes"))
}

fn timed(gateway: &Gateway, name: &str, ask: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    let (before, began) = (gateway.taken(), Instant::now());
    let answer = ask()?;
    let (took, after) = (began.elapsed(), gateway.taken());
    println!(
        "  {name}: {took:.2?}, {:.2?} of processor time, {} bytes; {:.1} MiB resident, {:.1} at most",
        after.cpu.saturating_sub(before.cpu),
        answer.len(),
        mebibytes(after.resident_bytes),
        mebibytes(after.peak_bytes)
    );
    Ok(answer)
}

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
const PAGES: usize = 100;
