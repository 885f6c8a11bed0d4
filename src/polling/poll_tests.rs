use std::path::Path;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::super::task_ended::TaskEndSubscribers;
use super::*;
use crate::account::AccountRegistry;
use crate::config::Config;
use crate::dashscope::task::Status;
use crate::store::TaskRecord;
use crate::tasks::index::TaskIndex;
use crate::telemetry::metrics::Metrics;
use crate::tenant::directory::Directory;

const CONFIG: &str = r#"
    accounts = [{ name = "main", base_url = "https://h", keys = ["sk-1"] }]
    tenants = [{ name = "one", keys = [{ id = "key", key = "0123456789abcdef" }] }]"#;

/// A hub that follows these tasks, and asks nobody: its querier is the test.
fn hub(tasks: impl IntoIterator<Item = TaskRecord>) -> PollHub {
    let config = Config::parse(CONFIG, Path::new("."), &|_| None).expect("a configuration").config;
    let (metrics, index) = (Arc::<Metrics>::default(), Arc::<TaskIndex>::default());
    let directory = Directory::build(&config, &AccountRegistry::new(Instant::now()), &metrics);
    tasks.into_iter().for_each(|task| index.remember(task));
    let ends = TaskEndSubscribers::new(index, metrics, Arc::new(ArcSwap::from_pointee(directory)));
    PollHub::new(ends, mpsc::unbounded_channel().0, Instant::now())
}

fn tracked(hub: &PollHub, id: &str) -> Arc<TrackedTask> {
    hub.tracked_task(id, "one", Instant::now(), SystemTime::now()).expect("a task")
}

/// After a restart too: a status that is known from the store alone may be as old as its task.
#[tokio::test(start_paused = true)]
async fn an_answer_without_news_is_as_old_as_the_tasks_claim() {
    let hour = Duration::from_secs(3600);
    for status in [Status::Pending, Status::Running] {
        let task = TaskRecord::sample("a", SystemTime::now() - hour);
        let hub = hub([TaskRecord { status: status.into(), ..task }]);
        let polled = hub.poll(&tracked(&hub, "a"), None, Duration::from_secs(2), Instant::now()).await;
        let PollAnswer { age, served, .. } = polled.expect("an answer");
        assert_eq!(served, PollServed::Stale);
        assert!((hour..2 * hour).contains(&age), "{age:?}");
    }
}
