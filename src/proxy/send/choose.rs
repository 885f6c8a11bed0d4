//! Choice of the account, and of one of its keys.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::account::choice::{self, ChoiceNeeds, NoneAvailable, Pick, TriedAccounts};
use crate::account::uploads::UploadDirectories;
use crate::account::{Account, AccountRegistry};
use crate::dashscope::operation::Operation;
use crate::dashscope::secret_look::looks_like_secret;
use crate::proxy::admit::permit::Permit;
use crate::proxy::passage::Destination;
use crate::proxy::query_model::{AmbiguousModel, query_model};
use crate::proxy::read_model::read_model;
use crate::proxy::rejection::Rejection;
use crate::proxy::route::Route;
use crate::proxy::shared::Shared;
use crate::upstream::{Download, Upload};

/// Facts for the choice that are the same for each attempt.
pub(in crate::proxy) struct Choice<'d> {
    accounts: &'d [Account],
    among: Cow<'d, [usize]>,
    destination: Destination,
    operation: Operation,
    /// The model, as far as it is known; empty if it was looked for and not found.
    pub model: Option<Box<str>>,
    /// The model stands outside the body, which can't name another one.
    names_outside: bool,
    /// Another attempt may follow a refusal that says that the request was not accepted.
    pub repeats: bool,
}

impl<'d> Choice<'d> {
    /// Reads the model ahead if submits are paced, or if an account is throttled for a model and the choice depends on
    /// it.
    ///
    /// # Errors
    /// The fault of the client's body.
    pub(in crate::proxy) async fn new(
        permit: &'d Permit,
        route: &Route,
        destination: Destination,
        request: &Parts,
        body: &mut Upload,
        shared: &Shared,
    ) -> Result<Self, Rejection> {
        let accounts = &*permit.directory().accounts;
        let operation = route.operation;
        let among = Cow::Borrowed(&*permit.tenant().accounts);
        let is_policy = operation == Operation::UploadPolicy;
        let repeats = permit.submits() || is_policy || matches!(destination, Destination::Task(_));
        let mut choice =
            Self { accounts, among, destination, operation, model: None, names_outside: false, repeats };
        let is_throttled = |index: &usize| accounts[*index].has_throttled_models();
        let may_wait = permit.submits() && choice.among.iter().any(|index| accounts[*index].paces());
        if is_policy || operation == Operation::Realtime {
            let named = query_model(request.uri.query().unwrap_or(""));
            let model = named.unwrap_or_else(|AmbiguousModel(first)| first);
            let is_name = |name: &Cow<'_, str>| !name.is_empty() && !looks_like_secret(name);
            choice.model = model.filter(is_name).map(|name| name.into());
            choice.names_outside = true;
        } else if may_wait || choice.is_open() && choice.among.iter().any(is_throttled) {
            // Submits whose model could not be read count together as one model without a name.
            let model = read_model(permit, body).await?.unwrap_or_default();
            if may_wait && choice.among.iter().any(|index| accounts[*index].is_paced(&model)) {
                // A submit must arrive when it may start, and not when a slow client has sent it.
                let read = body.read_ahead(MOST_PACED, |_| false).await;
                read.map_err(|fault| {
                    Rejection::of_body(fault, permit.directory().settings.server.max_body_bytes)
                })?;
            }
            choice.model = Some(model);
        }
        if is_policy {
            choice.stay_with_last_policy(&shared.uploads, permit, SystemTime::now());
        }
        Ok(choice)
    }

    /// True if more than one account may take the request.
    fn is_open(&self) -> bool {
        self.destination == Destination::Any
            && self.among.iter().filter(|index| self.accounts[**index].takes_new()).count() > 1
    }

    /// Stays with the account of the tenant's last policy for the model. The files of one request must be in one
    /// account, though each may be uploaded with a policy of its own, as old versions of the Python SDK do. After a
    /// pause any account may be chosen again.
    fn stay_with_last_policy(&mut self, uploads: &UploadDirectories, permit: &Permit, now: SystemTime) {
        let Some((name, age)) = uploads.last(&permit.tenant().name, self.model.as_deref().unwrap_or(""), now)
        else {
            return;
        };
        let is_it =
            |index: &&usize| self.accounts[**index].name == name && self.accounts[**index].takes_new();
        let Some(index) = self.among.iter().find(is_it).copied() else { return };
        let (account, now) = (&self.accounts[index], Instant::now());
        let any_model = ChoiceNeeds { model: None, proves_recovery: false, is_repeatable: true };
        let this_model = ChoiceNeeds { model: self.model.as_deref(), ..any_model };
        let patience = if account.is_fit(&this_model, now) { PAUSE } else { SHORT_PAUSE };
        if account.is_fit(&any_model, now) && age < patience {
            self.destination = Destination::Files(index);
        }
    }

    /// Picks account and key of the next attempt.
    ///
    /// # Errors
    /// [`NoneAvailable`] if no account can take the request now.
    pub(in crate::proxy) fn pick(
        &self,
        registry: &AccountRegistry,
        tried: &TriedAccounts,
        now: Instant,
    ) -> Result<Pick<'d>, NoneAvailable> {
        let need = ChoiceNeeds {
            model: self.known_model(),
            proves_recovery: self.operation.is_inference(),
            is_repeatable: self.repeats,
        };
        let any = || choice::choose(self.accounts, &self.among, &need, tried, registry.turn(), now);
        let alone = |index| choice::choose_key(self.accounts, index, &need, tried, now);
        match self.destination {
            // After a refused policy nothing was uploaded, so any account will do.
            Destination::Files(index) if self.operation == Operation::UploadPolicy => {
                alone(index).or_else(|_| any())
            }
            Destination::Task(index) | Destination::Files(index) => alone(index),
            Destination::Any => any(),
        }
    }

    /// The model by its name.
    pub(in crate::proxy) fn known_model(&self) -> Option<&str> {
        self.model.as_deref().filter(|model| !model.is_empty())
    }

    /// The model that stands outside the body, by its name. What a part of the body names does for the choice of an
    /// account, but is not what is paid for: the rest may name another one, and the last counts.
    pub(in crate::proxy) fn model_outside(&self) -> Option<&str> {
        self.known_model().filter(|_| self.names_outside)
    }

    /// Adds `Retry-After` to a 429 of DashScope, which seldom has it, where the gateway would refuse the next such call
    /// itself. SDKs wait as long as it says, so it must not name a rest that the next call is not kept from.
    pub(in crate::proxy) fn tell_when(
        &self,
        response: &mut Response<Download>,
        registry: &AccountRegistry,
        now: Instant,
    ) {
        if response.status() == StatusCode::TOO_MANY_REQUESTS
            && !response.headers().contains_key(RETRY_AFTER)
            && let Err(NoneAvailable(wait)) = self.pick(registry, &TriedAccounts::default(), now)
        {
            let seconds = wait.as_secs_f64().ceil() as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    /// True if another attempt is possible if this account refuses the request, or can't be reached.
    pub(in crate::proxy) fn has_more(&self, account: &Account) -> bool {
        self.repeats || account.has_spare_keys() || self.is_open()
    }

    /// True if the call counts against the limits of a model. Queries and policies have limits of their own, which are
    /// free again after a second.
    pub(in crate::proxy) fn counts_by_model(&self) -> bool {
        !self.is_for_task() && self.operation != Operation::UploadPolicy
    }

    pub(in crate::proxy) fn is_for_task(&self) -> bool {
        matches!(self.destination, Destination::Task(_))
    }

    /// The gateway's refusal if no account is left to ask and the last answer was not a 429; `None` if the last answer
    /// is passed on.
    pub(in crate::proxy) fn refusal(&self, NoneAvailable(wait): NoneAvailable) -> Option<Rejection> {
        match self.destination {
            // Some SDKs give up a task at 429; all ask again at 503.
            Destination::Task(_) => Some(Rejection::NoLiveKey),
            Destination::Any if self.is_open() => {
                let now = Instant::now();
                let mut taking = self.among.iter().filter(|index| self.accounts[**index].takes_new());
                let is_fault = taking.all(|index| self.accounts[*index].rests_for_hidden_fault(now));
                Some(if is_fault { Rejection::AccountFault } else { Rejection::AccountsOut(wait) })
            }
            Destination::Files(_) | Destination::Any => None,
        }
    }
}

/// Bytes of a waiting submit that are read ahead; the rest of a larger one goes up in its turn.
const MOST_PACED: usize = 64 * 1024;
/// Longest pause between two policies of one request: a policy is valid for five minutes.
const PAUSE: Duration = Duration::from_secs(300);
/// The longest pause while the account would refuse the submit that follows.
const SHORT_PAUSE: Duration = Duration::from_secs(10);
