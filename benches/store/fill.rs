//! A store as a gateway leaves it: live tasks, and a month of entries whose closed days have files of their own.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dashgate::dashscope::task::Status;
use dashgate::dashscope::usage::{Unit, Units};
use dashgate::store::{
    Change, Entry, EntryFlags, EntrySource, Outcome, Remark, Store, StoreBounds, TaskFields,
};
use dashgate::usage::{Amount, Charge};
use futures_util::future::join_all;
use rusqlite::Connection;
use uuid::Uuid;

/// Numbers of rows that a store is filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents {
    pub(crate) tasks: u64,
    pub(crate) entries: u64,
    /// Entries of one commit.
    pub(crate) per_commit: usize,
}

pub(crate) fn fill(path: &Path, contents: &Contents) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let now = SystemTime::now();
    let began = Instant::now();
    let bounds = StoreBounds { patience: PATIENCE, ..StoreBounds::default() };
    let store = Store::open_with(path, bounds).map_err(io::Error::other)?;
    runtime.block_on(commit(&store, contents.tasks, TASKS_PER_COMMIT, |number| Change::Claim {
        task: task(number, contents.tasks, now).into(),
        answer: None,
        hold: None,
        request: None,
    }))?;
    let of_tasks = size(path)?;
    println!("{} tasks in {:.1?}: {of_tasks} bytes", contents.tasks, began.elapsed());
    if contents.entries == 0 {
        store.close();
        return Ok(());
    }
    let began = Instant::now();
    runtime.block_on(commit(&store, contents.entries, contents.per_commit, |number| {
        Change::Enter(Arc::new(entry(number, contents.entries, now)))
    }))?;
    let entered = began.elapsed();
    move_closed_days(&store, path, now)?;
    store.close();
    let bytes = size(path)? - of_tasks;
    println!(
        "{} entries in {entered:.1?}, {} a commit: {bytes} bytes, {:.1} an entry; their days have moved in {:.1?}",
        contents.entries,
        contents.per_commit,
        bytes as f64 / contents.entries as f64,
        began.elapsed() - entered
    );
    Ok(())
}

async fn commit(store: &Store, count: u64, at_once: usize, change: impl Fn(u64) -> Change) -> io::Result<()> {
    let mut next = 0;
    while next < count {
        let end = count.min(next + at_once as u64);
        for outcome in join_all((next..end).map(|number| store.commit(change(number)))).await {
            match outcome {
                Ok(Outcome::Made) => {}
                other => return Err(io::Error::other(format!("the store says {other:?}"))),
            }
        }
        next = end;
    }
    Ok(())
}

/// Moves days until all that are surely closed, in any zone, have files of their own.
fn move_closed_days(store: &Store, path: &Path, now: SystemTime) -> io::Result<()> {
    let closed = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(OPEN);
    let is_left = || -> rusqlite::Result<bool> {
        let file = Connection::open(path)?;
        let exists = "SELECT EXISTS (SELECT 1 FROM entry_batches WHERE last_at < ?1)";
        file.query_row(exists, [closed.as_millis() as i64], |row| row.get(0))
    };
    let began = Instant::now();
    for tick in 0.. {
        if !is_left().map_err(io::Error::other)? {
            return Ok(());
        }
        if began.elapsed() > MOVED_WITHIN {
            break;
        }
        // The store looks for closed days once a minute, and goes on where it found one.
        store.tidy(now + Duration::from_secs(61) * (tick / 50));
        thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("closed days stay in the store's own file"))
}

/// Bytes of the store's file, and of those of its closed days.
fn size(path: &Path) -> io::Result<u64> {
    let file = Connection::open(path).map_err(io::Error::other)?;
    let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let free = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
    let count = |sql| file.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(io::Error::other);
    let mut bytes = (count(pages)? - count(free)?) as u64;
    let days = path.with_file_name("dashgate.db-usage");
    if days.exists() {
        for day in fs::read_dir(days)? {
            bytes += day?.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// One of the tasks, which were claimed over the last twenty hours.
fn task(number: u64, count: u64, now: SystemTime) -> TaskFields {
    let tenant = number % TENANTS;
    TaskFields {
        id: id(number).into(),
        tenant: format!("tenant-{tenant}").into(),
        key_id: format!("key-{tenant}").into(),
        account: "main".into(),
        model: VIDEO_MODELS[number as usize % VIDEO_MODELS.len()].into(),
        mount: "/".into(),
        claimed_at: moment(number, count, now, LIVE),
        status: Status::Pending,
        asked: None,
        hidden: false,
        terms: None,
        webhook: None,
    }
}

/// One of the entries, which were settled over the last thirty days.
fn entry(number: u64, count: u64, now: SystemTime) -> Entry {
    let at = moment(number, count, now, MONTH);
    let tenant = number * 7 % TENANTS;
    let is_task = number.is_multiple_of(4);
    let id: Arc<str> = id(u64::MAX / 2 + number).into();
    let (model, class, units, usage) = if is_task {
        let usage = r#"{"duration":5.04,"input_video_duration":0,"output_video_duration":5,"video_count":1,"SR":720}"#;
        let units = Units::from_iter([(Unit::VideoSecond, 5_040)]);
        (VIDEO_MODELS[number as usize / 4 % VIDEO_MODELS.len()], "720P", units, usage.to_owned())
    } else {
        let (input, output) = (1_000 + number % 4_001, 50 + number % 301);
        let usage = format!(
            r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0}}}}"#,
            input + output
        );
        let units =
            Units::from_iter([(Unit::InputToken, input * 1_000), (Unit::OutputToken, output * 1_000)]);
        (CHAT_MODELS[number as usize % CHAT_MODELS.len()], "", units, usage)
    };
    Entry {
        source: if is_task { EntrySource::Task(id) } else { EntrySource::Call(id) },
        at,
        tenant: format!("tenant-{tenant}").into(),
        key_id: format!("key-{tenant}").into(),
        account: "main".into(),
        model: model.into(),
        mount: "/".into(),
        operation: if is_task { Entry::task_operation(false) } else { "chat" }.into(),
        submitted_at: at - Duration::from_millis(700 + number % 90_000),
        status: if is_task { "SUCCEEDED" } else { "" }.into(),
        units,
        class: class.into(),
        usage: usage.into(),
        flags: EntryFlags::default(),
        charge: Charge {
            amount: Some(Amount::from_nanos(1_234_567 + (number % 1_000) as i64 * 1_001)),
            price: if is_task { "video_second 0.6" } else { "input_token 0.8/1000000" }.into(),
            factor: "0.85".into(),
        },
        remark: Remark::default(),
    }
}

/// The moment of a number of so many, which are spread over a time until `now`.
fn moment(number: u64, count: u64, now: SystemTime, over: Duration) -> SystemTime {
    let milliseconds = over.as_millis() as u64;
    now - over
        + Duration::from_millis((u128::from(milliseconds) * u128::from(number) / u128::from(count)) as u64)
}

/// An id of no order, as DashScope's are.
fn id(number: u64) -> String {
    let spread = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Uuid::from_u128(spread).to_string()
}

pub(crate) const TENANTS: u64 = 30;
const VIDEO_MODELS: [&str; 4] = ["wan2.7-t2v", "wan2.7-i2v", "wan2.6-r2v", "happyhorse-1.0-t2v"];
const CHAT_MODELS: [&str; 3] = ["qwen3-max", "qwen-plus", "deepseek-v3.2"];
const TASKS_PER_COMMIT: usize = 256;
const LIVE: Duration = Duration::from_secs(20 * 3600);
pub(crate) const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
/// A commit that waits behind a busy disk is no fault here.
const PATIENCE: Duration = Duration::from_secs(300);
/// Today and yesterday in any zone.
const OPEN: Duration = Duration::from_secs(62 * 3600);
const MOVED_WITHIN: Duration = Duration::from_secs(900);
