//! Reports of use: which entries of the ledger are meant, their sums, and how these are shown; and budgets as they stand.

mod budget;
mod csv;
pub mod query;
pub mod report;
mod turns;

pub use budget::BudgetStanding;
pub use turns::{NoTurn, ReportTurn, ReportTurns};
