//! Which account stores a tenant's files: an `oss://` URL can be read with that account alone, and by nobody
//! but the tenant it was issued to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashmap::DashMap;

use crate::dashscope::oss;

/// The upload directories that policies named. What is asked of it is [`Uploads::note`] and
/// [`Uploads::account_of`]; this one keeps them in memory, so that a restart forgets them.
#[derive(Debug, Default)]
pub struct Uploads {
    by_tenant: DashMap<Arc<str>, Issued, foldhash::fast::RandomState>,
}

/// What one tenant was issued.
#[derive(Debug, Default)]
struct Issued {
    /// The account of each directory.
    directories: HashMap<Arc<str>, Arc<str>, foldhash::fast::RandomState>,
    /// The same, oldest first.
    order: VecDeque<(Arc<str>, SystemTime)>,
    /// The last policy for each model, oldest first.
    last: VecDeque<Last>,
}

#[derive(Debug)]
struct Last {
    model: Box<str>,
    account: Arc<str>,
    at: SystemTime,
}

impl Uploads {
    /// Notes a policy.
    pub fn note(&self, tenant: &Arc<str>, model: &str, directory: &str, account: &Arc<str>, now: SystemTime) {
        let mut issued = self.by_tenant.entry(Arc::clone(tenant)).or_default();
        let issued = &mut *issued;
        let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > KEPT);
        while issued.order.len() >= MOST_DIRECTORIES
            || issued.order.front().is_some_and(|(_, at)| is_old(*at))
        {
            if let Some((directory, _)) = issued.order.pop_front() {
                issued.directories.remove(&directory);
            }
        }
        let directory: Arc<str> = directory.trim_matches('/').into();
        if issued.directories.insert(Arc::clone(&directory), Arc::clone(account)).is_none() {
            issued.order.push_back((directory, now));
        }
        issued.last.retain(|last| *last.model != *model);
        if issued.last.len() >= MOST_MODELS {
            issued.last.pop_front();
        }
        issued.last.push_back(Last { model: model.into(), account: Arc::clone(account), at: now });
    }

    /// The account that stores what the URL names; `None` if it was not issued to this tenant, for whatever
    /// reason.
    pub fn account_of(&self, tenant: &str, url: &str) -> Option<Arc<str>> {
        let key = oss::key(url)?;
        let issued = self.by_tenant.get(tenant)?;
        let mut parents = key.match_indices('/').map(|(at, _)| &key[..at]);
        parents.find_map(|directory| issued.directories.get(directory)).cloned()
    }

    /// The account that issued the tenant's last policy for the model, and how long ago: the files of one
    /// request must all be there, and each may have a policy of its own.
    pub fn last(&self, tenant: &str, model: &str, now: SystemTime) -> Option<(Arc<str>, Duration)> {
        let issued = self.by_tenant.get(tenant)?;
        let last = issued.last.iter().find(|last| *last.model == *model)?;
        Some((Arc::clone(&last.account), now.duration_since(last.at).unwrap_or_default()))
    }
}

/// DashScope keeps a file for 48 hours, and a policy is good for some minutes before.
const KEPT: Duration = Duration::from_secs(49 * 3600);
/// A tenant's; about 200 bytes each.
const MOST_DIRECTORIES: usize = 65_536;
const MOST_MODELS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(directories: &[(&str, &str, &str)]) -> Uploads {
        let uploads = Uploads::default();
        for (tenant, directory, account) in directories {
            uploads.note(&Arc::from(*tenant), "m", directory, &Arc::from(*account), SystemTime::UNIX_EPOCH);
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
        let (one, east) = (Arc::from("one"), Arc::from("east"));
        let later = SystemTime::UNIX_EPOCH + KEPT + Duration::from_secs(1);
        for number in 0..=MOST_DIRECTORIES {
            uploads.note(&one, &format!("m{number}"), &format!("d/{number}"), &east, later);
        }
        for (url, expected) in [("oss://d/old/a", None), ("oss://d/0/a", None), ("oss://d/1/a", Some("east"))]
        {
            assert_eq!(uploads.account_of("one", url).as_deref(), expected, "{url}");
        }
        let issued = uploads.by_tenant.get("one").expect("issued");
        assert_eq!((issued.order.len(), issued.directories.len()), (MOST_DIRECTORIES, MOST_DIRECTORIES));
        assert_eq!(issued.last.len(), MOST_MODELS);
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
