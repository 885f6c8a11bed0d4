//! Reservation: a call of a tenant whose money is limited is sent only if the greatest possible cost has room.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Body as _;

use super::choose::Choice;
use crate::account::Account;
use crate::config::{Billing, Unpriced};
use crate::dashscope::limited_fields::FieldFault;
use crate::dashscope::model_scan::ModelScanner;
use crate::dashscope::operation::ModelLocation;
use crate::dashscope::usage::{MostUse, Unit};
use crate::limits::{CallHold, CallHolds, Limit, LimitRefusal, LimitScope};
use crate::polling::SlotHolder;
use crate::proxy::admit::permit::Permit;
use crate::proxy::exchange::Exchange;
use crate::proxy::held_money::HeldMoney;
use crate::proxy::inspect::bad_body;
use crate::proxy::money_fault::MoneyFault;
use crate::proxy::read_model::read_model;
use crate::proxy::rejection::Rejection;
use crate::proxy::route::Route;
use crate::proxy::worker::Proxy;
use crate::store::{
    Change, CommitFault, Exhausted, Hold, MoneyLimits, Outcome, StoreHealth, TakenSlots, TaskLimits, hold_id,
};
use crate::telemetry::stopwatch::Awaited;
use crate::upstream::Upload;
use crate::usage::Amount;

/// The money that a request needs before it is sent.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct NeededMoney {
    model: Box<str>,
    amount: Amount,
}

impl Proxy {
    /// Finds out what a request costs at most; `None` for one that needs no money.
    ///
    /// # Errors
    /// `Money`; `BadBody` for a body that names two models; the fault of the client's body.
    pub(super) async fn money_needed(
        &self,
        permit: &Permit,
        route: &Route,
        choice: &Choice<'_>,
        body: &mut Upload,
    ) -> Result<Option<NeededMoney>, Rejection> {
        let needed = self.money_of_call(permit, route, choice, body).await?;
        // A submit whose slot other replicas have to count holds it with its money, even if that is none.
        let holds_slot = || permit.submits() && self.task_limits(permit) != TaskLimits::default();
        let model = || choice.model_outside().unwrap_or_default().into();
        Ok(needed.or_else(|| holds_slot().then(|| NeededMoney { model: model(), amount: Amount::ZERO })))
    }

    /// Limits of tasks in flight that the store has to hold to, as other replicas take slots too.
    fn task_limits(&self, permit: &Permit) -> TaskLimits {
        if !self.shared.store.has_replicas() {
            return TaskLimits::default();
        }
        let (own, all) = (permit.caller().limits(), &permit.tenant().tenant_limits);
        TaskLimits { key: own.tasks_in_flight, tenant: all.tasks_in_flight }
    }

    async fn money_of_call(
        &self,
        permit: &Permit,
        route: &Route,
        choice: &Choice<'_>,
        body: &mut Upload,
    ) -> Result<Option<NeededMoney>, Rejection> {
        let billing = &permit.tenant().billing;
        if billing.has_limit() && route.operation.model_location() == Some(ModelLocation::Messages) {
            // Each task in the socket is judged anew: the handshake needs only that something is left.
            return Ok(Some(NeededMoney { model: Box::default(), amount: Amount::ZERO }));
        }
        let costs = permit.submits() || route.operation.is_inference() || route.operation.is_socket();
        if !billing.has_limit() || !costs {
            return Ok(None);
        }
        let most_bytes = permit.directory().settings.server.max_body_bytes;
        let read = body.read_ahead(MOST_READ, |_| false).await;
        let is_whole = read.map_err(|fault| Rejection::of_body(fault, most_bytes))?;
        check_is_clear(body)?;
        let model = match choice.model_outside() {
            Some(model) => model.into(),
            None => read_model(permit, body).await?.unwrap_or_default(),
        };
        let known = body.whole();
        let most = if permit.submits() {
            MostUse::of_task(&route.path, &model, is_whole.then_some(&*known))
        } else {
            // A body without a length may be as long as any.
            let told_bytes = if is_whole { Some(known.len() as u64) } else { body.size_hint().exact() };
            let beginning = &known[..known.len().min(MOST_READ)];
            MostUse::of_call(told_bytes.unwrap_or(most_bytes), beginning)
        };
        let amount = amount(billing, &model, &most)?;
        Ok(Some(NeededMoney { model, amount }))
    }

    /// Holds the money that a request needs: of a submit in the store, of any other call in memory until its use is
    /// entered. Nothing is held for a request that needs none.
    ///
    /// # Errors
    /// `Money`; `Limited`, where other replicas have taken the last slot for a task; `StoreUnavailable`.
    pub(super) async fn reserve(
        &self,
        needed: Option<&NeededMoney>,
        exchange: &Exchange,
        account: &Account,
    ) -> Result<(), Rejection> {
        let Some(NeededMoney { model, amount }) = needed else { return Ok(()) };
        let permit = exchange.permit();
        let (tenant, now) = (permit.tenant(), self.shared.store.now());
        let store = &self.shared.store;
        if store.health() != StoreHealth::Writable {
            return Err(Rejection::StoreUnavailable);
        }
        if !permit.submits() {
            if exchange.call_hold.borrow().is_some() {
                return Ok(());
            }
            let held = hold(exchange, &tenant.billing, &self.shared.call_holds, *amount)?;
            exchange.call_hold.replace(Some(held));
            return Ok(());
        }
        // Held in memory until the store has it, so that calls leave room.
        let (_passing, held_for_calls) = self.shared.call_holds.hold_for_submit(&tenant.name, *amount);
        let id = hold_id(exchange.attempt());
        let hold = Hold {
            id: Arc::clone(&id),
            tenant: Arc::clone(&tenant.name),
            key_id: permit.caller().key_id().into(),
            account: Arc::clone(&account.name),
            model: model.clone(),
            mount: Arc::clone(&exchange.route().mount(exchange.directory()).prefix),
            made_at: now,
            amount: *amount,
            limits: limits(&tenant.billing),
            held_for_calls,
            tasks: self.task_limits(permit),
        };
        // Kept before it is written: a client that leaves meanwhile, or a store that does not answer in time, frees it.
        let held = HeldMoney::new(store.clone(), id, Arc::clone(&tenant.name), *amount);
        match self.hold_in_store(Arc::new(hold), exchange).await {
            Ok(Outcome::Exhausted(limit)) => Err(refused(exchange, limit, now)),
            Ok(Outcome::NoSlot(taken)) => Err(no_slot(exchange, taken)),
            Ok(_) => {
                exchange.held_money.replace(Some(held));
                Ok(())
            }
            Err(fault) => {
                tracing::error!(%fault, "no money could be held for a submit");
                Err(Rejection::StoreUnavailable)
            }
        }
    }
}

impl Proxy {
    /// Holds what a submit needs. Where other replicas have taken the last slot, tasks without fresh news are asked for, and
    /// one more try follows if one of them has ended.
    async fn hold_in_store(&self, hold: Arc<Hold>, exchange: &Exchange) -> Result<Outcome, CommitFault> {
        let store = &self.shared.store;
        let first = store.commit(Change::Reserve(Arc::clone(&hold))).await?;
        let Outcome::NoSlot(taken) = first else { return Ok(first) };
        let holder =
            SlotHolder { tenant: &hold.tenant, key_id: (!taken.is_tenants).then_some(&*hold.key_id) };
        let max_age = exchange.directory().settings.poll.max_age;
        let turn = exchange.stopwatch.start_waiting(Awaited::Turn);
        let is_found = self.shared.hub.find_end(holder, max_age, Instant::now()).await;
        drop(turn);
        if is_found { store.commit(Change::Reserve(hold)).await } else { Ok(Outcome::NoSlot(taken)) }
    }
}

fn no_slot(exchange: &Exchange, taken: TakenSlots) -> Rejection {
    let scope = if taken.is_tenants { LimitScope::Tenant } else { LimitScope::Key };
    let limit = Limit::Tasks { scope, most: taken.most };
    Rejection::Limited(LimitRefusal { limit, wait: UNTIL_A_SLOT, rate_status: exchange.standing.get() })
}

/// Checks that what was read of a body does not name two models, as their prices may differ. Where the second one stands
/// behind that, it is paid for all the same.
fn check_is_clear(body: &Upload) -> Result<(), Rejection> {
    let mut scanner = ModelScanner::default();
    body.pieces().iter().for_each(|piece| scanner.push(piece));
    if scanner.names_several() {
        return Err(bad_body("its body", &FieldFault::Ambiguous("model")));
    }
    Ok(())
}

/// Holds money in memory for a task or a response in a WebSocket.
///
/// # Errors
/// `Money`.
pub(in crate::proxy) fn hold_for_call(
    exchange: &Exchange,
    billing: &Billing,
    call_holds: &Arc<CallHolds>,
    model: &str,
    most: &MostUse,
) -> Result<CallHold, Rejection> {
    hold(exchange, billing, call_holds, amount(billing, model, most)?)
}

fn hold(
    exchange: &Exchange,
    billing: &Billing,
    call_holds: &Arc<CallHolds>,
    amount: Amount,
) -> Result<CallHold, Rejection> {
    let (tenant, store) = (exchange.permit().tenant(), exchange.ledger());
    let now = store.now();
    let limits = limits(billing);
    let check = |held| store.standing(&tenant.name).check(&limits, amount, held, now, store.zone());
    let held = call_holds.hold_for_call(&tenant.name, amount, check);
    held.map_err(|limit| refused(exchange, limit, now))
}

fn limits(billing: &Billing) -> MoneyLimits {
    MoneyLimits { budgets: billing.budgets.clone(), is_prepaid: billing.prepaid }
}

/// The greatest possible cost.
fn amount(billing: &Billing, model: &str, most: &MostUse) -> Result<Amount, Rejection> {
    let terms = billing.terms(model, SystemTime::now());
    let cost = terms.map_or(Err(Unit::InputToken), |terms| terms.most(most));
    cost.or_else(|unit| match billing.unpriced {
        Unpriced::Allow => Ok(Amount::ZERO),
        Unpriced::Refuse => {
            let fault = MoneyFault::Unpriced { model: model.into(), unit: unit.label() };
            Err(Rejection::Money(Box::new(fault)))
        }
    })
}

fn refused(exchange: &Exchange, limit: Exhausted, now: SystemTime) -> Rejection {
    let renews = limit.renews_at.map(|at| {
        let text = exchange.ledger().zone().moment(at).into_boxed_str();
        (at.duration_since(now).unwrap_or_default(), text)
    });
    let currency = Arc::clone(&exchange.directory().settings.usage.currency);
    Rejection::Money(Box::new(MoneyFault::Budget { limit, currency, renews }))
}

/// Longest body that is read for its models, for what the task of a submit costs at most, and for the files that a call
/// names.
const MOST_READ: usize = 64 * 1024;
/// Wait that a refusal names where no slot is free.
const UNTIL_A_SLOT: Duration = Duration::from_secs(1);
