//! Reports of use: which entries of the ledger are meant, their sums, and how these are shown.

mod csv;
pub mod query;
pub mod report;
