use super::*;

const TIMES: OrphanTimes = OrphanTimes {
    every: Duration::from_secs(300),
    after_loss: Duration::from_secs(70),
    min_age: Duration::from_secs(60),
};
const GAP: Duration = Duration::from_millis(200);

fn date() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

/// A page of tasks that were made so many seconds before [`date`], of a list of so many.
fn page(total: usize, ages: impl IntoIterator<Item = u64>) -> TaskPage<ListedTask> {
    let row = |age: u64| ListedTask {
        task_id: format!("{age}").into(),
        created: Some(date() - Duration::from_secs(age)),
        ..ListedTask::default()
    };
    TaskPage { total, page_size: 100, data: ages.into_iter().map(row).collect() }
}

/// Asks for a page, and takes it in.
fn read(scan: &mut OrphanScan, page: &TaskPage<ListedTask>, now: Instant) -> Option<CompleteScan> {
    scan.ask(100, None, &TIMES, now, date());
    scan.answered(page, Some(Skew::default()), GAP, |_| false, now)
}

#[test]
fn scans_come_every_five_minutes_and_soon_after_a_lost_answer() {
    let start = Instant::now();
    let mut scan = OrphanScan::new(start);
    let second = |seconds: u64| start + Duration::from_secs(seconds);
    assert_eq!(scan.step(&TIMES, start), OrphanStep::At(second(300)));
    scan.note_loss(second(10));
    scan.note_loss(second(30));
    assert_eq!(scan.step(&TIMES, second(40)), OrphanStep::At(second(80)));
    assert_eq!(scan.step(&TIMES, second(80)), OrphanStep::Page);
    assert!(read(&mut scan, &page(1, [1]), second(80)).is_some());
    // The second loss was only 50 s ago.
    assert_eq!(scan.step(&TIMES, second(81)), OrphanStep::At(second(100)));
    assert!(read(&mut scan, &page(1, [1]), second(100)).is_some());
    assert_eq!(scan.step(&TIMES, second(101)), OrphanStep::At(second(400)));
}

#[test]
fn pages_come_one_by_one_back_to_a_time() {
    let start = Instant::now();
    let mut scan = OrphanScan::new(start);
    let day = 24 * 3600;
    let first = page(400, (0..100).map(|number| number * 800));
    assert!(read(&mut scan, &first, start).is_none(), "the first scan goes back a day");
    assert_eq!(scan.step(&TIMES, start), OrphanStep::At(start + GAP));
    assert_eq!(scan.step(&TIMES, start + GAP), OrphanStep::Page);
    let end = read(&mut scan, &page(400, [day - 1, day + 1]), start + GAP).expect("its end");
    assert_eq!(end.reached, Some(date() - Duration::from_secs(day + 1)));
    assert_eq!((end.began_at, end.rows.unowned.len()), (date(), 102));
    // The next one reads what is new, and what an open submit asks for.
    assert!(read(&mut scan, &page(400, [0, 700]), start + GAP).is_some());
    scan.ask(100, Some(date() - Duration::from_secs(5000)), &TIMES, start, date());
    let more = scan.answered(&page(400, [0, 4000]), Some(Skew::default()), GAP, |_| false, start);
    assert!(more.is_none());
    assert!(read(&mut scan, &page(400, [5001]), start).is_some());
}

#[test]
fn a_list_in_another_order_is_read_to_its_end() {
    let start = Instant::now();
    let mut scan = OrphanScan::new(start);
    assert!(read(&mut scan, &page(3, [1, 2, 3]), start).is_some());
    let mut of = |ages: [u64; 2]| read(&mut scan, &page(5, ages), start);
    assert!(of([5000, 10]).is_none());
    assert!(of([5000, 9000]).is_none());
    let end = of([5000, 11]).expect("the third of three pages");
    assert_eq!(end.reached, Some(SystemTime::UNIX_EPOCH));
}

#[test]
fn a_long_list_is_left_after_some_pages() {
    let start = Instant::now();
    let all = page(1_000_000, 0..100);
    // Each page begins anew at the newest task, so that a second part shows nothing older.
    for (missed, parts) in [(None, 1), (Some(date() - Duration::from_secs(80_000)), 2)] {
        let mut scan = OrphanScan::new(start);
        for number in 1..=parts * PAGES_OF_PART {
            scan.ask(100, missed, &TIMES, start, date());
            let done = scan.answered(&all, Some(Skew::default()), GAP, |_| true, start);
            let reached =
                number.is_multiple_of(PAGES_OF_PART).then(|| Some(date() - Duration::from_secs(99)));
            assert_eq!(done.map(|done| done.reached), reached);
        }
        assert_eq!(scan.step(&TIMES, start + GAP), OrphanStep::At(start + TIMES.every));
    }
}

/// Page `number`, from 1, of a list with a task for each second.
fn page_of_seconds(number: usize) -> TaskPage<ListedTask> {
    let first = (number as u64 - 1) * 100;
    page(80_000, first..first + 100)
}

/// Asks for pages, and takes them in, until the scan tells something. Returns that with the number of the last page.
fn read_part(
    scan: &mut OrphanScan,
    missed: Option<SystemTime>,
    shift: usize,
    now: Instant,
) -> (CompleteScan, usize) {
    loop {
        let asked = scan.ask(100, missed, &TIMES, now, date());
        let page = page_of_seconds(asked.number.saturating_sub(shift).max(1));
        if let Some(done) = scan.answered(&page, Some(Skew::default()), GAP, |_| true, now) {
            return (done, asked.number);
        }
    }
}

#[test]
fn a_long_list_is_read_in_parts_as_far_as_a_lost_submit_and_not_while_a_scan_is_due() {
    let start = Instant::now();
    let ago = |seconds| Some(date() - Duration::from_secs(seconds));
    let mut scan = OrphanScan::new(start);
    let (first, number) = read_part(&mut scan, ago(70_050), 0, start);
    assert_eq!((first.reached, number), (ago(29_999), 300));
    assert_eq!(scan.step(&TIMES, start), OrphanStep::At(start + GAP), "there is more to read");
    let (second, number) = read_part(&mut scan, None, 0, start);
    assert_eq!((second.reached, number), (ago(59_999), 600));
    // A scan that is due comes first, and reads only what is new: the rest is the other one's.
    scan.note_loss(start);
    let due = start + TIMES.after_loss;
    let (other, number) = read_part(&mut scan, ago(70_050), 0, due);
    assert_eq!((other.reached, number), (ago(699), 7));
    // A page that does not come is asked for again, and the next scan goes first here, too.
    assert_eq!(scan.ask(100, None, &TIMES, due, date()).number, 601);
    scan.failed(&TIMES, due);
    let later = due + AFTER_FAILURE;
    assert_eq!(scan.step(&TIMES, later), OrphanStep::Page);
    assert_eq!(read_part(&mut scan, ago(70_050), 0, later).1, 7);
    // Tasks that were made meanwhile have moved the list by two pages.
    let (last, number) = read_part(&mut scan, None, 2, later);
    assert_eq!((last.reached, number), (ago(70_099), 703));
    assert_eq!(scan.step(&TIMES, later + GAP), OrphanStep::At(later + TIMES.every), "nothing is left");
}

#[test]
fn a_long_scan_goes_on_for_some_pages_before_it_is_parked_and_is_given_up_after_some_failures() {
    let start = Instant::now();
    let ago = |seconds| Some(date() - Duration::from_secs(seconds));
    let mut scan = OrphanScan::new(start);
    read_part(&mut scan, ago(70_050), 0, start);
    assert_eq!(scan.ask(100, None, &TIMES, start, date()).number, 301);
    let due = start + TIMES.every;
    let mut last = 301;
    loop {
        let page = page_of_seconds(last);
        assert!(scan.answered(&page, Some(Skew::default()), GAP, |_| true, due).is_none());
        match scan.ask(100, None, &TIMES, due + GAP, date()).number {
            1 => break,
            number => last = number,
        }
    }
    assert_eq!(last, 350);
    assert!(scan.answered(&page(80_000, [1, 700]), Some(Skew::default()), GAP, |_| true, due).is_some());
    for _ in 0..=MOST_FAILURES {
        assert_eq!(scan.ask(100, None, &TIMES, due, date()).number, 351);
        // The pause is over, and no scan is due.
        scan.failed(&TIMES, due);
        scan.began = due;
        scan.next_page = due;
    }
    assert_eq!(scan.step(&TIMES, due), OrphanStep::At(due + TIMES.every));
}

#[test]
fn a_row_that_tells_no_time_makes_the_scan_worth_nothing() {
    let start = Instant::now();
    let mut scan = OrphanScan::new(start);
    let mut page = page(2, [1, 2]);
    page.data[0].created = None;
    assert_eq!(read(&mut scan, &page, start).expect("its end").reached, None);
}

#[test]
fn a_page_that_does_not_come_ends_the_scan() {
    let start = Instant::now() + Duration::from_secs(1000);
    let mut scan = OrphanScan::new(start);
    assert!(read(&mut scan, &page(400, 0..100), start).is_none());
    scan.failed(&TIMES, start);
    assert_eq!(scan.step(&TIMES, start), OrphanStep::At(start + AFTER_FAILURE));
    assert_eq!(scan.ask(100, None, &TIMES, start + AFTER_FAILURE, date()).number, 1);
    let no_date = scan.answered(&page(1, [1]), None, GAP, |_| false, start).expect("its end");
    assert!(!no_date.has_skew);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        scan.ask(100, None, &TIMES, start, date());
        scan.failed(&TIMES, start);
        let OrphanStep::At(next) = scan.step(&TIMES, start) else { panic!("a pause") };
        pauses.push((next - start).as_secs());
    }
    assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
}
