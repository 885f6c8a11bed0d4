use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::dashscope::task::Status;
use crate::polling::orphan::Orphan;

/// The replica 1, which has searched the account `main` and asks the replicas 2 and 3.
struct DoubtFixture {
    doubts: OthersDoubts,
    start: Instant,
    number: u64,
}

fn date(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn searched(orphans: &[u64]) -> Vec<SearchedAccount> {
    let orphan = |created: &u64| Orphan {
        task_id: created.to_string().into(),
        model: "wan2.7-t2v".into(),
        created: date(*created),
        status: Status::Running,
        api_key_id: "1".into(),
        has_own_key: true,
    };
    vec![SearchedAccount {
        account: "main".into(),
        is_exclusive: true,
        orphans: orphans.iter().map(orphan).map(Arc::new).collect(),
        young: Vec::new(),
        is_complete: true,
        own_keys: HashSet::new(),
        passes: Vec::new(),
        doubtful: Vec::new(),
        known_since: date(0),
    }]
}

impl DoubtFixture {
    fn new(orphans: &[u64]) -> Self {
        let mut fixture = Self { doubts: OthersDoubts::new(1), start: Instant::now(), number: 0 };
        fixture.hear_all(0);
        fixture.doubts.begin(searched(orphans), fixture.start);
        fixture.ask(0);
        fixture
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    fn hear_all(&mut self, milliseconds: u64) {
        let now = self.at(milliseconds);
        [2, 3].into_iter().for_each(|other| self.doubts.hear(other, now, date(1_000)));
    }

    fn ask(&mut self, milliseconds: u64) {
        let asked = self.doubts.next_question(self.at(milliseconds));
        if let Some(Gossip::AskDoubts { question, .. }) = asked {
            self.number = question;
        }
    }

    /// A report to the last question with submits that were sent at these seconds.
    fn report(&self, parts: usize, sent: &[u64]) -> DoubtReport {
        let submit = |sent: &u64| ReportedSubmit {
            account: "main".into(),
            model: None,
            sent_at: date(*sent),
            lost_at: None,
        };
        DoubtReport {
            to: 1,
            question: self.number,
            at: date(1_000),
            unknown_until: None,
            parts,
            submits: sent.iter().map(submit).collect(),
        }
    }

    fn answer(&mut self, from: Replica, report: &DoubtReport) {
        self.doubts.take_report(from, report, date(1_001));
    }

    /// Times of the submits in doubt, and the time since which all are known, in seconds.
    fn taken(&mut self, milliseconds: u64) -> Option<(Vec<u64>, u64)> {
        let now = self.at(milliseconds);
        let taken = self.doubts.take(now)?;
        let seconds = |time: SystemTime| time.duration_since(date(0)).expect("later").as_secs();
        let mut sent: Vec<u64> = taken[0].doubtful.iter().map(|submit| seconds(submit.sent_at)).collect();
        sent.sort_unstable();
        Some((sent, seconds(taken[0].known_since)))
    }
}

#[test]
fn a_search_waits_for_all_parts_of_all_reports() {
    let mut fixture = DoubtFixture::new(&[500]);
    fixture.answer(2, &fixture.report(1, &[470]));
    assert_eq!(fixture.taken(10), None, "one has not answered");
    fixture.answer(3, &fixture.report(2, &[480]));
    assert_eq!(fixture.taken(20), None, "a part has not come");
    fixture.answer(3, &fixture.report(2, &[490]));
    assert_eq!(fixture.taken(30), Some((vec![470, 480, 490], 0)));
    assert_eq!(fixture.taken(40), None, "it was taken");
}

#[test]
fn a_question_is_put_again_and_its_reports_begin_anew() {
    let mut fixture = DoubtFixture::new(&[500]);
    fixture.answer(2, &fixture.report(1, &[470]));
    fixture.answer(3, &fixture.report(2, &[480]));
    let late = fixture.report(2, &[490]);
    fixture.ask(999);
    assert_eq!(fixture.number, late.question);
    fixture.hear_all(1_000);
    fixture.ask(1_000);
    fixture.answer(3, &late);
    assert_eq!(fixture.taken(1_010), None, "parts of two reports are no report");
    fixture.answer(3, &DoubtReport { to: 4, ..fixture.report(1, &[1]) });
    assert_eq!(fixture.taken(1_020), None, "another replica has asked");
    fixture.answer(3, &fixture.report(1, &[]));
    assert_eq!(fixture.taken(1_030), Some((vec![470], 0)));
}

#[test]
fn submits_of_a_replica_that_has_ended_are_not_known() {
    let mut fixture = DoubtFixture::new(&[500]);
    fixture.answer(2, &fixture.report(1, &[]));
    fixture.doubts.hear(2, fixture.at(2_500), date(1_002));
    assert_eq!(fixture.taken(2_999), None, "it may live");
    let until = 1_000 + LIVES.as_secs() + LATE.as_secs();
    assert_eq!(fixture.taken(3_000), Some((vec![], until)));
    // One that was not heard for as long, and comes back, may have had company.
    let mut fixture = DoubtFixture::new(&[500]);
    fixture.hear_all(3_000);
    [2, 3].into_iter().for_each(|other| fixture.answer(other, &fixture.report(1, &[])));
    assert_eq!(fixture.taken(3_010), Some((vec![], until)));
}

#[test]
fn a_report_says_what_its_sender_does_not_know() {
    let mut fixture = DoubtFixture::new(&[500]);
    fixture.answer(2, &DoubtReport { unknown_until: Some(date(300)), ..fixture.report(1, &[]) });
    fixture.answer(3, &fixture.report(1, &[]));
    assert_eq!(fixture.taken(10), Some((vec![], 300)));
    let mut fixture = DoubtFixture::new(&[500]);
    fixture.answer(2, &DoubtReport { at: date(990), ..fixture.report(1, &[]) });
    fixture.answer(3, &fixture.report(1, &[]));
    assert_eq!(fixture.taken(10), Some((vec![], 1_001)), "times of a clock that is wrong tell nothing");
}

#[test]
fn where_there_is_no_orphan_nobody_is_asked() {
    let mut fixture = DoubtFixture::new(&[]);
    assert_eq!(fixture.number, 0);
    assert_eq!(fixture.taken(10), Some((vec![], 0)));
    let mut alone = DoubtFixture { doubts: OthersDoubts::new(1), start: Instant::now(), number: 0 };
    alone.doubts.begin(searched(&[500]), alone.start);
    assert_eq!(alone.taken(0), Some((vec![], 0)), "there is nobody to be asked");
}

#[test]
fn a_question_that_is_not_answered_makes_way_for_a_later_search() {
    let fixture = DoubtFixture::new(&[500]);
    assert!(!fixture.doubts.may_begin(fixture.at(5_000)));
    assert!(fixture.doubts.may_begin(fixture.at(5_001)));
}
