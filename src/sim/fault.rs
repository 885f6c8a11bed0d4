//! A script of what goes wrong: which request, and how.

use std::str::FromStr;
use std::time::Duration;

use super::errors::Throttling;
use super::pattern::matches;

/// One line of the script. The first line that matches a request acts on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Any method when none.
    pub method: Option<String>,
    /// The path without its query; `*` stands for any text.
    pub path: String,
    /// Of the requests that match, counted from 1, the first and the last to suffer.
    pub first: u64,
    pub last: Option<u64>,
    /// Waits this long before anything else.
    pub delay: Duration,
    /// Answers before it has read the request's body.
    pub early: bool,
    /// Put on the answer.
    pub headers: Vec<(String, String)>,
    pub act: Act,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// The usual answer.
    Answer,
    /// An error of this status and code, nothing done.
    Status { status: u16, code: String, message: String },
    /// One of the 429s, nothing done.
    Throttle(Throttling),
    /// The connection closes before anything is done.
    Close,
    /// The same with an RST.
    Reset,
    /// The request is carried out, then an RST takes the place of the answer.
    Lose,
    /// The connection stays open and nothing is said.
    Silence,
    /// Bytes that are not HTTP.
    Garbage,
    /// The answer's body is cut after so many bytes, by FIN or RST.
    Truncate { after: u64, reset: bool },
    /// After so many bytes of the answer's body nothing more comes.
    Stall { after: u64 },
    /// The answer is whole, then the connection closes without having said so.
    HangUp,
    /// The content-length is wrong by so many bytes, then the connection closes.
    WrongLength(i64),
    /// So many bytes of the answer's body at a time, with a pause before each.
    Slow { bytes: usize, every: Duration },
}

impl Fault {
    /// Acts on every request that matches `[METHOD ]PATH`.
    pub fn on(what: &str, act: Act) -> Fault {
        let (method, path) = match what.split_once(' ') {
            Some((method, path)) => (Some(method.to_owned()), path),
            None => (None, what),
        };
        Fault {
            method: method.filter(|method| method != "*"),
            path: path.trim().to_owned(),
            first: 1,
            last: None,
            delay: Duration::ZERO,
            early: false,
            headers: Vec::new(),
            act,
        }
    }

    /// Only on the nth that matches.
    pub fn nth(self, nth: u64) -> Fault {
        Fault { first: nth, last: Some(nth), ..self }
    }

    /// Only on the first so many that match.
    pub fn times(self, times: u64) -> Fault {
        Fault { first: 1, last: Some(times), ..self }
    }

    pub fn delay(self, delay: Duration) -> Fault {
        Fault { delay, ..self }
    }

    pub fn early(self) -> Fault {
        Fault { early: true, ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Fault {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn covers(&self, method: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && matches(&self.path, path)
    }
}

impl FromStr for Fault {
    type Err = String;

    /// `[METHOD ]PATH[#N|#N-M|#N-] WORD[,WORD]...`
    fn from_str(text: &str) -> Result<Fault, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let (what, words) = match parts.as_slice() {
            [path, words] => ((*path).to_owned(), *words),
            [method, path, words] => (format!("{method} {path}"), *words),
            _ => return Err("write [METHOD] PATH[#N] WORD[,WORD]...".to_owned()),
        };
        let (what, numbers) = what.split_once('#').unwrap_or((&what, ""));
        let mut fault = Fault::on(what, Act::Answer);
        (fault.first, fault.last) = range(numbers)?;
        for word in words.split(',') {
            fault = fault.with(word)?;
        }
        Ok(fault)
    }
}

impl Fault {
    fn with(mut self, word: &str) -> Result<Fault, String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        self.act = match name {
            "delay" => return Ok(self.delay(duration(value)?)),
            "early" => return Ok(self.early()),
            "header" => {
                let (name, value) = value.split_once(':').ok_or("write header=NAME:VALUE")?;
                return Ok(self.header(name, value));
            }
            "status" => status(value)?,
            "throttle" => Act::Throttle(value.parse()?),
            "close" => Act::Close,
            "reset" => Act::Reset,
            "lose" => Act::Lose,
            "silence" => Act::Silence,
            "garbage" => Act::Garbage,
            "hang-up" => Act::HangUp,
            "truncate" => {
                let (after, how) = value.split_once(':').unwrap_or((value, ""));
                Act::Truncate { after: number(after)?, reset: how == "reset" }
            }
            "stall" => Act::Stall { after: number(value)? },
            "wrong-length" => {
                Act::WrongLength(value.parse().map_err(|_| format!("not a number of bytes: {value:?}"))?)
            }
            "slow" => {
                let (bytes, every) = value.split_once('/').ok_or("write slow=BYTES/TIME")?;
                Act::Slow { bytes: number(bytes)?.max(1) as usize, every: duration(every)? }
            }
            _ => return Err(format!("no fault is called {name:?}")),
        };
        Ok(self)
    }
}

fn status(value: &str) -> Result<Act, String> {
    let mut parts = value.splitn(3, ':');
    let status: u16 = number(parts.next().unwrap_or_default())?.try_into().map_err(|_| "not a status")?;
    if !(200..600).contains(&status) {
        return Err(format!("not a status of an answer: {status}"));
    }
    let code = parts.next().unwrap_or(if status == 503 { "ServiceUnavailable" } else { "InternalError" });
    let message = parts.next().unwrap_or("scripted fault").replace('+', " ");
    Ok(Act::Status { status, code: code.to_owned(), message })
}

fn range(text: &str) -> Result<(u64, Option<u64>), String> {
    match text.split_once('-') {
        _ if text.is_empty() => Ok((1, None)),
        None => number(text).map(|nth| (nth, Some(nth))),
        Some((first, "")) => Ok((number(first)?, None)),
        Some((first, last)) => Ok((number(first)?, Some(number(last)?))),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("not a number: {text:?}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("not a time like 500ms: {error}"))
}

/// The script, with a count of what matched each line.
#[derive(Default)]
pub(super) struct Script(Vec<(Fault, u64)>);

impl Script {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push((fault, 0));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for this request. Each line counts every request that matches it.
    pub(super) fn next(&mut self, method: &str, path: &str) -> Option<Fault> {
        let mut chosen = None;
        for (fault, count) in &mut self.0 {
            if !fault.covers(method, path) {
                continue;
            }
            *count += 1;
            if chosen.is_none() && *count >= fault.first && fault.last.is_none_or(|last| *count <= last) {
                chosen = Some(fault.clone());
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_script_reads_as_written() {
        let fault: Fault =
            "POST /api/*#2-3 delay=1s,status=503:Busy:try+later,header=retry-after:5".parse().unwrap();
        let busy = Act::Status { status: 503, code: "Busy".into(), message: "try later".into() };
        let mut expected = Fault::on("POST /api/*", busy).delay(Duration::from_secs(1));
        expected = expected.header("retry-after", "5");
        assert_eq!(fault, Fault { first: 2, last: Some(3), ..expected });
        let fault: Fault = "/x truncate=10:reset".parse().unwrap();
        assert_eq!(fault, Fault::on("/x", Act::Truncate { after: 10, reset: true }));
        assert!("/x explode".parse::<Fault>().is_err());
        assert!("/x".parse::<Fault>().is_err());
    }

    #[test]
    fn the_nth_matching_request_suffers() {
        let mut script = Script::default();
        script.add(Fault::on("GET /a*", Act::Reset).nth(2));
        assert_eq!(script.next("GET", "/ab"), None);
        assert_eq!(script.next("POST", "/ab"), None);
        assert_eq!(script.next("GET", "/ac").map(|fault| fault.act), Some(Act::Reset));
        assert_eq!(script.next("GET", "/ac"), None);
    }
}
