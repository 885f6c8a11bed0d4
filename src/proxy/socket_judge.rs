//! Judgement of what a client sends in a WebSocket, before it is passed on: may the task that it starts use its model, and
//! is there money for it?

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::current_tenant::CurrentTenant;
use super::exchange::Exchange;
use super::inspect;
use super::rejection::Rejection;
use super::send::hold_for_call;
use super::socket_meter::SocketMeter;
use crate::dashscope::usage::MostUse;
use crate::dashscope::websocket::{Boundary, Frames};
use crate::limits::CallHolds;
use crate::tenant::caller::Caller;
use crate::tenant::directory::Tenant;

/// The rules for one socket: those of the tenant's settings as they stand when something is judged.
#[derive(Debug)]
pub(super) struct SocketJudge<'a> {
    pub(super) tenant: CurrentTenant<'a>,
    /// The bearer of a key, which may have limits of its own; `None`: those of the tenant's keys hold.
    pub(super) caller: Option<&'a Caller>,
    /// The messages name the models of tasks; else they ask the one model of the socket for responses.
    pub(super) names_models: bool,
    /// `None`: nothing is metered.
    pub(super) money: Option<SocketMoney<'a>>,
}

/// Money for the tasks of one socket.
#[derive(Debug)]
pub(super) struct SocketMoney<'a> {
    pub(super) exchange: &'a Rc<Exchange>,
    pub(super) call_holds: &'a Arc<CallHolds>,
    pub(super) meter: &'a SocketMeter,
}

/// Reader of a client's frames.
#[derive(Debug)]
pub(super) enum JudgedFrames {
    /// Text messages are held back until they are judged.
    Messages(Frames),
    /// Messages pass as they come, but for those that come when nothing is held any more: where speech is detected, a
    /// response needs no request. Messages with pictures are too long to be held back.
    Responses(Boundary),
}

impl SocketJudge<'_> {
    pub(super) fn frames(&self) -> JudgedFrames {
        if self.names_models {
            JudgedFrames::Messages(Frames::default())
        } else {
            JudgedFrames::Responses(Boundary::default())
        }
    }

    /// Takes the next bytes and appends to `passed` those that may pass.
    ///
    /// # Errors
    /// `ModelNotAllowed`, `Money`; `BadBody` for a message that can't be read; the fault of a frame. All are final.
    pub(super) fn read(
        &self,
        frames: &mut JudgedFrames,
        bytes: &[u8],
        passed: &mut Vec<u8>,
    ) -> Result<(), Rejection> {
        match frames {
            JudgedFrames::Messages(frames) => {
                let verdict = frames.read(bytes, passed, |text| self.judge(text));
                // Behind the texts: sound belongs to the task that a message begins before it.
                if let Some(money) = &self.money {
                    money.meter.client_sounded(bytes);
                }
                verdict
            }
            JudgedFrames::Responses(boundary) => {
                let has_message = boundary.pass(bytes);
                if let Some(money) =
                    self.money.as_ref().filter(|money| has_message && !money.meter.has_hold())
                {
                    let model = money.exchange.model.get().map_or("", |model| model);
                    self.tenant.with(|tenant| money.hold(tenant, model, TEXT_BYTES))?;
                }
                passed.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Judges a text message, and hands the meter what was read in it: both must see the same.
    fn judge(&self, text: &[u8]) -> Result<(), Rejection> {
        let spoken = inspect::read_message(text)?;
        self.tenant.with(|tenant| {
            let limits =
                self.caller.map_or(Cow::Borrowed(&tenant.limits), |caller| caller.limits_now(tenant));
            if inspect::lists_models(tenant, &limits) && (spoken.runs || spoken.model.is_some()) {
                inspect::check_model(tenant, &limits, spoken.model.as_deref())?;
            }
            let Some(money) = self.money.as_ref().filter(|_| spoken.runs) else { return Ok(()) };
            let model = spoken.model.as_deref().unwrap_or_default();
            money.hold(tenant, model, TEXT_BYTES.max(text.len() as u64))
        })?;
        if let Some(money) = &self.money {
            money.meter.client_said(&spoken, text);
        }
        Ok(())
    }
}

impl SocketMoney<'_> {
    /// Holds money for a task or a response that has about so many bytes of text, if the tenant's money is limited.
    fn hold(&self, tenant: &Tenant, model: &str, bytes: u64) -> Result<(), Rejection> {
        let billing = &tenant.billing;
        if billing.has_limit() {
            let most = MostUse::of_call(bytes, b"");
            self.meter.keep_hold(hold_for_call(self.exchange, billing, self.call_holds, model, &most)?);
        }
        Ok(())
    }
}

/// Text of a usual task: the most that one `continue-task` of speech synthesis may bring.
const TEXT_BYTES: u64 = 2_000;
