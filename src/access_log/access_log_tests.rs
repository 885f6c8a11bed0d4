use std::fs;
use std::path::Path;
use std::time::{Instant, SystemTime};

use uuid::Uuid;

use super::line::{Time, name};
use super::*;

fn line(number: u64) -> Line<'static> {
    Line {
        time: Time(SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001)),
        request_id: Uuid::nil(),
        upstream_request_id: Some("up-1"),
        client: ([127, 0, 0, 1], 1234).into(),
        tenant: Some("acme"),
        key_id: Some("acme-1"),
        mount: Some("/wan"),
        method: Some("POST"),
        operation: "submit",
        model: Some("wan2.7-t2v"),
        task_id: None,
        account: Some("main"),
        attempts: 1,
        code: Some(200),
        outcome: "answered",
        reason: None,
        bytes_in: number,
        bytes_out: 2,
        duration_seconds: Duration::from_micros(10_500),
        upstream_seconds: Duration::from_micros(10_000),
        client_seconds: Duration::from_micros(400),
        turn_seconds: Duration::ZERO,
        overhead_seconds: Duration::from_micros(100),
        sample: None,
    }
}

fn to(path: &Path) -> Log {
    Log { access: LogTarget::File(path.into()), ..Log::default() }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn a_line_is_json_or_text() {
    let mut written = Vec::new();
    line(1).write(LogFormat::Json, &mut written);
    let text = String::from_utf8(written).expect("text");
    assert!(text.ends_with("}\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["time"], "2023-11-14T22:13:20.000001Z");
    assert_eq!(json["client"], "127.0.0.1:1234");
    assert_eq!((&json["code"], &json["duration_seconds"]), (&200.into(), &0.0105.into()));
    assert!(json.get("task_id").is_none() && json.get("sample").is_none(), "{text}");
    let mut written = Vec::new();
    line(1).write(LogFormat::Text, &mut written);
    let text = String::from_utf8(written).expect("text");
    assert!(
        text.starts_with("2023-11-14T22:13:20.000001Z 200 answered submit method=POST mount=/wan"),
        "{text}"
    );
    assert!(text.contains(" took=10.5ms upstream=10ms client=400µs turn=0ns overhead=100µs "), "{text}");
}

#[test]
fn only_names_are_shown() {
    for good in ["wan2.7-t2v", "org/model:1", "a"] {
        assert_eq!(name(good), Some(good));
    }
    for bad in ["", "a b", "a\"", "a\n", "\u{4e07}", &"a".repeat(65)] {
        assert_eq!(name(bad), None);
    }
}

#[test]
fn every_line_of_every_pen_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let log = AccessLog::start(&to(&path)).expect("a log");
    thread::scope(|scope| {
        for _ in 0..3 {
            let pen = log.pen();
            scope.spawn(move || (0..1000).for_each(|number| pen.write(&line(number), LogFormat::Json)));
        }
    });
    log.close(Duration::from_secs(30));
    let text = fs::read_to_string(&path).expect("the file");
    assert_eq!((text.lines().count(), log.dropped()), (3000, 0));
    assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
}

#[test]
fn a_file_that_is_renamed_is_opened_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let log = AccessLog::start(&to(&path)).expect("a log");
    let pen = log.pen();
    pen.write(&line(1), LogFormat::Json);
    eventually("the first line is there", || lines(&path) == 1);
    fs::rename(&path, &old).expect("renamed");
    pen.write(&line(2), LogFormat::Json);
    eventually("the second line is in a new file", || lines(&path) == 1);
    let elsewhere = folder.path().join("other.log");
    log.retarget(&to(&elsewhere));
    eventually("the new target is taken", || {
        pen.write(&line(3), LogFormat::Json);
        lines(&elsewhere) > 0
    });
    assert_eq!((lines(&old), log.dropped()), (1, 0));
}

#[test]
fn what_cannot_be_written_is_counted_and_holds_nobody_up() {
    let log = Log { access: LogTarget::File("/dev/full".into()), ..Log::default() };
    let log = AccessLog::start(&log).expect("a log");
    let pen = log.pen();
    (0..10).for_each(|number| pen.write(&line(number), LogFormat::Json));
    eventually("they are counted", || log.dropped() == 10);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    log.retarget(&to(&path));
    eventually("it goes on elsewhere", || {
        pen.write(&line(1), LogFormat::Json);
        lines(&path) > 0
    });
    assert!(AccessLog::start(&to(&folder.path().join("none/access.log"))).is_err());
}

/// Nobody reads the pipe.
#[test]
fn a_target_that_is_stuck_drops_what_does_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    // Open for both, so that the log's own opening does not wait for a reader.
    let _both = fs::OpenOptions::new().read(true).write(true).open(&path).expect("the pipe");
    let log = AccessLog::start(&to(&path)).expect("a log");
    let pen = log.pen();
    let began = Instant::now();
    let lines = 3 * MOST_WAITING_BYTES as u64 / 500;
    (0..lines).for_each(|number| pen.write(&line(number), LogFormat::Json));
    assert!(log.dropped() > 0 && log.dropped() < lines, "{} of {lines}", log.dropped());
    let began_to_close = Instant::now();
    log.close(Duration::from_millis(50));
    assert!(began_to_close.elapsed() < Duration::from_secs(10), "after {:?}", began.elapsed());
}
