use std::fs;
use std::path::Path;
use std::time::{Instant, SystemTime};

use uuid::Uuid;

use super::timestamp::push_digits;
use super::*;
use crate::config::LogTarget;
use crate::net::client_address::ClientAddress;

fn line(number: u64) -> LogLine<'static> {
    LogLine {
        request_id: Uuid::nil(),
        upstream_request_id: Some("up-1"),
        replica: None,
        client: ClientAddress { ip: [127, 0, 0, 1].into(), port: Some(1234) },
        tenant: Some("acme"),
        key_id: Some("acme-1"),
        mount: Some("/wan"),
        method: Some("POST"),
        operation: "submit",
        model: Some("wan2.7-t2v"),
        task_id: None,
        account: Some("main"),
        attempts: 1,
        served: None,
        upstream_code: None,
        code: Some(200),
        outcome: "answered",
        reason: None,
        bytes_in: number,
        bytes_out: 2,
        duration: Duration::from_micros(10_500),
        upstream: Duration::from_micros(10_000),
        client_wait: Duration::from_micros(400),
        turn: Duration::ZERO,
        overhead: Duration::from_micros(100),
        sample: None,
    }
}

fn to(path: &Path) -> LogSettings {
    LogSettings { access: LogTarget::File(path.into()), ..LogSettings::default() }
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
    line(1).write(LogFormat::Json, &mut Timestamps::default(), &mut written);
    let text = String::from_utf8(written).expect("text");
    assert!(text.ends_with("}\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let time = json["time"].as_str().and_then(|time| humantime::parse_rfc3339(time).ok()).expect("a time");
    assert!(SystemTime::now().duration_since(time).is_ok_and(|age| age < Duration::from_secs(60)), "{text}");
    assert_eq!(json["client"], "127.0.0.1:1234");
    assert_eq!((&json["code"], &json["duration_seconds"]), (&200.into(), &0.0105.into()));
    assert!(json.get("task_id").is_none() && json.get("sample").is_none(), "{text}");
    let mut written = Vec::new();
    line(1).write(LogFormat::Text, &mut Timestamps::default(), &mut written);
    let text = String::from_utf8(written).expect("text");
    assert!(text.contains("Z 200 answered submit method=POST mount=/wan tenant=acme "), "{text}");
    assert!(text.contains(" duration=10.5ms upstream=10ms client=400µs turn=0ns overhead=100µs "), "{text}");
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
fn every_line_of_every_writer_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let log = AccessLog::start(&to(&path)).expect("a log");
    thread::scope(|scope| {
        for _ in 0..3 {
            let writer = log.writer();
            scope.spawn(move || (0..1000).for_each(|number| writer.write(&line(number), LogFormat::Json)));
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
    let writer = log.writer();
    writer.write(&line(1), LogFormat::Json);
    eventually("the first line is there", || lines(&path) == 1);
    fs::rename(&path, &old).expect("renamed");
    writer.write(&line(2), LogFormat::Json);
    eventually("the second line is in a new file", || lines(&path) == 1);
    let elsewhere = folder.path().join("other.log");
    log.retarget(&to(&elsewhere));
    eventually("the new target is taken", || {
        writer.write(&line(3), LogFormat::Json);
        lines(&elsewhere) > 0
    });
    assert_eq!((lines(&old), log.dropped()), (1, 0));
}

#[test]
fn what_cannot_be_written_is_counted_and_holds_nobody_up() {
    let log = LogSettings { access: LogTarget::File("/dev/full".into()), ..LogSettings::default() };
    let log = AccessLog::start(&log).expect("a log");
    let writer = log.writer();
    (0..10).for_each(|number| writer.write(&line(number), LogFormat::Json));
    eventually("they are counted", || log.dropped() == 10);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    log.retarget(&to(&path));
    eventually("it goes on elsewhere", || {
        writer.write(&line(1), LogFormat::Json);
        lines(&path) > 0
    });
    assert!(AccessLog::start(&to(&folder.path().join("none/access.log"))).is_err());
}

/// The pipe's reader never reads.
#[test]
fn a_target_that_is_stuck_drops_what_does_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    // Opened for reading and writing, so that the log's own opening does not wait for a reader.
    let _both = fs::OpenOptions::new().read(true).write(true).open(&path).expect("the pipe");
    let log = AccessLog::start(&to(&path)).expect("a log");
    let writer = log.writer();
    let began = Instant::now();
    let lines = 3 * MOST_WAITING_BYTES as u64 / 500;
    (0..lines).for_each(|number| writer.write(&line(number), LogFormat::Json));
    assert!(log.dropped() > 0 && log.dropped() < lines, "{} of {lines}", log.dropped());
    let began_to_close = Instant::now();
    log.close(Duration::from_millis(50));
    assert!(began_to_close.elapsed() < Duration::from_secs(10), "after {:?}", began.elapsed());
}

#[test]
fn a_time_is_written_as_rfc_3339_has_it() {
    let mut timestamps = Timestamps::default();
    for (micros, text) in [
        (1_700_000_000_000_001, "2023-11-14T22:13:20.000001Z"),
        (1_700_000_000_999_999, "2023-11-14T22:13:20.999999Z"),
        (1_700_000_001_000_000, "2023-11-14T22:13:21.000000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
    ] {
        let mut written = Vec::new();
        timestamps.write_at(Duration::from_micros(micros), &mut written);
        assert_eq!(String::from_utf8_lossy(&written), text);
    }
}

#[test]
fn digits_are_those_of_the_number() {
    for number in [0, 7, 10, 999, 1_000_000, u64::MAX] {
        for least in [1, 6] {
            let mut written = Vec::new();
            push_digits(&mut written, number, least);
            assert_eq!(String::from_utf8_lossy(&written), format!("{number:0least$}"));
        }
    }
}

/// The configuration allows no such name; the line must be valid all the same.
#[test]
fn whatever_stands_in_a_name_a_line_is_json() {
    let mut written = Vec::new();
    let odd = LogLine { tenant: Some("a\"b\\c\nd\u{4e07}"), ..line(1) };
    odd.write(LogFormat::Json, &mut Timestamps::default(), &mut written);
    let json: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(json["tenant"], "a_b_c_d___");
}
