//! The querier's search for orphans: reads accounts' task lists, one page at a time.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hyper::StatusCode;
use hyper::header::DATE;
use tokio::time::sleep_until;

use super::call::CallAnswer;
use super::supervise::caught;
use super::{MOST_PAGE_BYTES, Querier, TASKS};
use crate::dashscope::listed_task;
use crate::dashscope::task_list::TaskPage;
use crate::dashscope::time;
use crate::polling::hub::QueryOutcome;
use crate::polling::{
    AccountPoller, AnswerClock, CallPermit, NextCall, OrphanPage, QueryFault, TaskEndpoint,
};

impl Querier {
    /// Opens the pollers of all accounts: an account without a task of ours may have orphans.
    pub(super) fn open_pollers(&self) {
        for account in &self.directory.load().accounts {
            self.hub.account_poller(&account.name);
        }
    }

    pub(super) async fn search(self: Rc<Self>, poller: Arc<AccountPoller>) -> Infallible {
        loop {
            let times = self.directory.load().settings.poll.orphans;
            match self.hub.next_orphan_page(&poller, &times, Instant::now(), SystemTime::now()) {
                NextCall::Ask(page, number) => {
                    let permit = CallPermit::new(&poller, TaskEndpoint::List, number);
                    let search = self.search_page(&poller, page, permit);
                    // After a panic the page counts as failed: else its scan would wait for it for ever.
                    let done = caught(poller.account(), "a search for orphans", search).await;
                    let failed = done.unwrap_or(Err(QueryOutcome::Failed(QueryFault::Lost)));
                    if let Err(outcome) = failed {
                        self.hub.orphan_page_failed(&poller, page, &outcome, &times, Instant::now());
                    }
                }
                NextCall::At(time) => tokio::select! {
                    () = sleep_until(time.into()) => {}
                    () = poller.orphan_news() => {}
                },
                NextCall::Nothing => poller.orphan_news().await,
            }
        }
    }

    async fn search_page(
        &self,
        poller: &AccountPoller,
        page: OrphanPage,
        permit: CallPermit,
    ) -> Result<(), QueryOutcome> {
        let times = self.directory.load().settings.poll.orphans;
        let query = listed_task::query(page.number, page.size);
        let asked = SystemTime::now();
        let CallAnswer { answer, is_whole } =
            self.call(&format!("{TASKS}?{query}"), MOST_PAGE_BYTES, permit).await?;
        if !is_whole {
            return Err(QueryOutcome::Failed(QueryFault::TooLarge));
        }
        let listed = TaskPage::read(&answer.body);
        let Some(listed) = listed
            .filter(|listed| answer.status == StatusCode::OK && listed.is_plausible(page.number, page.size))
        else {
            return Err(QueryOutcome::Failed(QueryFault::odd(&answer)));
        };
        let date = answer.headers.get(DATE).and_then(|date| time::read_http(date.to_str().ok()?));
        let clock = AnswerClock { asked, received: SystemTime::now(), date };
        self.hub.take_orphan_page(poller, &listed, clock, &times, Instant::now());
        Ok(())
    }
}
