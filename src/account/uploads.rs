//! The accounts that store tenants' files: only the account that stores a file can read its `oss://` URL, and only the
//! tenant to which the upload directory was issued may use it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashmap::DashMap;

use crate::dashscope::oss;
use crate::limits::TimesAhead;
use crate::store::{Change, CommitFault, Mirror, Store, StoreFault, TenantNames, UPLOADS_KEPT, UploadRecord};

/// Upload directories that policies named: all in memory, and durable in the store.
#[derive(Debug, Default)]
pub struct UploadDirectories {
    by_tenant: DashMap<Arc<str>, TenantUploads, foldhash::fast::RandomState>,
    names: Arc<TenantNames>,
}

/// Upload directories and policies of one tenant.
#[derive(Debug, Default)]
struct TenantUploads {
    /// Account of each directory, and the time when it was last issued.
    directories: HashMap<Arc<str>, (Arc<str>, SystemTime), foldhash::fast::RandomState>,
    /// Every issue of a directory, oldest first.
    order: VecDeque<(Arc<str>, SystemTime)>,
    /// Number of issues that were dropped from `order`.
    dropped: usize,
    ahead: TimesAhead,
    /// Last policy for each model, oldest first.
    last: VecDeque<LastPolicy>,
}

#[derive(Debug)]
struct LastPolicy {
    model: Box<str>,
    account: Arc<str>,
    at: SystemTime,
}

impl Mirror for UploadDirectories {
    fn apply(&self, change: &Change) {
        match change {
            Change::KeepUpload { upload, displaced: _ } => self.remember(upload.clone()),
            Change::Rename { former, name } => self.rename(former, name),
            Change::Claim { .. }
            | Change::Reserve(_)
            | Change::Free { .. }
            | Change::LoseHold { .. }
            | Change::Begin(_)
            | Change::Release(_)
            | Change::Lose(_)
            | Change::Adopt(_)
            | Change::Settle { .. }
            | Change::Deliver(_)
            | Change::Enter(_)
            | Change::Hide { .. }
            | Change::CreateKey(_)
            | Change::RotateKey { .. }
            | Change::RevokeKey { .. }
            | Change::PutTenant(_)
            | Change::ChangeKey { .. }
            | Change::NoteUses(_)
            | Change::Audit(_)
            | Change::KeepSecret { .. } => {}
        }
    }
}

impl UploadDirectories {
    /// Loads the directories of the store. Blocks.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn load(store: &Store) -> Result<Self, StoreFault> {
        let uploads = Self { names: Arc::clone(store.tenant_names()), ..Self::default() };
        store.uploads(|upload| uploads.remember(upload))?;
        Ok(uploads)
    }

    /// Records a policy, which is durable when this returns.
    ///
    /// # Errors
    /// The policy was not stored, and must not be given to the client.
    pub async fn note(&self, store: &Store, mut upload: UploadRecord) -> Result<(), CommitFault> {
        upload.directory = upload.directory.trim_matches('/').into();
        let displaced =
            self.by_tenant.get(&*self.names.current(&upload.tenant)).and_then(|issued| issued.displaced());
        store.commit(Change::KeepUpload { upload, displaced }).await.map(drop)
    }

    /// Adds a directory that is in the store.
    pub fn remember(&self, upload: UploadRecord) {
        let UploadRecord { tenant, directory, model, account, issued_at: at } = upload;
        let mut issued = self.by_tenant.entry(tenant).or_default();
        let issued = &mut *issued;
        while issued.order.len() >= MOST_DIRECTORIES {
            issued.drop_first();
        }
        issued.directories.insert(Arc::clone(&directory), (Arc::clone(&account), at));
        issued.order.push_back((directory, at));
        issued.last.retain(|last| last.model != model);
        if issued.last.len() >= MOST_MODELS {
            issued.last.pop_front();
        }
        issued.last.push_back(LastPolicy { model, account, at });
    }

    /// Gives the directories of a tenant to its new name, which may have directories already.
    fn rename(&self, former: &str, name: &Arc<str>) {
        let Some((_, uploads)) = self.by_tenant.remove(former) else { return };
        let mut renamed = self.by_tenant.entry(Arc::clone(name)).or_default();
        if renamed.order.is_empty() {
            *renamed = uploads;
        } else {
            renamed.add_earlier(uploads);
        }
    }

    /// Forgets directories that have expired at `date`.
    pub fn forget_expired(&self, date: SystemTime) {
        let due = self.by_tenant.iter().filter(|issued| issued.may_expire(date));
        for tenant in due.map(|issued| Arc::clone(issued.key())).collect::<Vec<_>>() {
            if let Some(mut issued) = self.by_tenant.get_mut(&tenant) {
                issued.drop_expired(date);
            }
        }
    }

    /// The account that stores the file of the URL; `None` if its directory was not issued to this tenant.
    pub fn account_of(&self, tenant: &str, url: &str) -> Option<Arc<str>> {
        let key = oss::key(url)?;
        let issued = self.by_tenant.get(&*self.names.current(tenant))?;
        let mut parents = key.match_indices('/').map(|(at, _)| &key[..at]);
        parents
            .find_map(|directory| issued.directories.get(directory))
            .map(|(account, _)| Arc::clone(account))
    }

    /// The account that issued the tenant's last policy for the model, and the time since then. All files of one
    /// request must be in one account, and each file may have a policy of its own, so the next policy should come from
    /// there too.
    pub fn last(&self, tenant: &str, model: &str, now: SystemTime) -> Option<(Arc<str>, Duration)> {
        let issued = self.by_tenant.get(&*self.names.current(tenant))?;
        let last = issued.last.iter().find(|last| *last.model == *model)?;
        Some((Arc::clone(&last.account), now.duration_since(last.at).unwrap_or_default()))
    }
}

impl TenantUploads {
    /// Adds uploads that were issued before these, and as many of them as there is room for.
    fn add_earlier(&mut self, earlier: TenantUploads) {
        let room = MOST_DIRECTORIES.saturating_sub(self.order.len());
        for (directory, at) in earlier.order.into_iter().rev().take(room) {
            if let Some(issue) = earlier.directories.get(&directory) {
                self.directories.entry(Arc::clone(&directory)).or_insert_with(|| issue.clone());
            }
            self.order.push_front((directory, at));
        }
        for last in earlier.last.into_iter().rev() {
            if self.last.len() < MOST_MODELS && self.last.iter().all(|later| later.model != last.model) {
                self.last.push_front(last);
            }
        }
        self.ahead = TimesAhead::default();
        self.dropped = 0;
    }

    /// True if the first directory has expired at `date`, or its time lies ahead.
    fn may_expire(&self, date: SystemTime) -> bool {
        self.order.front().is_some_and(|(_, at)| has_expired(*at, date) || *at > date)
    }

    fn drop_expired(&mut self, date: SystemTime) {
        while let Some((_, at)) = self.order.front() {
            let counted = self.ahead.counted(*at, date, self.dropped..self.dropped + self.order.len());
            if !has_expired(counted, date) {
                break;
            }
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((directory, at)) = self.order.pop_front() else { return };
        self.dropped += 1;
        // A directory that was issued again has a later entry, too.
        if self.directories.get(&directory).is_some_and(|(_, last)| *last <= at) {
            self.directories.remove(&directory);
        }
    }

    /// The directory that the next directory displaces; `None` if it displaces none.
    fn displaced(&self) -> Option<Arc<str>> {
        let (directory, at) = self.order.front().filter(|_| self.order.len() >= MOST_DIRECTORIES)?;
        let is_last = self.directories.get(directory).is_some_and(|(_, last)| last <= at);
        is_last.then(|| Arc::clone(directory))
    }
}

fn has_expired(at: SystemTime, date: SystemTime) -> bool {
    date.duration_since(at).is_ok_and(|age| age > UPLOADS_KEPT)
}

/// Directories of one tenant, of about 200 bytes each.
const MOST_DIRECTORIES: usize = 65_536;
const MOST_MODELS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(tenant: &str, model: &str, directory: &str, account: &str, at: SystemTime) -> UploadRecord {
        UploadRecord {
            tenant: tenant.into(),
            directory: directory.into(),
            model: model.into(),
            account: account.into(),
            issued_at: at,
        }
    }

    fn noted(directories: &[(&str, &str, &str)]) -> UploadDirectories {
        let uploads = UploadDirectories::default();
        for (tenant, directory, account) in directories {
            uploads.remember(upload(tenant, "m", directory, account, SystemTime::UNIX_EPOCH));
        }
        uploads
    }

    #[test]
    fn a_file_is_found_by_its_tenant_alone() {
        let uploads = noted(&[("one", "d/h/1", "east"), ("one", "d/h/2", "west"), ("two", "d/h/3", "west")]);
        let account = |tenant, url| uploads.account_of(tenant, url);
        assert_eq!(account("one", "oss://d/h/1/a.png").as_deref(), Some("east"));
        assert_eq!(account("one", "oss://d/h/2/b/a.png").as_deref(), Some("west"));
        for (tenant, url) in [
            ("two", "oss://d/h/1/a.png"),
            ("three", "oss://d/h/1/a.png"),
            ("one", "oss://d/h/3/a.png"),
            ("one", "oss://d/h/1/../3/a.png"),
            ("one", "oss://d/h/1"),
            ("one", "oss://d/h/11/a.png"),
            ("one", "oss://d/h"),
            ("one", "see oss://d/h/1/a.png"),
        ] {
            assert_eq!(account(tenant, url), None, "{tenant} {url}");
        }
    }

    #[test]
    fn old_and_too_many_directories_are_forgotten() {
        let uploads = noted(&[("one", "d/old", "east")]);
        let later = SystemTime::UNIX_EPOCH + UPLOADS_KEPT + Duration::from_secs(1);
        for number in 0..=MOST_DIRECTORIES {
            uploads.remember(upload("one", &format!("m{number}"), &format!("d/{number}"), "east", later));
        }
        uploads.forget_expired(later);
        for (url, expected) in [("oss://d/old/a", None), ("oss://d/0/a", None), ("oss://d/1/a", Some("east"))]
        {
            assert_eq!(uploads.account_of("one", url).as_deref(), expected, "{url}");
        }
        let issued = uploads.by_tenant.get("one").expect("issued");
        assert_eq!((issued.order.len(), issued.directories.len()), (MOST_DIRECTORIES, MOST_DIRECTORIES));
        assert_eq!(issued.last.len(), MOST_MODELS);
    }

    #[test]
    fn what_is_issued_again_lives_longer() {
        let uploads = noted(&[("one", "d/1", "east"), ("one", "d/2", "east")]);
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 3600);
        uploads.remember(upload("one", "m", "d/1", "east", day(2)));
        uploads.remember(upload("one", "m", "d/3", "east", day(3)));
        uploads.forget_expired(day(3));
        for (url, expected) in [("oss://d/1/a", Some("east")), ("oss://d/2/a", None)] {
            assert_eq!(uploads.account_of("one", url).as_deref(), expected, "{url}");
        }
        uploads.forget_expired(day(5));
        assert_eq!(uploads.account_of("one", "oss://d/1/a"), None);
    }

    #[test]
    fn a_clock_that_jumps_for_a_moment_forgets_no_directory() {
        let uploads = noted(&[("one", "d/1", "east")]);
        let ahead = SystemTime::UNIX_EPOCH + 99 * UPLOADS_KEPT;
        uploads.remember(upload("one", "m", "d/2", "east", ahead));
        let left = |date| {
            uploads.forget_expired(date);
            ["oss://d/1/a", "oss://d/2/a"].map(|url| uploads.account_of("one", url).is_some())
        };
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 3600);
        assert_eq!(
            [left(day(0)), left(day(3)), left(day(4)), left(day(6))],
            [[true; 2], [false, true], [false, true], [false; 2]]
        );
    }

    /// The true times lie ahead of such a clock; were they taken for wrong, all would expire at once.
    #[test]
    fn a_clock_that_lags_for_a_moment_forgets_no_directory() {
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 3600);
        let uploads = UploadDirectories::default();
        for (directory, at) in [("d/1", day(98)), ("d/2", day(99))] {
            uploads.remember(upload("one", "m", directory, "east", at));
        }
        let left = |date| {
            uploads.forget_expired(date);
            ["oss://d/1/a", "oss://d/2/a"].map(|url| uploads.account_of("one", url).is_some())
        };
        assert_eq!(
            [left(day(69)), left(day(99)), left(day(101)), left(day(102))],
            [[true; 2], [true; 2], [false, true], [false; 2]]
        );
    }

    #[test]
    fn a_renamed_tenant_has_the_directories_of_both_names() {
        let uploads = noted(&[("one", "d/1", "east"), ("one", "d/2", "east"), ("two", "d/2", "west")]);
        let rename = |former: &str, name: &str| {
            let change = Change::Rename { former: former.into(), name: name.into() };
            uploads.apply(&change);
        };
        rename("one", "two");
        rename("nobody", "two");
        rename("two", "three");
        let account = |tenant, url| uploads.account_of(tenant, url);
        for (url, expected) in [("oss://d/1/a", "east"), ("oss://d/2/a", "west")] {
            assert_eq!(account("three", url).as_deref(), Some(expected), "{url}");
        }
        assert_eq!(account("one", "oss://d/1/a"), None);
        let last = uploads.last("three", "m", SystemTime::UNIX_EPOCH);
        assert_eq!(last, Some(("west".into(), Duration::ZERO)));
        uploads.forget_expired(SystemTime::UNIX_EPOCH + 2 * UPLOADS_KEPT);
        assert_eq!((account("three", "oss://d/1/a"), account("three", "oss://d/2/a")), (None, None));
    }

    #[test]
    fn the_last_policy_for_a_model_is_remembered() {
        let uploads = noted(&[("one", "d/1", "east"), ("one", "d/2", "west")]);
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        let expected = Some(("west".into(), Duration::from_secs(9)));
        assert_eq!(uploads.last("one", "m", later), expected);
        assert_eq!(uploads.last("one", "n", later), None);
        assert_eq!(uploads.last("two", "m", later), None);
    }
}
