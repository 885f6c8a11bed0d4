use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::account::AccountRegistry;
use crate::config::{self, BaseUrl, Secret};
use crate::dashscope::refusal::Throttling;
use crate::telemetry::metrics::Metrics;

/// Accounts, and the moment at which all of them are available.
struct Pool {
    registry: AccountRegistry,
    accounts: Vec<Account>,
    start: Instant,
}

fn pool(weights: &[u32], keys: usize) -> Pool {
    let start = Instant::now();
    let registry = AccountRegistry::new(start);
    let accounts = configured(weights, keys, &registry);
    Pool { registry, accounts, start }
}

fn configured(weights: &[u32], keys: usize, registry: &AccountRegistry) -> Vec<Account> {
    let configs = weights.iter().enumerate().map(|(number, weight)| config_of(number, weight, keys));
    configs.map(|account| Account::new(&account, registry, &Metrics::default())).collect()
}

fn config_of(number: usize, weight: &u32, keys: usize) -> config::AccountSettings {
    config::AccountSettings {
        name: format!("a{number}").into(),
        base_url: BaseUrl { tls: false, host: "h".into(), port: 1, path: String::new() },
        keys: (0..keys).map(|key| Secret::new(format!("sk-{number}-{key}"))).collect(),
        ca_pem: None,
        proxy: None,
        rates: config::Rates::default(),
        weight: *weight,
        pace: Vec::new(),
        errors: config::AccountErrors::Pass,
        exclusive: false,
    }
}

impl Pool {
    fn choose(
        &self,
        need: &ChoiceNeeds<'_>,
        tried: &TriedAccounts,
        now: Instant,
    ) -> Result<Pick<'_>, NoneAvailable> {
        let among: Vec<usize> = (0..self.accounts.len()).collect();
        choose(&self.accounts, &among, need, tried, self.registry.turn(), now)
    }

    /// Sends a submit, which succeeds, and returns the index of its account.
    fn submit(&self, now: Instant) -> Result<usize, NoneAvailable> {
        let pick = self.choose(&SUBMIT, &TriedAccounts::default(), now)?;
        let index = pick.index;
        pick.answered(&GOOD, &mut TriedAccounts::default(), now);
        Ok(index)
    }

    /// Sends a submit, which the account refuses.
    fn refuse(&self, index: usize, cause: RefusalCause, now: Instant) {
        let pick = choose_key(&self.accounts, index, &SUBMIT, &TriedAccounts::default(), now).expect("a key");
        pick.answered(
            &AccountFeedback { is_success: false, cause: Some(cause), ..GOOD },
            &mut TriedAccounts::default(),
            now,
        );
    }
}

const SUBMIT: ChoiceNeeds<'_> =
    ChoiceNeeds { model: Some("wan"), proves_recovery: true, is_repeatable: true };
const OTHER_MODEL: ChoiceNeeds<'_> = ChoiceNeeds { model: Some("qwen"), ..SUBMIT };
const CHAT: ChoiceNeeds<'_> = ChoiceNeeds { is_repeatable: false, ..SUBMIT };
const POLICY: ChoiceNeeds<'_> = ChoiceNeeds { proves_recovery: false, ..SUBMIT };
const GOOD: AccountFeedback<'_> =
    AccountFeedback { is_success: true, takes_key: true, cause: None, retry_after: None, model: Some("wan") };
const RATE: RefusalCause = RefusalCause::Throttled(Throttling::RateQuota);
const BURST: RefusalCause = RefusalCause::Throttled(Throttling::BurstRate);
const BILL: RefusalCause = RefusalCause::Throttled(Throttling::PostpaidBillOverdue);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_shares_are_those_of_the_weights() {
    let pool = pool(&[1, 3, 0, 6], 1);
    let mut shares = BTreeMap::new();
    for _ in 0..1000 {
        *shares.entry(pool.submit(pool.start).expect("an account")).or_insert(0) += 1;
    }
    let [one, three, six] = [0, 1, 3].map(|index| shares[&index]);
    assert_eq!(shares.len(), 3);
    assert!(
        (98..=102).contains(&one) && (298..=302).contains(&three) && (598..=602).contains(&six),
        "{shares:?}"
    );
}

#[test]
fn a_throttled_model_rests_and_others_do_not() {
    let pool = pool(&[1, 1], 1);
    pool.refuse(0, RATE, pool.start);
    let rested = |now| (0..20).map(|_| pool.submit(now)).filter(|index| *index == Ok(0)).count();
    assert_eq!(rested(pool.start + seconds(59)), 0);
    let other = (0..20)
        .map(|_| pool.choose(&OTHER_MODEL, &TriedAccounts::default(), pool.start).map(|pick| pick.index));
    assert!(other.filter(|index| *index == Ok(0)).count() >= 9);
    assert_eq!(pool.accounts[0].status(pool.start).models.len(), 1);
    assert!(rested(pool.start + seconds(60)) > 0);
    assert_eq!(pool.accounts[0].status(pool.start + seconds(60)).models, []);
    assert!(!pool.accounts[0].has_throttled_models());
}

#[test]
fn an_overdue_account_rests_for_every_model() {
    for cause in [RefusalCause::Arrearage, BILL] {
        let pool = pool(&[1, 1], 1);
        pool.refuse(0, cause, pool.start);
        for need in [SUBMIT, OTHER_MODEL, POLICY] {
            for _ in 0..20 {
                assert_eq!(
                    pool.choose(&need, &TriedAccounts::default(), pool.start).map(|pick| pick.index),
                    Ok(1)
                );
            }
        }
    }
}

#[test]
fn a_dead_key_gives_way_to_the_next_and_with_the_last_the_account_is_out() {
    let pool = pool(&[1, 1], 2);
    pool.refuse(0, RefusalCause::InvalidKey, pool.start);
    let key = |now| {
        let pick = choose_key(&pool.accounts, 0, &CHAT, &TriedAccounts::default(), now).expect("a key");
        pick.probes.key
    };
    assert_eq!(key(pool.start), 1);
    assert!((0..20).any(|_| pool.submit(pool.start) == Ok(0)));
    pool.refuse(0, RefusalCause::InvalidKey, pool.start);
    assert!((0..20).all(|_| pool.submit(pool.start) == Ok(1)));
    let status = pool.accounts[0].status(pool.start);
    let causes: Vec<_> = status.keys.iter().map(|key| key.map(|key| key.cause)).collect();
    assert_eq!(causes, [Some(RefusalCause::InvalidKey); 2]);
    assert_eq!(status.resting, None);
}

#[test]
fn a_key_is_tried_again_by_what_can_be_repeated() {
    let pool = pool(&[1], 2);
    pool.refuse(0, RefusalCause::InvalidKey, pool.start);
    let later = pool.start + seconds(60);
    let key = |need| choose_key(&pool.accounts, 0, need, &TriedAccounts::default(), later).expect("a key");
    assert_eq!(key(&CHAT).probes.key, 1);
    let probe = key(&SUBMIT);
    assert_eq!(probe.probes.key, 0);
    // Only one request probes at a time.
    assert_eq!(key(&SUBMIT).probes.key, 1);
    probe.answered(&GOOD, &mut TriedAccounts::default(), later);
    assert_eq!(key(&CHAT).probes.key, 0);
}

#[test]
fn what_refused_a_request_is_not_asked_again_by_it() {
    let pool = pool(&[1, 1, 1], 2);
    let (mut tried, mut asked) = (TriedAccounts::default(), Vec::new());
    while let Ok(pick) = pool.choose(&SUBMIT, &tried, pool.start) {
        asked.push((pick.index, pick.probes.key));
        let cause = if pick.index == 1 { RefusalCause::InvalidKey } else { RATE };
        pick.answered(
            &AccountFeedback { is_success: false, cause: Some(cause), ..GOOD },
            &mut tried,
            pool.start,
        );
    }
    asked.sort_unstable();
    assert_eq!(asked, [(0, 0), (1, 0), (1, 1), (2, 0)]);
    assert_eq!(pool.submit(pool.start), Err(NoneAvailable(seconds(60))));
}

#[test]
fn with_all_out_the_wait_is_that_for_the_first_to_come_back() {
    let pool = pool(&[1, 1, 1], 1);
    pool.refuse(0, RATE, pool.start);
    pool.refuse(1, BURST, pool.start);
    pool.refuse(2, RefusalCause::Arrearage, pool.start);
    assert_eq!(pool.submit(pool.start + seconds(2)), Err(NoneAvailable(seconds(3))));
    assert_eq!(pool.submit(pool.start + seconds(5)), Ok(1));
}

#[test]
fn what_came_back_is_tried_by_one_request() {
    let pool = pool(&[1, 1], 1);
    for index in [0, 1] {
        pool.refuse(index, RefusalCause::Arrearage, pool.start);
    }
    let later = pool.start + seconds(60);
    let none = TriedAccounts::default();
    let probes = [pool.choose(&SUBMIT, &none, later), pool.choose(&SUBMIT, &none, later)].map(Result::ok);
    assert!(probes.iter().all(Option::is_some));
    assert_eq!(pool.submit(later), Err(NoneAvailable(seconds(1))));
    for probe in probes.into_iter().flatten() {
        let answer = AccountFeedback { is_success: false, cause: Some(RefusalCause::Arrearage), ..GOOD };
        probe.answered(&answer, &mut TriedAccounts::default(), later);
    }
    assert_eq!(pool.submit(later), Err(NoneAvailable(seconds(120))));
}

#[test]
fn a_probe_that_learns_nothing_lets_the_next_one_try() {
    let pool = pool(&[1, 1], 1);
    pool.refuse(0, RefusalCause::Arrearage, pool.start);
    pool.refuse(1, RefusalCause::Arrearage, pool.start);
    let later = pool.start + seconds(60);
    for _ in 0..2 {
        let probe = pool.choose(&SUBMIT, &TriedAccounts::default(), later).expect("a probe");
        // An error of the request itself, such as a wrong body, proves nothing about the account.
        probe.answered(&AccountFeedback { is_success: false, ..GOOD }, &mut TriedAccounts::default(), later);
        drop(pool.choose(&SUBMIT, &TriedAccounts::default(), later).expect("a probe"));
    }
    assert!(pool.submit(later).is_ok());
}

#[test]
fn the_rest_of_a_key_ends_with_an_answer_that_proves_the_key() {
    let pool = pool(&[1], 1);
    let unproven = AccountFeedback { is_success: false, takes_key: false, ..GOOD };
    let throttled = AccountFeedback { cause: Some(RATE), ..unproven };
    pool.refuse(0, RefusalCause::InvalidKey, pool.start);
    let key_rests = |answer: &AccountFeedback<'_>| {
        let pick =
            choose_key(&pool.accounts, 0, &CHAT, &TriedAccounts::default(), pool.start).expect("a key");
        pick.answered(answer, &mut TriedAccounts::default(), pool.start);
        pool.accounts[0].status(pool.start).keys != [None]
    };
    // A failure of the server, the page of a firewall, and a bare 429.
    assert!(key_rests(&unproven) && key_rests(&throttled));
    assert!(!key_rests(&AccountFeedback { takes_key: true, ..unproven }));
}

#[test]
fn what_cannot_tell_goes_where_it_is_well_and_else_where_it_may_be() {
    let pool = pool(&[1, 1], 1);
    pool.refuse(0, RefusalCause::Arrearage, pool.start);
    let later = pool.start + seconds(60);
    let policy = |now| pool.choose(&POLICY, &TriedAccounts::default(), now).map(|pick| pick.index);
    assert!((0..10).all(|_| policy(later) == Ok(1)));
    pool.refuse(1, RATE, later);
    assert!((0..10).all(|_| policy(later) == Ok(0)));
    assert_eq!(pool.submit(later), Ok(0));
}

#[test]
fn the_only_account_is_asked_in_any_case() {
    let pool = pool(&[1, 0], 1);
    for cause in [RATE, RefusalCause::Arrearage, RefusalCause::InvalidKey] {
        pool.refuse(0, cause, pool.start);
        assert!(pool.choose(&SUBMIT, &TriedAccounts::default(), pool.start).is_ok());
    }
    // The answer of the only account ends its rest.
    assert_eq!(pool.submit(pool.start), Ok(0));
    let status = pool.accounts[0].status(pool.start);
    assert_eq!((status.resting, status.keys, status.models), (None, vec![None], vec![]));
}

#[test]
fn what_cannot_be_reached_rests_a_little_and_is_tried_by_one() {
    let pool = pool(&[1, 1], 1);
    let mut now = pool.start;
    let unreached = |pick: Pick<'_>, now| pick.unreached(&mut TriedAccounts::default(), now);
    unreached(choose_key(&pool.accounts, 0, &SUBMIT, &TriedAccounts::default(), now).expect("a key"), now);
    for (rest, next) in [(2, 4), (4, 8), (8, 16), (16, 32), (32, 60), (60, 60)] {
        let resting = |now| pool.accounts[0].status(now).resting.map(|resting| (resting.cause, resting.left));
        assert_eq!(resting(now), Some((RefusalCause::Unreachable, seconds(rest))));
        assert!((0..10).all(|_| pool.submit(now) == Ok(1)));
        now += seconds(rest);
        // A request of any kind can probe the address, and only one request does.
        let probe = (0..10).find_map(|_| {
            pool.choose(&SUBMIT, &TriedAccounts::default(), now).ok().filter(|pick| pick.index == 0)
        });
        let probe = probe.expect("a probe");
        assert!((0..10).all(|_| pool.submit(now) == Ok(1)));
        unreached(probe, now);
        assert_eq!(resting(now).map(|(_, left)| left), Some(seconds(next)));
    }
    // An answer that is no success proves too that the address can be reached.
    now += seconds(60);
    let probe = choose_key(&pool.accounts, 0, &POLICY, &TriedAccounts::default(), now).expect("a key");
    probe.answered(&AccountFeedback { is_success: false, ..GOOD }, &mut TriedAccounts::default(), now);
    assert_eq!(pool.accounts[0].status(now).resting, None);
}

#[test]
fn where_none_can_be_reached_one_is_tried_and_no_more() {
    let pool = pool(&[1, 1, 1], 1);
    for index in 0..3 {
        let pick =
            choose_key(&pool.accounts, index, &SUBMIT, &TriedAccounts::default(), pool.start).expect("a key");
        pick.unreached(&mut TriedAccounts::default(), pool.start);
    }
    let mut asked = [0; 3];
    for _ in 0..30 {
        let mut tried = TriedAccounts::default();
        let pick = pool.choose(&SUBMIT, &tried, pool.start).expect("one to try");
        asked[pick.index] += 1;
        pick.unreached(&mut tried, pool.start);
        assert!(pool.choose(&SUBMIT, &tried, pool.start).is_err());
    }
    assert!(asked.iter().all(|asked| *asked >= 8), "{asked:?}");
    // No account is tried if one of them rests for another cause: the client is told when to retry.
    pool.refuse(1, RATE, pool.start);
    assert_eq!(pool.submit(pool.start), Err(NoneAvailable(seconds(2))));
}

#[test]
fn another_address_can_be_reached_for_all_we_know() {
    let pool = pool(&[1], 1);
    let pick = choose_key(&pool.accounts, 0, &SUBMIT, &TriedAccounts::default(), pool.start).expect("a key");
    pick.unreached(&mut TriedAccounts::default(), pool.start);
    let same = configured(&[1], 1, &pool.registry);
    assert!(Arc::ptr_eq(&same[0].address, &pool.accounts[0].address));
    assert!(same[0].status(pool.start).resting.is_some());
    let mut moved = config_of(0, &1, 1);
    moved.base_url.port = 2;
    assert_eq!(Account::new(&moved, &pool.registry, &Metrics::default()).status(pool.start).resting, None);
}

#[test]
fn a_reload_forgets_nothing() {
    let pool = pool(&[1, 1], 2);
    pool.refuse(0, RefusalCause::InvalidKey, pool.start);
    pool.refuse(1, RefusalCause::Arrearage, pool.start);
    // The reload changes the order of the accounts and adds one.
    let mut reloaded = configured(&[1, 1, 1], 2, &pool.registry);
    reloaded.swap(0, 1);
    let pace = |account: &Account| account.pace("wan2.6-t2v", pool.start).expect("a rule").0;
    assert!(Arc::ptr_eq(&pace(&pool.accounts[0]), &pace(&reloaded[1])));
    let status: Vec<_> = reloaded.iter().map(|account| account.status(pool.start)).collect();
    assert_eq!(status[0].resting.map(|resting| resting.cause), Some(RefusalCause::Arrearage));
    assert_eq!(status[1].keys.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    assert_eq!((status[2].resting, status[2].keys.clone()), (None, vec![None, None]));
}

proptest! {
    /// In any order of refusals, a request is never refused while an account is available, never goes to an account of
    /// weight 0, and is sent once all rests are over.
    #[test]
    fn a_request_goes_where_it_is_well(
        weights in prop::collection::vec(0u32..4, 2..6),
        events in prop::collection::vec((0usize..6, 0usize..4, 0u64..90), 0..40),
    ) {
        let pool = pool(&weights, 2);
        let taking = weights.iter().filter(|weight| **weight > 0).count();
        prop_assume!(taking > 1);
        let mut now = pool.start;
        for (index, cause, pause) in events {
            now += seconds(pause);
            let index = index % weights.len();
            let cause = [RATE, BURST, RefusalCause::Arrearage, RefusalCause::InvalidKey][cause];
            pool.refuse(index, cause, now);
            let is_fit = |account: &&Account| account.takes_new() && account.is_fit(&SUBMIT, now);
            let some_fit = pool.accounts.iter().any(|account| is_fit(&account));
            match pool.choose(&SUBMIT, &TriedAccounts::default(), now) {
                Ok(pick) => prop_assert!(pick.account.takes_new()),
                Err(NoneAvailable(wait)) => {
                    prop_assert!(!some_fit);
                    prop_assert!(wait >= seconds(1) && wait <= seconds(600));
                }
            }
        }
        prop_assert!(pool.choose(&SUBMIT, &TriedAccounts::default(), now + seconds(601)).is_ok());
    }
}
