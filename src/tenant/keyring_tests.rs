use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn insert(ring: &Keyring, id: &str, tenant: &str, digest: KeyDigest, ends: KeyEnd, retired: bool) {
    let (created, details) = (at(1), None);
    ring.insert(&NewKey { id, tenant, digest, created, ends, retired, details });
}

fn fault(ring: &Keyring, digest: u8, now: u64) -> Option<CredentialFault> {
    ring.find(&[digest; 32]).expect("a key").fault(at(now))
}

#[test]
fn a_key_ends_at_its_second() {
    let ring = Keyring::default();
    insert(&ring, "a", "one", [1; 32], KeyEnd::At(at(1000)), false);
    insert(&ring, "b", "two", [2; 32], KeyEnd::Never, false);
    assert_eq!(fault(&ring, 1, 999), None);
    assert_eq!(fault(&ring, 1, 1000), Some(CredentialFault::Expired));
    assert_eq!(fault(&ring, 2, u64::from(u32::MAX) * 2), None);
    let key = ring.named("b").expect("a key");
    assert_eq!((&*key.tenant, ring.len()), ("two", 2));
    assert!(ring.find(&[3; 32]).is_none() && ring.named("c").is_none());
}

#[test]
fn in_the_grace_period_both_work_and_then_the_new_one() {
    let ring = Keyring::default();
    insert(&ring, "a", "one", [1; 32], KeyEnd::At(at(9000)), false);
    ring.rotate("a", [2; 32], at(2000), at(1000));
    assert_eq!((ring.retiring("a", at(1999)), ring.retiring("a", at(2000))), (vec![at(2000)], vec![]));
    assert_eq!((fault(&ring, 1, 1999), fault(&ring, 2, 1999)), (None, None));
    assert_eq!((fault(&ring, 1, 2000), fault(&ring, 2, 2000)), (Some(CredentialFault::Expired), None));
    assert_eq!(fault(&ring, 2, 9000), Some(CredentialFault::Expired), "a successor keeps the key's own end");
    // A longer grace gives no secret a longer life.
    ring.rotate("a", [3; 32], at(5000), at(1500));
    assert_eq!((fault(&ring, 1, 2000), fault(&ring, 2, 4999)), (Some(CredentialFault::Expired), None));
    // Only the store deletes secrets, so that they are known for a while after their end.
    ring.rotate("a", [4; 32], at(6000), at(5500));
    assert_eq!(
        (fault(&ring, 1, 5500), fault(&ring, 2, 5500)),
        (Some(CredentialFault::Expired), Some(CredentialFault::Expired))
    );
    assert_eq!(ring.len(), 4);
}

#[test]
fn a_revoked_key_has_no_secret_left() {
    let ring = Keyring::default();
    insert(&ring, "a", "one", [1; 32], KeyEnd::Never, true);
    insert(&ring, "a", "one", [2; 32], KeyEnd::Never, false);
    insert(&ring, "b", "one", [3; 32], KeyEnd::Never, false);
    ring.revoke("a");
    assert_eq!(fault(&ring, 1, 1), Some(CredentialFault::Revoked));
    assert_eq!(fault(&ring, 2, 1), Some(CredentialFault::Revoked));
    assert_eq!(fault(&ring, 3, 1), None);
}

#[test]
fn a_secret_is_removed_and_its_siblings_stay() {
    let ring = Keyring::default();
    insert(&ring, "a", "one", [1; 32], KeyEnd::At(at(5)), true);
    insert(&ring, "a", "one", [2; 32], KeyEnd::Never, false);
    insert(&ring, "b", "one", [3; 32], KeyEnd::Revoked, false);
    for digest in [1, 3, 9] {
        ring.remove(&[digest; 32]);
    }
    assert!(ring.find(&[1; 32]).is_none() && ring.named("b").is_none() && ring.retired.lock().is_empty());
    assert_eq!(ring.named("a").map(|key| key.digest), Some([2; 32]));
    // Another tenant may then use the id.
    insert(&ring, "b", "two", [4; 32], KeyEnd::Never, false);
    assert_eq!((fault(&ring, 4, 1), ring.len(), ring.by_id.len()), (None, 2, 2));
}

#[test]
fn a_longer_life_is_for_the_newest_secret_alone() {
    let ring = Keyring::default();
    insert(&ring, "a", "one", [1; 32], KeyEnd::At(at(2000)), true);
    insert(&ring, "a", "one", [2; 32], KeyEnd::At(at(3000)), false);
    let details = KeyDetails { note: Some("mine".into()), ..KeyDetails::default() }.shared();
    ring.change("a", Some(at(9000)), details.as_ref());
    assert_eq!((fault(&ring, 1, 2000), fault(&ring, 2, 8999)), (Some(CredentialFault::Expired), None));
    assert!(ring.secrets("a").iter().all(|secret| secret.details() == details));
    ring.change("a", Some(at(1500)), None);
    assert_eq!(fault(&ring, 1, 1500), Some(CredentialFault::Expired));
    ring.change("a", None, None);
    assert_eq!(fault(&ring, 2, 9_000_000), None);
    ring.revoke("a");
    ring.change("a", None, None);
    assert_eq!(fault(&ring, 2, 1), Some(CredentialFault::Revoked));
}

/// The part of a key's memory that the compiler knows; the rest is measured on the running program.
#[test]
fn a_key_is_small() {
    assert!(size_of::<IssuedKey>() <= 88, "{}", size_of::<IssuedKey>());
}
