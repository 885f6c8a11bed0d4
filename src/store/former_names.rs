//! Former names of tenants. Records and entries keep the names that their tenants had; these maps tell the names that the
//! tenants have now.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use super::Change;
use super::delivery::DeliveryChange;
use super::keyed_submit::KeyedSubmit;
use super::lost_submit::LostSubmit;
use super::task_record::TaskRecord;

/// Former names, each with the name that its tenant has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormerNames(HashMap<Arc<str>, Arc<str>, RandomState>);

/// The former names as of the last rename; every holder sees a rename at its next look.
#[derive(Debug, Default)]
pub struct TenantNames(ArcSwap<FormerNames>);

impl FormerNames {
    /// The name that a former name stands for; `None` for a name that nobody had before.
    pub fn successor(&self, name: &str) -> Option<&Arc<str>> {
        self.0.get(name)
    }

    /// The name that the tenant has now.
    pub fn current(&self, name: &Arc<str>) -> Arc<str> {
        Arc::clone(self.successor(name).unwrap_or(name))
    }

    /// The names that the tenant with this name had before.
    pub fn of<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Arc<str>> {
        self.0.iter().filter(move |(_, current)| ***current == *name).map(|(former, _)| former)
    }

    /// All former names with the names that stand for them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a rename. Names that led to `former` lead to `name` from now on, and a tenant may get back a name that it had
    /// before.
    pub(super) fn note(&mut self, former: &Arc<str>, name: &Arc<str>) {
        for current in self.0.values_mut().filter(|current| **current == *former) {
            *current = Arc::clone(name);
        }
        self.0.insert(Arc::clone(former), Arc::clone(name));
        self.0.remove(name);
    }

    /// The change under the names that tenants have now; `None` where it names no tenant by a former name. A request that
    /// was admitted before a rename, and another process of a hand-over, still use the former name.
    pub(super) fn in_change(&self, change: &Change) -> Option<Change> {
        if self.is_empty() {
            return None;
        }
        let mut renamed = change.clone();
        let is_renamed = match &mut renamed {
            Change::Claim { task, answer, hold: _, request: _ } => {
                let of_answer = answer.as_mut().filter(|answer| self.has(&answer.submit.tenant));
                let of_answer = of_answer.map(|answer| self.in_submit(&mut Arc::make_mut(answer).submit));
                self.in_task(task) | of_answer.is_some()
            }
            Change::Adopt(adoption) => {
                let adoption = Arc::make_mut(adoption);
                let mut is_renamed = self.in_task(&mut adoption.task);
                if let Some(answer) = &mut adoption.answer {
                    is_renamed |= self.in_submit(&mut Arc::make_mut(answer).submit);
                }
                for submit in &mut adoption.unanswered {
                    is_renamed |= self.in_submit(submit);
                }
                is_renamed
            }
            Change::Reserve(hold) if self.has(&hold.tenant) => self.in_name(&mut Arc::make_mut(hold).tenant),
            Change::Free { hold: _, tenant } => self.in_name(tenant),
            Change::Begin(submit) | Change::Release(submit) => self.in_submit(submit),
            Change::Lose(lost) if self.has(&lost.submit.tenant) => {
                let LostSubmit { submit, .. } = Arc::make_mut(lost);
                self.in_submit(submit)
            }
            Change::Settle { entry, report: _ } | Change::Enter(entry) if self.has(&entry.tenant) => {
                self.in_name(&mut Arc::make_mut(entry).tenant)
            }
            Change::Deliver(DeliveryChange::Announce(announcement)) => self.in_name(&mut announcement.tenant),
            Change::KeepUpload { upload, displaced: _ } => self.in_name(&mut upload.tenant),
            Change::CreateKey(key) | Change::RotateKey { successor: key, old_until: _ } => {
                self.in_name(&mut key.tenant)
            }
            Change::Reserve(_)
            | Change::Lose(_)
            | Change::Settle { .. }
            | Change::Enter(_)
            | Change::Deliver(_)
            | Change::LoseHold { .. }
            | Change::Hide { .. }
            | Change::RevokeKey { .. }
            | Change::PutTenant(_)
            | Change::NoteUses(_)
            | Change::KeepSecret { .. }
            | Change::ChangeKey { .. }
            | Change::Audit(_)
            | Change::Rename { .. } => false,
        };
        is_renamed.then_some(renamed)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn in_name(&self, name: &mut Arc<str>) -> bool {
        let Some(current) = self.successor(name) else { return false };
        *name = Arc::clone(current);
        true
    }

    fn in_task(&self, task: &mut Arc<TaskRecord>) -> bool {
        self.has(&task.facts.tenant)
            && self.in_name(&mut Arc::make_mut(&mut Arc::make_mut(task).facts).tenant)
    }

    fn in_submit(&self, submit: &mut Arc<KeyedSubmit>) -> bool {
        self.has(&submit.tenant) && self.in_name(&mut Arc::make_mut(submit).tenant)
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for FormerNames {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl TenantNames {
    pub fn load(&self) -> Arc<FormerNames> {
        self.0.load_full()
    }

    /// The name that the tenant has now.
    pub fn current<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let names = self.0.load();
        names.successor(name).map_or(Cow::Borrowed(name), |current| Cow::Owned((**current).to_owned()))
    }

    /// True if both are names of one tenant.
    pub fn is_same(&self, one: &str, other: &str) -> bool {
        *one == *other || self.current(one) == self.current(other)
    }

    /// The name that the tenant has now, and those that it had before.
    pub fn all(&self, name: &str) -> Vec<Arc<str>> {
        let (current, names) = (self.current(name), self.0.load());
        let mut all = vec![Arc::from(&*current)];
        all.extend(names.of(&current).cloned());
        all
    }

    pub(super) fn set(&self, names: FormerNames) {
        self.0.store(Arc::new(names));
    }

    /// Notes a rename, unless it is noted already. Only one thread at a time may call this.
    pub(crate) fn note(&self, former: &Arc<str>, name: &Arc<str>) {
        let mut names = FormerNames::clone(&self.0.load());
        if !names.has(former) {
            names.note(former, name);
            self.set(names);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::task_record::TaskFields;
    use super::*;

    fn noted(renames: &[(&str, &str)]) -> FormerNames {
        let mut names = FormerNames::default();
        renames.iter().for_each(|(former, name)| names.note(&(*former).into(), &(*name).into()));
        names
    }

    fn current(names: &FormerNames, name: &str) -> Arc<str> {
        names.current(&name.into())
    }

    #[test]
    fn a_chain_leads_to_its_end() {
        let names = noted(&[("a", "b"), ("b", "c"), ("x", "y")]);
        assert_eq!(
            ["a", "b", "c", "x", "z"].map(|name| current(&names, name)),
            ["c", "c", "c", "y", "z"].map(Arc::from)
        );
        let mut formers: Vec<&str> = names.of("c").map(|name| &**name).collect();
        formers.sort_unstable();
        assert_eq!(formers, ["a", "b"]);
    }

    #[test]
    fn a_tenant_may_get_an_earlier_name_back() {
        let names = noted(&[("a", "b"), ("b", "a")]);
        assert_eq!((current(&names, "a"), current(&names, "b")), ("a".into(), "a".into()));
        let names = noted(&[("a", "b"), ("b", "c"), ("c", "a")]);
        assert_eq!(["a", "b", "c"].map(|name| current(&names, name)), ["a"; 3].map(Arc::from));
    }

    #[test]
    fn a_change_comes_under_the_name_that_its_tenant_has_now() {
        let names = noted(&[("one", "two")]);
        let claim = |tenant: &str| Change::Claim {
            task: Arc::new(
                TaskFields { tenant: tenant.into(), ..TaskFields::sample("t", SystemTime::UNIX_EPOCH) }
                    .into(),
            ),
            answer: None,
            hold: None,
            request: None,
        };
        let Some(Change::Claim { task, .. }) = names.in_change(&claim("one")) else { panic!("not renamed") };
        assert_eq!(&*task.facts.tenant, "two");
        assert!(names.in_change(&claim("two")).is_none());
        // A key of the same name is no tenant.
        let revoke = Change::RevokeKey { id: "one".into(), at: SystemTime::UNIX_EPOCH };
        assert!(names.in_change(&revoke).is_none());
    }

    #[test]
    fn a_rename_that_comes_twice_changes_nothing() {
        let names = TenantNames::default();
        for (former, name) in [("a", "b"), ("b", "c"), ("a", "b")] {
            names.note(&former.into(), &name.into());
        }
        assert_eq!((&*names.current("a"), &*names.current("b")), ("c", "c"));
        assert!(names.is_same("a", "b") && names.is_same("b", "c") && !names.is_same("a", "x"));
        assert_eq!(names.all("a").len(), 3);
    }
}
