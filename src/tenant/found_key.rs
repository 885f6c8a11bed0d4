//! The key that a found secret belongs to, whether or not it lets anybody in: an operator has found the secret somewhere.

use std::sync::Arc;
use std::time::SystemTime;

use super::browser_token::PresentedToken;
use super::directory::{ConfiguredKey, Directory, Tenant};
use super::key::{KeyDigest, VirtualKey};
use super::keyring::{IssuedKey, Keyring};

/// The key of a secret.
#[derive(Debug)]
pub struct FoundKey<'d> {
    pub owner: KeyOwner<'d>,
    /// End of the browser token, where the secret is one that the key has made.
    pub token_ends: Option<SystemTime>,
}

/// The origin of a found key.
#[derive(Debug)]
pub enum KeyOwner<'d> {
    Configured(&'d ConfiguredKey, &'d Tenant),
    /// The very secret that was found, or that has made the browser token.
    Issued(Arc<IssuedKey>),
}

/// Finds the key of a secret by its digest, or by the signature of a browser token. A key of the configuration counts
/// before one of the keyring, as it does for calls. `None` for a secret that nobody has.
pub fn find<'d>(
    directory: &'d Directory,
    keyring: &Keyring,
    secret: VirtualKey<'_>,
    now: SystemTime,
) -> Option<FoundKey<'d>> {
    let Some(token) = secret.as_browser_token() else {
        let digest = secret.digest();
        let configured = directory.by_digest.get(&digest).map(|index| configured(directory, *index));
        let owner = configured.or_else(|| keyring.find(&digest).map(KeyOwner::Issued))?;
        return Some(FoundKey { owner, token_ends: None });
    };
    let token = PresentedToken::read(token)?;
    let is_of = |digest: &KeyDigest| keyring.signer.verify(&token, digest, now);
    let of_configuration = directory.by_id.get(token.key_id()).copied();
    let configured = of_configuration
        .filter(|index| directory.keys[*index].digest().is_some_and(is_of))
        .map(|index| configured(directory, index));
    let issued = || keyring.secrets(token.key_id()).into_iter().find(|secret| is_of(secret.digest()));
    let owner = configured.or_else(|| issued().map(KeyOwner::Issued))?;
    Some(FoundKey { owner, token_ends: Some(token.ends_at()) })
}

fn configured(directory: &Directory, index: usize) -> KeyOwner<'_> {
    let key = &directory.keys[index];
    KeyOwner::Configured(key, &directory.tenants[key.tenant])
}
