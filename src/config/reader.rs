//! The reader of one configuration file, which collects faults and warnings with their locations.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::path::Path;

use super::fault::{Fault, LineIndex, Position, in_order};
use super::files::Files;
use super::interpolate::Environment;
use super::syntax::{UnreliableText, syntax_faults};

/// Reads one file, and collects its faults and warnings.
pub(super) struct ConfigReader<'a> {
    pub(super) directory: &'a Path,
    pub(super) environment: Environment<'a>,
    lines: LineIndex<'a>,
    /// Broken syntax: the parsed tree may lack keys that the file has.
    pub(super) torn: bool,
    /// Files read so far.
    pub(super) files: RefCell<Files>,
    guessed: Option<UnreliableText>,
    /// Places of values that were read as secrets.
    pub(super) secrets: RefCell<Vec<usize>>,
    syntax: Vec<Fault>,
    found: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
}

impl<'a> ConfigReader<'a> {
    pub(super) fn new(
        text: &'a str,
        directory: &'a Path,
        environment: Environment<'a>,
        errors: &[toml::de::Error],
        files: Files,
    ) -> Self {
        let lines = LineIndex::of(text);
        let (syntax, torn) = syntax_faults(&lines, text.len(), errors);
        Self {
            directory,
            environment,
            lines,
            torn: torn.is_some(),
            files: files.into(),
            guessed: torn,
            secrets: RefCell::default(),
            syntax,
            found: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn position(&self, location: &Location) -> Position {
        self.lines.position(location.offset)
    }

    /// Notes that a secret stands here, which is never shown.
    pub(super) fn hide(&self, location: &Location) {
        self.secrets.borrow_mut().push(location.offset);
    }

    pub(super) fn fault(&self, location: &Location, problem: impl Into<String>, hint: impl Into<String>) {
        self.found.borrow_mut().push(self.at(location, problem.into(), hint.into()));
    }

    /// Notes a fault of a default value, which has no location in the file.
    pub(super) fn fault_at_start(&self, path: &str, problem: &str, hint: &str) {
        self.fault(&Location { offset: 0, path: path.to_owned() }, problem, hint);
    }

    pub(super) fn warn(&self, location: &Location, problem: impl Into<String>, hint: impl Into<String>) {
        self.warnings.borrow_mut().push(self.at(location, problem.into(), hint.into()));
    }

    /// Notes a warning of something outside of the file.
    pub(super) fn warn_elsewhere(&self, warning: Fault) {
        self.warnings.borrow_mut().push(warning);
    }

    fn at(&self, location: &Location, problem: String, hint: String) -> Fault {
        Fault { position: Some(self.position(location)), path: location.path.clone(), problem, hint }
    }

    /// Checks a value, and notes its fault.
    pub(super) fn check<T: Borrow<Q>, Q: ?Sized, U>(
        &self,
        written: &Located<T>,
        check: impl FnOnce(&Q) -> Result<U, ValueFault>,
    ) -> Option<U> {
        match check(written.value.borrow()) {
            Ok(value) => Some(value),
            Err(ValueFault { problem, hint }) => {
                self.fault(&written.location, problem, hint);
                None
            }
        }
    }

    /// The value of a key, or its default where the key was left out. A faulty value takes the default too: its fault
    /// is noted, so that no configuration comes of it.
    pub(super) fn setting<T>(
        &self,
        written: &Option<Text>,
        check: impl FnOnce(&str) -> Result<T, ValueFault>,
        default: T,
    ) -> T {
        written.as_ref().and_then(|written| self.check(written, check)).unwrap_or(default)
    }

    /// All faults and all warnings, in the order of the file. Faults in text that the parser had to guess are left out:
    /// broken syntax caused them.
    pub(super) fn finish(self) -> (Vec<Fault>, Vec<Fault>) {
        let guessed = |at: Position| self.guessed.as_ref().is_some_and(|guessed| guessed.holds(at));
        let mut faults = self.syntax;
        let found = self.found.into_inner().into_iter();
        faults.extend(found.filter(|fault| !fault.position.is_some_and(guessed)));
        (in_order(faults), in_order(self.warnings.into_inner()))
    }
}

/// The fault of one value, without the value itself.
pub(super) struct ValueFault {
    pub(super) problem: String,
    pub(super) hint: String,
}

impl ValueFault {
    pub(super) fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: hint.into() }
    }
}

/// Location of a key or value in the file.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) offset: usize,
    pub(super) path: String,
}

/// A value and its location.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) location: Location,
}

pub(super) type Text = Located<String>;
pub(super) type Whole = Located<u64>;

/// The number of a key, or its default where the key was left out.
pub(super) fn number<T: TryFrom<u64>>(written: &Option<Whole>, default: T) -> T {
    written.as_ref().and_then(|written| written.value.try_into().ok()).unwrap_or(default)
}
