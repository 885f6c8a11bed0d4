//! Faults of a request in the unified dialect, in words for its client.

/// One field, and why it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnifiedFault {
    /// The field's name as the client wrote it; `None` if the whole body is at fault.
    pub field: Option<Box<str>>,
    pub problem: Box<str>,
}

impl UnifiedFault {
    pub(super) fn of(field: &str, problem: impl Into<Box<str>>) -> Self {
        let field: String = field.chars().take(MOST_SHOWN).collect();
        Self { field: Some(field.into()), problem: problem.into() }
    }

    pub(super) fn body(problem: &str) -> Self {
        Self { field: None, problem: problem.into() }
    }
}

/// The longest part of a name that a message repeats, in characters.
pub(super) const MOST_SHOWN: usize = 64;
