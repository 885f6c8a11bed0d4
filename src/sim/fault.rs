//! Script of faults: each names requests and the fault that they meet.

use std::str::FromStr;
use std::time::Duration;

use super::errors::ThrottlingKind;
use super::even_share::EvenShare;
use super::pattern::matches;

/// One line of the script. The first line that matches a request acts on it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptedFault {
    /// The method; `None` matches any.
    pub method: Option<String>,
    /// The path without its query; `*` stands for any text.
    pub path: String,
    /// First and last of the matching requests that meet the fault, counted from 1.
    pub first: u64,
    pub last: Option<u64>,
    /// Share of these requests that meets the fault, from 0 to 1, spread evenly.
    pub share: f64,
    /// Wait before anything else.
    pub delay: Duration,
    /// True for an answer before the request's body is read.
    pub early: bool,
    /// Headers added to the answer.
    pub headers: Vec<(String, String)>,
    pub act: FaultAction,
}

/// The fault that a request meets.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultAction {
    /// The usual answer.
    Answer,
    /// An error of this status and code, nothing done.
    Status { status: u16, code: String, message: String },
    /// One of the 429s, nothing done.
    Throttle(ThrottlingKind),
    /// The connection closes before anything is done.
    Close,
    /// The connection closes with an RST before anything is done.
    Reset,
    /// The request is carried out, then an RST takes the place of the answer.
    Lose,
    /// The request is carried out, then something else takes the place of the answer.
    LoseBy(LostAnswer),
    /// The connection stays open without an answer.
    Silence,
    /// Bytes that are not HTTP.
    Garbage,
    /// The answer's body is cut after `after` bytes, by FIN or RST.
    Truncate { after: u64, reset: bool },
    /// The answer's body stops after `after` bytes, and the connection stays open.
    Stall { after: u64 },
    /// The answer is whole, then the connection closes without `connection: close` in the answer.
    HangUp,
    /// The content-length is wrong by this number of bytes; the connection closes after the body.
    WrongLength(i64),
    /// The answer's body comes in pieces of `bytes`, with a pause before each.
    Slow { bytes: usize, every: Duration },
}

/// The end of a request whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostAnswer {
    /// The connection closes with a FIN.
    Close,
    /// The connection stays open.
    Silence,
    /// An error of this status, from 500 to 599.
    Status(u16),
}

impl ScriptedFault {
    /// A fault for every request that matches `[METHOD ]PATH`.
    pub fn on(target: &str, act: FaultAction) -> ScriptedFault {
        let (method, path) = match target.split_once(' ') {
            Some((method, path)) => (Some(method.to_owned()), path),
            None => (None, target),
        };
        ScriptedFault {
            method: method.filter(|method| method != "*"),
            path: path.trim().to_owned(),
            first: 1,
            last: None,
            share: 1.0,
            delay: Duration::ZERO,
            early: false,
            headers: Vec::new(),
            act,
        }
    }

    /// Limits the fault to the nth request that matches.
    pub fn nth(self, nth: u64) -> ScriptedFault {
        ScriptedFault { first: nth, last: Some(nth), ..self }
    }

    /// Limits the fault to the first `count` requests that match.
    pub fn times(self, times: u64) -> ScriptedFault {
        ScriptedFault { first: 1, last: Some(times), ..self }
    }

    /// Limits the fault to a share of the requests that match, from 0 to 1.
    pub fn share(self, share: f64) -> ScriptedFault {
        ScriptedFault { share, ..self }
    }

    pub fn delay(self, delay: Duration) -> ScriptedFault {
        ScriptedFault { delay, ..self }
    }

    pub fn early(self) -> ScriptedFault {
        ScriptedFault { early: true, ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> ScriptedFault {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn covers(&self, method: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && matches(&self.path, path)
    }
}

impl FromStr for ScriptedFault {
    type Err = String;

    /// `[METHOD ]PATH[#N|#N-M|#N-] WORD[,WORD]...`
    fn from_str(text: &str) -> Result<ScriptedFault, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let (target, words) = match parts.as_slice() {
            [path, words] => ((*path).to_owned(), *words),
            [method, path, words] => (format!("{method} {path}"), *words),
            _ => return Err("write [METHOD] PATH[#N] WORD[,WORD]...".to_owned()),
        };
        let (target, numbers) = target.split_once('#').unwrap_or((&target, ""));
        let mut fault = ScriptedFault::on(target, FaultAction::Answer);
        (fault.first, fault.last) = range(numbers)?;
        for word in words.split(',') {
            fault = fault.with(word)?;
        }
        Ok(fault)
    }
}

impl ScriptedFault {
    fn with(mut self, word: &str) -> Result<ScriptedFault, String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        self.act = match name {
            "delay" => return Ok(self.delay(duration(value)?)),
            "share" => return Ok(self.share(share(value)?)),
            "early" => return Ok(self.early()),
            "header" => {
                let (name, value) = value.split_once(':').ok_or("write header=NAME:VALUE")?;
                return Ok(self.header(name, value));
            }
            "status" => status(value)?,
            "throttle" => FaultAction::Throttle(value.parse()?),
            "close" => FaultAction::Close,
            "reset" => FaultAction::Reset,
            "lose" => lost(value)?,
            "silence" => FaultAction::Silence,
            "garbage" => FaultAction::Garbage,
            "hang-up" => FaultAction::HangUp,
            "truncate" => {
                let (after, how) = value.split_once(':').unwrap_or((value, ""));
                FaultAction::Truncate { after: number(after)?, reset: how == "reset" }
            }
            "stall" => FaultAction::Stall { after: number(value)? },
            "wrong-length" => FaultAction::WrongLength(
                value.parse().map_err(|_| format!("not a number of bytes: {value:?}"))?,
            ),
            "slow" => {
                let (bytes, every) = value.split_once('/').ok_or("write slow=BYTES/TIME")?;
                FaultAction::Slow { bytes: number(bytes)?.max(1) as usize, every: duration(every)? }
            }
            _ => return Err(format!("no fault is called {name:?}")),
        };
        Ok(self)
    }
}

fn lost(value: &str) -> Result<FaultAction, String> {
    let lost = match value {
        "" => return Ok(FaultAction::Lose),
        "close" => LostAnswer::Close,
        "silence" => LostAnswer::Silence,
        status => {
            let status = status.parse().ok().filter(|status| (500..600).contains(status));
            LostAnswer::Status(status.ok_or("write lose, lose=close, lose=silence or lose=5XX")?)
        }
    };
    Ok(FaultAction::LoseBy(lost))
}

fn share(value: &str) -> Result<f64, String> {
    let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("not a share from 0 to 1: {value:?}"))
}

fn status(value: &str) -> Result<FaultAction, String> {
    let mut parts = value.splitn(3, ':');
    let status: u16 = number(parts.next().unwrap_or_default())?.try_into().map_err(|_| "not a status")?;
    if !(200..600).contains(&status) {
        return Err(format!("not a status of an answer: {status}"));
    }
    let code = parts.next().unwrap_or(if status == 503 { "ServiceUnavailable" } else { "InternalError" });
    let message = parts.next().unwrap_or("scripted fault").replace('+', " ");
    Ok(FaultAction::Status { status, code: code.to_owned(), message })
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

/// The script.
#[derive(Default)]
pub(super) struct FaultScript(Vec<ScriptLine>);

struct ScriptLine {
    fault: ScriptedFault,
    /// Number of requests that matched.
    matched: u64,
    shared: EvenShare,
}

impl FaultScript {
    pub(super) fn add(&mut self, fault: ScriptedFault) {
        self.0.push(ScriptLine { fault, matched: 0, shared: EvenShare::default() });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for this request. Each line counts every request that matches it; a share is one of the requests that
    /// no earlier line takes.
    pub(super) fn next(&mut self, method: &str, path: &str) -> Option<ScriptedFault> {
        let mut chosen = None;
        for ScriptLine { fault, matched, shared } in &mut self.0 {
            if !fault.covers(method, path) {
                continue;
            }
            *matched += 1;
            let is_within = *matched >= fault.first && fault.last.is_none_or(|last| *matched <= last);
            if chosen.is_none() && is_within && shared.take(fault.share) {
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
        let fault: ScriptedFault =
            "POST /api/*#2-3 delay=1s,status=503:Busy:try+later,header=retry-after:5".parse().unwrap();
        let busy = FaultAction::Status { status: 503, code: "Busy".into(), message: "try later".into() };
        let mut expected = ScriptedFault::on("POST /api/*", busy).delay(Duration::from_secs(1));
        expected = expected.header("retry-after", "5");
        assert_eq!(fault, ScriptedFault { first: 2, last: Some(3), ..expected });
        let fault: ScriptedFault = "/x truncate=10:reset".parse().unwrap();
        assert_eq!(fault, ScriptedFault::on("/x", FaultAction::Truncate { after: 10, reset: true }));
        let fault: ScriptedFault = "/x lose=502,share=0.5".parse().unwrap();
        let lost = FaultAction::LoseBy(LostAnswer::Status(502));
        assert_eq!(fault, ScriptedFault::on("/x", lost).share(0.5));
        for wrong in ["/x lose=400", "/x lose=now", "/x share=2", "/x share=x"] {
            assert!(wrong.parse::<ScriptedFault>().is_err(), "{wrong}");
        }
        assert!("/x explode".parse::<ScriptedFault>().is_err());
        assert!("/x".parse::<ScriptedFault>().is_err());
    }

    #[test]
    fn the_nth_matching_request_suffers() {
        let mut script = FaultScript::default();
        script.add(ScriptedFault::on("GET /a*", FaultAction::Reset).nth(2));
        assert_eq!(script.next("GET", "/ab"), None);
        assert_eq!(script.next("POST", "/ab"), None);
        assert_eq!(script.next("GET", "/ac").map(|fault| fault.act), Some(FaultAction::Reset));
        assert_eq!(script.next("GET", "/ac"), None);
    }
    #[test]
    fn a_share_of_the_matching_requests_suffers() {
        let mut script = FaultScript::default();
        script.add(ScriptedFault::on("/a", FaultAction::Reset).share(0.5));
        let hit: Vec<bool> = (0..4).map(|_| script.next("GET", "/a").is_some()).collect();
        assert_eq!(hit, [false, true, false, true]);
    }
}
