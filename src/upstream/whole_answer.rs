//! An answer that is read whole and held, within bounds of bytes, memory and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use tokio::time::{Instant, timeout_at};

use super::buffer_budget::{BudgetShare, BufferBudget};
use super::download::{Download, codings};
use crate::dashscope::coding;

/// The bounds within which an answer is read.
#[derive(Debug)]
pub struct ReadBounds<'a> {
    pub most_bytes: usize,
    /// Memory for all answers that are being read. The first 64 KiB of each are free.
    pub budget: &'a Arc<BufferBudget>,
    /// End of the time for an answer of usual size. A large one has 256 KiB a second from then on.
    pub deadline: Instant,
}

/// The text of an answer, without its content coding.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerText {
    Whole(Bytes),
    /// The answer is larger than the bound. Empty where its coding can't be read.
    Beginning(Bytes),
}

/// Why an answer could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFault {
    /// The memory for answers is taken by others.
    NoRoom,
    /// The answer did not end in time.
    Late,
    /// The answer broke off, or the upstream fell silent.
    Lost,
}

/// Reads an answer.
///
/// # Errors
/// The [`ReadFault`].
pub async fn read_whole(
    response: &mut Response<Download>,
    bounds: &ReadBounds<'_>,
) -> Result<AnswerText, ReadFault> {
    let mut share = BudgetShare::nothing(bounds.budget);
    let mut length = 0;
    let body = response.body_mut();
    while length <= bounds.most_bytes {
        let deadline = bounds.deadline + Duration::from_secs_f64(length as f64 / LEAST_BYTES_A_SECOND);
        let read = timeout_at(deadline, body.read_frame_ahead()).await.map_err(|_| ReadFault::Late)?;
        let Some(bytes) = read.map_err(|_| ReadFault::Lost)? else { break };
        length += bytes;
        if length > FREE_BYTES && !share.grow(bytes as u64) {
            return Err(ReadFault::NoRoom);
        }
    }
    let text = coding::decode(response.body().data_ahead(), codings(response), bounds.most_bytes + 1);
    let text = text.unwrap_or_default();
    let is_whole = length <= bounds.most_bytes && text.len() <= bounds.most_bytes;
    Ok(if is_whole { AnswerText::Whole(text) } else { AnswerText::Beginning(text) })
}

/// Slower large answers are given up.
const LEAST_BYTES_A_SECOND: f64 = 256.0 * 1024.0;
/// Nearly all answers are smaller, and need no look at the budget.
const FREE_BYTES: usize = 64 * 1024;
