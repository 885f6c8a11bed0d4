//! Commits that a fail-over of the database can lose: a look at its settings, for the log of a start and for the
//! operator.

use std::fmt;

use crate::store::sql::database::Database;
use crate::store::sql::fault::Result;

/// A setting of the database with which a commit that was confirmed can be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DurabilityGap {
    /// `fsync` is off.
    NothingSynced,
    /// `synchronous_commit` is a level that does not wait for the disk of a standby, or for any disk.
    NotAwaited { level: Box<str> },
    /// No standby is synchronous.
    NoSynchronousStandby,
}

impl fmt::Display for DurabilityGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingSynced => {
                f.write_str("fsync is off: a crash of the database's machine can lose or damage all state")
            }
            Self::NotAwaited { level } => write!(
                f,
                "synchronous_commit is {level}: a crash or a fail-over of the database can lose the last commits of a \
                 replica that ends at the same time; set it to on for the gateway's role"
            ),
            Self::NoSynchronousStandby => f.write_str(
                "there is no synchronous standby: a fail-over of the database can lose the last commits of a replica that \
                 ends at the same time, unless the database's storage itself is replicated; set \
                 synchronous_standby_names",
            ),
        }
    }
}

/// The gaps of a database, the widest first.
///
/// # Errors
/// Why the database can't be asked.
pub(in crate::store) fn gaps(database: Database<'_>) -> Result<Vec<DurabilityGap>> {
    // Who is connected as a standby is shown to the roles of monitors only; the settings are shown to all.
    let select = "SELECT current_setting('fsync'), current_setting('synchronous_commit'),
                         current_setting('synchronous_standby_names')";
    let settings = database
        .first(select, &[], |row| Ok([row.text(0)?, row.text(1)?, row.text(2)?].map(str::to_owned)))?;
    Ok(settings.map(|[fsync, level, standbys]| gaps_of(&fsync, &level, &standbys)).unwrap_or_default())
}

fn gaps_of(fsync: &str, level: &str, standbys: &str) -> Vec<DurabilityGap> {
    let mut gaps = Vec::new();
    if fsync == "off" {
        gaps.push(DurabilityGap::NothingSynced);
    }
    if level == "off" || level == "local" {
        gaps.push(DurabilityGap::NotAwaited { level: level.into() });
    } else if standbys.trim().is_empty() {
        gaps.push(DurabilityGap::NoSynchronousStandby);
    }
    gaps
}

/// Logs each gap as a warning.
pub(in crate::store) fn warn(name: &str, database: Database<'_>) {
    match gaps(database) {
        Ok(gaps) => gaps.iter().for_each(|gap| tracing::warn!("{name}: {gap}")),
        Err(fault) => tracing::warn!("{name}: what a fail-over can lose is not known: {fault}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_judged() {
        let not_awaited = |level: &str| DurabilityGap::NotAwaited { level: level.into() };
        for (fsync, level, standbys, expected) in [
            ("on", "on", "*", vec![]),
            ("on", "remote_apply", "FIRST 1 (a)", vec![]),
            ("on", "remote_write", "ANY 1 (a, b)", vec![]),
            ("on", "on", " ", vec![DurabilityGap::NoSynchronousStandby]),
            ("on", "local", "*", vec![not_awaited("local")]),
            ("off", "off", "", vec![DurabilityGap::NothingSynced, not_awaited("off")]),
        ] {
            assert_eq!(gaps_of(fsync, level, standbys), expected, "{fsync} {level} {standbys}");
        }
    }
}
