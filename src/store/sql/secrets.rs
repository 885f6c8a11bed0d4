//! Rows of the secrets that sign browser tokens.

use super::database::Database;
use super::fault::Result;
use super::value::values;
use crate::store::timestamp::{milliseconds, time};
use crate::store::token_secret::{EarlierSecrets, LONGEST_TOKEN, MOST_TOKEN_SECRETS, TokenSecret};
use crate::store::{Store, StoreFault};

impl Store {
    /// Reads the secrets that sign browser tokens, the one that signs first. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn token_secrets(&self) -> std::result::Result<Vec<TokenSecret>, StoreFault> {
        self.read(all)
    }
}

/// Adds a secret, which signs from now on; false if there is one already that is to stay, or one that was not made before
/// this one: secrets are made in the order in which they are stored, so that all replicas know which one signs.
pub(in crate::store) fn add(
    database: Database<'_>,
    secret: &TokenSecret,
    earlier: EarlierSecrets,
) -> Result<bool> {
    let made_at = milliseconds(secret.made_at);
    if database.exists("SELECT 1 FROM secrets WHERE made_at >= ?1", values![made_at])? {
        return Ok(false);
    }
    match earlier {
        EarlierSecrets::Stay => {
            if database.exists("SELECT 1 FROM secrets WHERE retires_at IS NULL", &[])? {
                return Ok(false);
            }
        }
        EarlierSecrets::Retire => {}
        EarlierSecrets::End => database.post("DELETE FROM secrets", &[])?,
    }
    let retires_at = milliseconds(secret.made_at + LONGEST_TOKEN);
    database.post("UPDATE secrets SET retires_at = ?1 WHERE retires_at IS NULL", values![retires_at])?;
    let drop = "DELETE FROM secrets WHERE retires_at <= ?1
                OR secret NOT IN (SELECT secret FROM secrets ORDER BY made_at DESC LIMIT ?2)";
    database.post(drop, values![made_at, MOST_TOKEN_SECRETS as i64 - 1])?;
    let insert = "INSERT INTO secrets (secret, made_at, retires_at) VALUES (?1, ?2, NULL)
                  ON CONFLICT (secret) DO NOTHING";
    Ok(database.execute(insert, values![&secret.bytes, made_at])? > 0)
}

fn all(database: Database<'_>) -> Result<Vec<TokenSecret>> {
    let select = "SELECT secret, made_at, retires_at FROM secrets
                  ORDER BY CASE WHEN retires_at IS NULL THEN 0 ELSE 1 END, made_at DESC";
    database.all(select, &[], |row| {
        Ok(TokenSecret {
            bytes: row.digest(0)?,
            made_at: time(row.integer(1)?),
            retires_at: row.integer_or_null(2)?.map(time),
        })
    })
}
