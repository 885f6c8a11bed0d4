//! Judgement of what a client sends in a WebSocket, before it is passed on: may the task that it starts use its model, and
//! is there money for it?

use std::rc::Rc;
use std::sync::Arc;

use super::exchange::Exchange;
use super::inspect;
use super::rejection::Rejection;
use super::send::hold_for_call;
use super::socket_meter::SocketMeter;
use crate::dashscope::usage::MostUse;
use crate::dashscope::websocket::{Boundary, Frames};
use crate::limits::CallHolds;
use crate::tenant::directory::Tenant;

/// The rules for one socket.
#[derive(Debug)]
pub(super) struct SocketJudge<'a> {
    pub(super) tenant: &'a Tenant,
    /// The tasks of the socket name models, and not all are allowed.
    pub(super) checks_models: bool,
    /// `None` where money is not limited.
    pub(super) money: Option<SocketMoney<'a>>,
}

/// Money for the tasks of one socket.
#[derive(Debug)]
pub(super) struct SocketMoney<'a> {
    pub(super) exchange: &'a Rc<Exchange>,
    pub(super) call_holds: &'a Arc<CallHolds>,
    pub(super) meter: &'a SocketMeter,
    /// The messages name the models of tasks; else they ask the one model of the socket for responses.
    pub(super) names_models: bool,
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
    /// True if there is anything to judge.
    pub(super) const fn has_rules(&self) -> bool {
        self.checks_models || self.money.is_some()
    }

    pub(super) fn frames(&self) -> JudgedFrames {
        match &self.money {
            Some(money) if !money.names_models => JudgedFrames::Responses(Boundary::default()),
            Some(_) | None => JudgedFrames::Messages(Frames::default()),
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
            JudgedFrames::Messages(frames) => frames.read(bytes, passed, |text| self.judge(text)),
            JudgedFrames::Responses(boundary) => {
                let has_message = boundary.pass(bytes);
                if let Some(money) =
                    self.money.as_ref().filter(|money| has_message && !money.meter.has_hold())
                {
                    let model = money.exchange.model.get().map_or("", |model| model);
                    money.hold(model, TEXT_BYTES)?;
                }
                passed.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn judge(&self, text: &[u8]) -> Result<(), Rejection> {
        let spoken = inspect::read_message(text)?;
        if self.checks_models && (spoken.runs || spoken.model.is_some()) {
            inspect::check_model(self.tenant, spoken.model.as_deref())?;
        }
        if let Some(money) = self.money.as_ref().filter(|_| spoken.runs) {
            money.hold(spoken.model.as_deref().unwrap_or_default(), TEXT_BYTES.max(text.len() as u64))?;
        }
        Ok(())
    }
}

impl SocketMoney<'_> {
    /// Holds money for a task or a response that has about so many bytes of text.
    fn hold(&self, model: &str, bytes: u64) -> Result<(), Rejection> {
        let hold = hold_for_call(self.exchange, self.call_holds, model, &MostUse::of_call(bytes, b""))?;
        self.meter.keep_hold(hold);
        Ok(())
    }
}

/// Text of a usual task: the most that one `continue-task` of speech synthesis may bring.
const TEXT_BYTES: u64 = 2_000;
