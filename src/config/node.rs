//! Values and tables of a TOML tree, read with every fault noted on the way: a wrong type, an unknown key, a missing
//! key. A value that could not be read is `None`, and has its fault already.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::interpolate::{InterpolationFault, interpolate};
use super::reader::{ConfigReader, Located, Location};

/// A value of the tree, not yet read.
pub(super) struct Node<'a> {
    pub(super) reader: &'a ConfigReader<'a>,
    pub(super) location: Location,
    value: &'a DeValue<'a>,
}

impl<'a> Node<'a> {
    fn new(reader: &'a ConfigReader<'a>, path: String, value: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        // The parser puts a zero without a span in place of a missing value, and reports a syntax error.
        let span = value.span();
        (span.end > 0).then(|| Self {
            reader,
            location: Location { offset: span.start, path },
            value: value.get_ref(),
        })
    }

    fn written<T>(&self, value: T) -> Located<T> {
        Located { value, location: self.location.clone() }
    }

    fn wrong_type<T>(&self, expected: &str, hint: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.reader.fault(&self.location, format!("must be {expected}, not {found}"), hint);
        None
    }

    /// A string with its variables replaced, and the names of the variables.
    pub(super) fn interpolated(&self, expected: &str, hint: &str) -> Option<(String, Vec<&'a str>)> {
        let DeValue::String(raw) = self.value else {
            return self.wrong_type(expected, hint);
        };
        match interpolate(raw, self.reader.environment) {
            Ok(done) => Some((done.text, done.variables)),
            Err(flaws) => {
                for flaw in flaws {
                    let (problem, hint) = describe(&flaw);
                    self.reader.fault(&self.location, problem, hint);
                }
                None
            }
        }
    }

    pub(super) fn string(&self, hint: &str) -> Option<Located<String>> {
        let (text, _) = self.interpolated("a string", hint)?;
        Some(self.written(text))
    }

    /// The string as the operator wrote it, with its variables.
    pub(super) fn raw(&self) -> Option<&'a str> {
        if let DeValue::String(raw) = self.value { Some(raw) } else { None }
    }

    pub(super) fn datetime(&self) -> Option<Located<Datetime>> {
        if let DeValue::Datetime(value) = self.value { Some(self.written(*value)) } else { None }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(super) fn boolean(&self) -> Option<Located<bool>> {
        match self.value {
            DeValue::Boolean(value) => Some(self.written(*value)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => self.wrong_type("true or false", "write it without quotes"),
        }
    }

    pub(super) fn whole(&self, range: RangeInclusive<u64>) -> Option<Located<u64>> {
        let DeValue::Integer(integer) = self.value else {
            return self.wrong_type("a whole number", "write it in digits, without quotes");
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|number| u64::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => Some(self.written(number)),
            None => {
                let problem = format!("must be from {} to {}", range.start(), range.end());
                self.reader.fault(&self.location, problem, "write a number in this range");
                None
            }
        }
    }

    /// A number above 0.
    pub(super) fn rate(&self) -> Option<Located<f64>> {
        self.decimal(f64::MIN_POSITIVE..=f64::MAX, "must be above 0", "leave it out for no limit")
    }

    /// A number, whole or not. `problem` and `hint` are the fault of a number outside the range.
    pub(super) fn decimal(
        &self,
        range: RangeInclusive<f64>,
        problem: &str,
        hint: &str,
    ) -> Option<Located<f64>> {
        let number: Option<f64> = match self.value {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(_)
            | DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                return self.wrong_type("a number", "write it in digits, without quotes");
            }
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(self.written(number)),
            None => {
                self.reader.fault(&self.location, problem, hint);
                None
            }
        }
    }

    pub(super) fn items(&self, hint: &str) -> Option<Vec<Node<'a>>> {
        let DeValue::Array(items) = self.value else {
            return self.wrong_type("an array", hint);
        };
        let path = |index: usize| format!("{}[{index}]", self.location.path);
        let items = items.iter().enumerate();
        Some(items.filter_map(|(index, item)| Node::new(self.reader, path(index), item)).collect())
    }

    pub(super) fn strings(&self, hint: &str) -> Option<Vec<Located<String>>> {
        Some(self.items(hint)?.iter().filter_map(|item| item.string(hint)).collect())
    }

    pub(super) fn table(&self, hint: &str) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.value else {
            return self.wrong_type("a table", hint);
        };
        Some(Table { reader: self.reader, location: self.location.clone(), entries, known: Vec::new() })
    }
}

fn describe(flaw: &InterpolationFault<'_>) -> (String, String) {
    let escape = "write $${ for the characters ${ themselves";
    match flaw {
        InterpolationFault::Unset(name) if is_printable_variable(name) => (
            format!("the environment variable {name} is not set"),
            format!("set {name}, or give a default: ${{{name}:-default}}"),
        ),
        InterpolationFault::Unset(_) => (
            "the environment variable it names is not set".into(),
            "set it, or give a default: ${NAME:-default}; its name is not shown, as it looks like a secret"
                .into(),
        ),
        InterpolationFault::BadName => ("has ${...} without a variable's name in it".into(), escape.into()),
        InterpolationFault::Nested => {
            ("has a variable in a variable's default".into(), "give a plain default".into())
        }
        InterpolationFault::Unclosed => ("has ${ without a } after it".into(), escape.into()),
    }
}

/// An operator may write a secret between the braces by mistake, and a secret must not be shown.
fn is_printable_variable(name: &str) -> bool {
    name.len() <= 12 || name.bytes().all(|byte| !byte.is_ascii_lowercase())
}

/// A table whose keys are read one by one. [`Table::finish`] then notes a fault for every key that was not read.
pub(super) struct Table<'a> {
    pub(super) reader: &'a ConfigReader<'a>,
    pub(super) location: Location,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(reader: &'a ConfigReader<'a>, entries: &'a DeTable<'a>) -> Self {
        Self { reader, location: Location { offset: 0, path: String::new() }, entries, known: Vec::new() }
    }

    pub(super) fn path(&self, name: &str) -> String {
        if self.location.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.location.path) }
    }

    /// Tells whether the key is written, readable or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Tells whether the key is written, and is not an empty array.
    pub(super) fn has_items(&self, name: &str) -> bool {
        let value = self.entries.get(name).map(Spanned::get_ref);
        value.is_some_and(|value| !value.as_array().is_some_and(|items| items.is_empty()))
    }

    pub(super) fn field(&mut self, name: &'static str) -> Option<Node<'a>> {
        self.known.push(name);
        Node::new(self.reader, self.path(name), self.entries.get(name)?)
    }

    pub(super) fn required(&mut self, name: &'static str, hint: &str) -> Option<Node<'a>> {
        if !self.has(name) {
            self.missing(&format!("the key `{name}` is missing"), hint);
        }
        self.field(name)
    }

    /// Notes that the table lacks a key, unless broken syntax may have hidden the key.
    pub(super) fn missing(&self, problem: &str, hint: &str) {
        if !self.reader.torn {
            self.reader.fault(&self.location, problem, hint);
        }
    }

    /// The items of an array of tables, `[[name]]`.
    pub(super) fn tables(&mut self, name: &'static str) -> Vec<Table<'a>> {
        let hint = format!("write each one below a line [[{name}]], with two brackets");
        let items = self.field(name).and_then(|node| node.items(&hint)).unwrap_or_default();
        items.iter().filter_map(|item| item.table(&hint)).collect()
    }

    /// Refuses a key that this version does not have.
    pub(super) fn refuse(&mut self, name: &'static str, problem: &str, hint: &str) {
        self.known.push(name);
        if let Some((key, _)) = self.entries.get_key_value(name) {
            let location = Location { offset: key.span().start, path: self.path(name) };
            self.reader.fault(&location, problem, hint);
        }
    }

    pub(super) fn finish(self) {
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let near = nearest(name, &self.known);
            let mut location = Location { offset: key.span().start, path: self.location.path.clone() };
            let mut problem = "unknown key".to_owned();
            if near.is_some() || is_printable_key(name) {
                let _ = write!(problem, " `{name}`");
                location.path = self.path(name);
            }
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.reader.fault(&location, problem, hint);
        }
    }
}

/// The known word that is most like `word`.
pub(super) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let alike = |known: &str| strsim::normalized_damerau_levenshtein(&word.to_lowercase(), known);
    let best = known.iter().map(|known| (*known, alike(known))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (word.len() <= 40 && best.1 >= 0.6).then_some(best.0)
}

/// Broken syntax can turn a secret into a key, so a key is shown only if it can't be a secret.
fn is_printable_key(name: &str) -> bool {
    name.len() < 16 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
