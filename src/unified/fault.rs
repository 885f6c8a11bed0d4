//! What is wrong with a request, in words for its client.

/// One field, and why it can't be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// As the client wrote it; none where the whole body is at fault.
    pub field: Option<Box<str>>,
    pub problem: Box<str>,
}

impl Fault {
    pub(super) fn of(field: &str, problem: impl Into<Box<str>>) -> Self {
        let field: String = field.chars().take(MOST_SHOWN).collect();
        Self { field: Some(field.into()), problem: problem.into() }
    }

    pub(super) fn body(problem: &str) -> Self {
        Self { field: None, problem: problem.into() }
    }
}

/// Of a field's name in a message, in characters.
const MOST_SHOWN: usize = 64;
