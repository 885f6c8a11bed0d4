use super::*;
use crate::dashscope::task::Status;

const MINUTE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

/// A submit of 1000 s whose answer was lost at 1010 s.
fn intent(attempt: &str) -> Intent {
    Intent {
        tenant: "one".into(),
        key_id: "key".into(),
        account: Some("main".into()),
        model: "wan2.7-t2v".into(),
        sent_at: at(1000),
        lost_at: at(1010),
        attempt: attempt.into(),
        is_answerable: true,
    }
}

fn orphan(id: &str, created: u64) -> Orphan {
    Orphan {
        task_id: id.into(),
        model: "wan2.7-t2v".into(),
        created: at(created),
        status: Status::Running,
        api_key_id: "1".into(),
        has_own_key: true,
    }
}

fn doubtful(sent: u64, lost: Option<u64>) -> DoubtfulSubmit {
    DoubtfulSubmit { model: None, attempt: None, sent_at: at(sent), lost_at: lost.map(at) }
}

/// An account with these orphans, whose list was read whole at 1080 s and at 1380 s.
fn search(orphans: &[Orphan]) -> SearchedAccount {
    let pass =
        |began| SearchPass { began_at: at(began), reached: Some(SystemTime::UNIX_EPOCH), has_skew: true };
    SearchedAccount {
        account: "main".into(),
        is_exclusive: true,
        orphans: orphans.iter().cloned().map(Arc::new).collect(),
        young: Vec::new(),
        is_complete: true,
        own_keys: ["1".into()].into(),
        passes: vec![pass(1080), pass(1380)],
        doubtful: Vec::new(),
        known_since: at(0),
    }
}

fn each(search: &mut SearchedAccount, change: fn(&mut SearchPass)) {
    search.passes.iter_mut().for_each(change);
}

fn verdict(search: SearchedAccount, intents: &[Intent]) -> Verdict {
    judge(&intents[0], intents, &[search], MINUTE)
}

fn adopted(id: &str, created: u64) -> Verdict {
    Verdict::Adopt(orphan(id, created).into())
}

#[test]
fn the_only_orphan_of_the_only_lost_submit_is_its_task() {
    for created in [997, 1000, 1005, 1013] {
        assert_eq!(verdict(search(&[orphan("t", created)]), &[intent("a")]), adopted("t", created));
    }
    let far = [orphan("t", 1005), orphan("before", 500), orphan("after", 1200)];
    assert_eq!(verdict(search(&far), &[intent("a")]), adopted("t", 1005));
    // A submit of another time or model, or at another account, is no rival.
    let later = Intent { sent_at: at(2000), lost_at: at(2010), ..intent("b") };
    let other_model = Intent { model: "wan2.7-i2v".into(), ..intent("c") };
    let elsewhere = Intent { account: Some("spare".into()), ..intent("d") };
    let intents = [intent("a"), later, other_model, elsewhere];
    assert_eq!(verdict(search(&[orphan("t", 1005)]), &intents), adopted("t", 1005));
}

/// Each case has one thing that leaves room for doubt.
#[test]
fn in_doubt_nothing_is_adopted_or_released() {
    let one = || search(&[orphan("t", 1005)]);
    let of = |change: fn(&mut SearchedAccount)| {
        let mut search = one();
        change(&mut search);
        search
    };
    let searches = [
        ("it is shared", of(|search| search.is_exclusive = false)),
        ("two fit", search(&[orphan("t", 1005), orphan("u", 1006)])),
        ("one more nearly fits", search(&[orphan("t", 1005), orphan("u", 1130)])),
        ("one more is young", of(|search| search.young = vec![orphan("u", 1005).into()])),
        ("more are there than are kept", of(|search| search.is_complete = false)),
        ("it is too early", search(&[orphan("t", 996)])),
        ("it is too late", search(&[orphan("t", 1014)])),
        ("it is far too late", search(&[orphan("t", 1150)])),
        ("another key made it", of(|search| search.own_keys = ["2".into()].into())),
        ("no key is known", of(|search| search.own_keys.clear())),
        ("the clocks were not compared", of(|search| each(search, |pass| pass.has_skew = false))),
        ("the scans were too early", of(|search| each(search, |pass| pass.began_at = at(1070)))),
        ("the scans were too short", of(|search| each(search, |pass| pass.reached = Some(at(990))))),
        ("earlier submits are not known", of(|search| search.known_since = at(1001))),
        ("another submit runs", of(|search| search.doubtful = vec![doubtful(1004, None)])),
        ("another answer was lost", of(|search| search.doubtful = vec![doubtful(900, Some(1003))])),
        ("it is of a snapshot", {
            search(&[Orphan { model: "wan2.7-t2v-2026-04-25".into(), ..orphan("t", 1005) }])
        }),
        ("its model is not listed", search(&[Orphan { model: "".into(), ..orphan("t", 1005) }])),
    ];
    for (why, search) in searches {
        assert_eq!(verdict(search, &[intent("a")]), Verdict::Wait, "{why}");
    }
    for (why, intents) in [
        ("another one fits", vec![intent("a"), intent("b")]),
        ("one without a known account fits", vec![intent("a"), Intent { account: None, ..intent("b") }]),
        ("one without a known model fits", vec![intent("a"), Intent { model: "".into(), ..intent("b") }]),
        ("its account is not known", vec![Intent { account: None, ..intent("a") }]),
        ("its model is not known", vec![Intent { model: "".into(), ..intent("a") }]),
        ("it can't be answered", vec![Intent { is_answerable: false, ..intent("a") }]),
    ] {
        assert_eq!(verdict(one(), &intents), Verdict::Wait, "{why}");
    }
}

/// The rows were read before the question to the other replicas. By the time of the verdict a submit has its task, which may
/// be this one, or its key was freed, and its row is gone.
#[test]
fn a_submit_whose_row_has_gone_since_the_question_is_still_in_doubt() {
    let mut running = search(&[orphan("t", 1005)]);
    running.note_running("b", Some("main"), "wan2.7-t2v", at(1004));
    assert_eq!(verdict(running, &[intent("a")]), Verdict::Wait);
    let mut lost = search(&[orphan("t", 1005)]);
    lost.note_lost(&intent("b"));
    assert_eq!(verdict(lost, &[intent("a")]), Verdict::Wait);
    let mut own = search(&[orphan("t", 1005)]);
    own.note_lost(&intent("a"));
    own.note_lost(&Intent { account: Some("spare".into()), ..intent("c") });
    assert_eq!(verdict(own, &[intent("a")]), adopted("t", 1005));
}

#[test]
fn a_submit_s_own_doubt_is_no_other_s() {
    let mut search = search(&[orphan("t", 1005)]);
    search.doubtful = vec![DoubtfulSubmit { attempt: Some("a".into()), ..doubtful(1000, Some(1010)) }];
    assert_eq!(verdict(search, &[intent("a")]), adopted("t", 1005));
}

#[test]
fn two_scans_without_its_task_release_a_submit() {
    assert_eq!(verdict(search(&[]), &[intent("a")]), Verdict::Release);
    let strangers = [orphan("before", 900), Orphan { model: "wan2.2-t2v-plus".into(), ..orphan("u", 1005) }];
    assert_eq!(verdict(search(&strangers), &[intent("a")]), Verdict::Release);
    let late = orphan("t", 1150);
    assert_eq!(verdict(search(&[late]), &[intent("a")]), Verdict::Wait, "a request may have waited");
    let of = |change: fn(&mut SearchedAccount)| {
        let mut search = search(&[]);
        change(&mut search);
        verdict(search, &[intent("a")])
    };
    assert_eq!(of(|search| search.passes.truncate(1)), Verdict::Wait, "one scan");
    assert_eq!(of(|search| search.passes[0].began_at = at(1070)), Verdict::Wait, "too early");
    let young = of(|search| search.young = vec![orphan("t", 1010).into()]);
    assert_eq!(young, Verdict::Wait, "a young one may be its task");
    assert_eq!(of(|search| search.is_complete = false), Verdict::Wait, "more than are kept");
    assert_eq!(of(|search| search.passes[0].reached = None), Verdict::Wait, "not read whole");
    let forgotten = |search: &mut SearchedAccount| {
        search.passes.iter_mut().for_each(|pass| {
            (pass.began_at, pass.reached) = (pass.began_at + LIFETIME + LATE, None);
        });
    };
    assert_eq!(of(forgotten), Verdict::Release, "no list has so old a task");
    assert_eq!(of(|search| search.account = "spare".into()), Verdict::Wait, "another account");
    assert_eq!(of(|search| search.is_exclusive = false), Verdict::Release, "no adoption, so no risk");
}

#[test]
fn scans_that_reach_less_far_take_nothing_from_those_that_have_reached_a_submit() {
    let after_two_short_ones = |orphans: &[Orphan]| {
        let mut search = search(orphans);
        let short = |began| SearchPass { began_at: at(began), reached: Some(at(1500)), has_skew: true };
        search.passes.extend([short(1680), short(1980)]);
        verdict(search, &[intent("a")])
    };
    assert_eq!(after_two_short_ones(&[]), Verdict::Release);
    assert_eq!(after_two_short_ones(&[orphan("t", 1005)]), adopted("t", 1005));
}

#[test]
fn a_submit_of_an_unknown_account_waits_for_all() {
    let intents = [Intent { account: None, model: "".into(), ..intent("a") }];
    let spare = |passes: usize| {
        let mut spare = SearchedAccount { account: "spare".into(), ..search(&[]) };
        spare.passes.truncate(passes);
        spare
    };
    let judged = |searched: &[SearchedAccount]| judge(&intents[0], &intents, searched, MINUTE);
    assert_eq!(judged(&[search(&[]), spare(2)]), Verdict::Release);
    assert_eq!(judged(&[search(&[]), spare(1)]), Verdict::Wait);
    assert_eq!(judged(&[search(&[orphan("t", 1005)]), spare(2)]), Verdict::Wait);
    assert_eq!(judged(&[]), Verdict::Wait);
}

#[test]
fn a_submit_without_a_key_is_cleared_by_two_scans() {
    let search = search(&[orphan("t", 1005)]);
    assert!(search.clears(&doubtful(700, Some(710)), MINUTE));
    assert!(!search.clears(&doubtful(700, None), MINUTE), "it runs");
    assert!(!search.clears(&doubtful(1000, Some(1010)), MINUTE), "there is an orphan");
    assert!(!search.clears(&doubtful(1300, Some(1370)), MINUTE), "only one scan was later");
    let keyed = DoubtfulSubmit { attempt: Some("a".into()), ..doubtful(700, Some(710)) };
    assert!(!search.clears(&keyed, MINUTE));
}

#[test]
fn a_task_is_awaited_while_its_submit_may_run() {
    let awaited = |submit: DoubtfulSubmit| is_awaited(&orphan("t", 1005), [submit].iter());
    assert!(awaited(doubtful(1000, None)));
    assert!(!awaited(doubtful(1000, Some(1010))), "its answer is lost");
    assert!(!awaited(doubtful(1100, None)), "it was sent later");
    assert!(!awaited(DoubtfulSubmit { model: Some("wan2.2-s2v".into()), ..doubtful(1000, None) }));
}

#[test]
fn a_submit_may_be_the_one_of_an_orphan_of_its_account_time_and_model() {
    let fits = |account: &str, orphan: &Orphan| may_be(&intent("a"), account, orphan);
    assert!(fits("main", &orphan("t", 1005)));
    assert!(!fits("spare", &orphan("t", 1005)));
    assert!(!fits("main", &orphan("t", 500)));
}
