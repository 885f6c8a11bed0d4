//! The WebSocket protocol of run-task, continue-task and finish-task: one task after the other on one socket.

use std::time::Duration;

use serde_json::{Value, json};

use super::consumption::{AudioField, Consumption};
use super::errors::{ErrorAnswer, ErrorCause};
use super::generation::{input_text, tokens};
use super::media::tone;
use super::models;
use super::session_bill::SessionBill;
use super::session_message::{SessionInput, SessionOutput};
use super::token_consumption::{TokenConsumption, TokenDialect};

pub(super) struct RunTaskProtocol {
    standing: Result<(), ErrorAnswer>,
    task: Option<SocketTask>,
    bill: SessionBill,
}

struct SocketTask {
    id: String,
    model: String,
    kind: SocketTaskKind,
    /// True when the client sends `finish-task`; otherwise the task has one input.
    streams_in: bool,
    /// Text from the client.
    text: String,
    audio_bytes: usize,
    sentences: u64,
}

impl SocketTask {
    fn audio_millis(&self) -> usize {
        self.audio_bytes / BYTES_PER_MILLI
    }

    /// Consumption until now.
    fn consumption(&self) -> Consumption {
        match self.kind {
            SocketTaskKind::Recognition => {
                let seconds = self.audio_millis().div_ceil(1000).max(1) as u64;
                Consumption::Audio(seconds * 1000, AudioField::Duration)
            }
            SocketTaskKind::Speech => Consumption::Characters(self.text.chars().count() as u64),
            // The answer repeats the text.
            SocketTaskKind::Text => {
                let count = tokens(&self.text);
                Consumption::Tokens(TokenConsumption::new(TokenDialect::Native, count, count))
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SocketTaskKind {
    Speech,
    Recognition,
    Text,
}

impl RunTaskProtocol {
    pub(super) fn new(standing: Result<(), ErrorAnswer>, bill: SessionBill) -> RunTaskProtocol {
        RunTaskProtocol { standing, task: None, bill }
    }

    pub(super) fn is_running(&self) -> bool {
        self.task.is_some()
    }

    pub(super) fn receive(&mut self, input: SessionInput<'_>) -> Vec<SessionOutput> {
        let text = match input {
            SessionInput::Binary(bytes) => return self.audio(bytes),
            SessionInput::Text(text) => text,
        };
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        let header = &frame["header"];
        let id = header["task_id"].as_str().unwrap_or_default();
        match header["action"].as_str() {
            Some("run-task") => self.start(id, header, &frame["payload"]),
            Some("continue-task") => self.proceed(id, &frame["payload"]["input"]),
            Some("finish-task") => self.finish(id),
            Some(_) | None => self.fail(id, "InvalidParameter", "unknown action in header."),
        }
    }

    pub(super) fn time_out(&mut self, after: Duration) -> Vec<SessionOutput> {
        let id = self.task.as_ref().map(|task| task.id.clone()).unwrap_or_default();
        self.fail(&id, "CLIENT_ERROR", &format!("request timeout after {} seconds.", after.as_secs()))
    }

    fn start(&mut self, id: &str, header: &Value, payload: &Value) -> Vec<SessionOutput> {
        if id.is_empty() {
            return self.fail(id, "InvalidParameter", "task_id is required.");
        }
        if self.task.is_some() {
            return self.fail(id, "InvalidParameter", "a task is running already.");
        }
        if let Err(refusal) = self.check(payload) {
            return self.fail(id, &refusal.code, &refusal.message);
        }
        let streaming = header["streaming"].as_str().unwrap_or_default();
        let wishes = &payload["parameters"]["sim"];
        let kind = match payload["task"].as_str() {
            Some("tts") => SocketTaskKind::Speech,
            Some("asr") => SocketTaskKind::Recognition,
            Some(_) | None => SocketTaskKind::Text,
        };
        self.task = Some(SocketTask {
            id: id.to_owned(),
            model: payload["model"].as_str().unwrap_or_default().to_owned(),
            kind,
            streams_in: matches!(streaming, "in" | "duplex"),
            text: String::new(),
            audio_bytes: 0,
            sentences: 0,
        });
        let mut outputs = vec![event(id, "task-started", json!({}))];
        if wishes["ping"] == true {
            outputs.push(SessionOutput::Ping);
        }
        if wishes["fail"] == true {
            outputs.extend(self.fail(id, "InternalError.Algo", "The simulator was told to fail."));
        } else if let Some(code) = wishes["close"].as_u64() {
            outputs.push(SessionOutput::Close(code as u16, "The simulator was told to close."));
        } else if !has_no_text(&payload["input"]) {
            outputs.extend(self.proceed(id, &payload["input"]));
        }
        outputs
    }

    fn check(&self, payload: &Value) -> Result<(), ErrorAnswer> {
        let model = payload["model"].as_str().unwrap_or_default();
        models::find(model).ok_or_else(|| ErrorAnswer::new(ErrorCause::ModelNotFound, "Model not found"))?;
        self.standing.clone()
    }

    /// Handles text from the client.
    fn proceed(&mut self, id: &str, input: &Value) -> Vec<SessionOutput> {
        let Some(task) = self.task.as_mut().filter(|task| task.id == id) else {
            return self.fail(id, "InvalidParameter", "the task is not running.");
        };
        let text = input_text(input);
        task.text += &text;
        task.sentences += 1;
        let mut outputs = Vec::new();
        match task.kind {
            SocketTaskKind::Speech => {
                let begins = (task.sentences - 1) * u64::from(SOUND_MILLIS);
                let sentence = json!({
                    "index": task.sentences - 1, "begin_time": begins,
                    "end_time": begins + u64::from(SOUND_MILLIS), "words": [],
                });
                let output =
                    json!({"output": {"type": "sentence-synthesis", "sentence": sentence}, "usage": null});
                outputs.push(event(id, "result-generated", output));
                let sound = tone(SOUND_MILLIS);
                outputs.extend(
                    sound.chunks(SOUND_CHUNK_BYTES).map(|chunk| SessionOutput::Binary(chunk.to_vec().into())),
                );
            }
            SocketTaskKind::Text => {
                outputs.push(event(id, "result-generated", json!({"output": {"text": text}, "usage": null})))
            }
            SocketTaskKind::Recognition => {}
        }
        if !task.streams_in && task.kind != SocketTaskKind::Recognition {
            outputs.extend(self.finish(id));
        }
        outputs
    }

    /// Handles audio from the client, and answers with a part of a sentence.
    fn audio(&mut self, bytes: &[u8]) -> Vec<SessionOutput> {
        let Some(task) = self.task.as_mut().filter(|task| task.kind == SocketTaskKind::Recognition) else {
            return self.fail("", "InvalidParameter", "no task takes audio.");
        };
        task.audio_bytes += bytes.len();
        let id = task.id.clone();
        let sentence = json!({
            "sentence_id": 1, "begin_time": 0, "end_time": null, "text": "Hello from",
            "heartbeat": false, "sentence_end": false, "words": [],
        });
        let partial = json!({"output": {"sentence": sentence}, "usage": null});
        let mut outputs = vec![event(&id, "result-generated", partial)];
        if !task.streams_in {
            outputs.extend(self.finish(&id));
        }
        outputs
    }

    fn finish(&mut self, id: &str) -> Vec<SessionOutput> {
        let Some(task) = self.task.take_if(|task| task.id == id) else {
            return self.fail(id, "InvalidParameter", "the task is not running.");
        };
        let usage = self.settle(&task);
        match task.kind {
            SocketTaskKind::Speech => {
                vec![event(id, "task-finished", json!({"output": null, "usage": usage}))]
            }
            SocketTaskKind::Text => vec![event(id, "task-finished", json!({"output": {}, "usage": usage}))],
            SocketTaskKind::Recognition => {
                let millis = task.audio_millis();
                let sentence = json!({
                    "sentence_id": 1, "begin_time": 0, "end_time": millis, "text": "Hello from the simulator.",
                    "heartbeat": false, "sentence_end": true, "words": [],
                });
                let whole = json!({"output": {"sentence": sentence}, "usage": usage});
                let end = json!({"output": {}, "usage": null});
                vec![event(id, "result-generated", whole), event(id, "task-finished", end)]
            }
        }
    }

    /// Bills a task that has ended, and returns its `usage`.
    fn settle(&mut self, task: &SocketTask) -> Value {
        let used = task.consumption();
        self.bill.write(&task.model, &used);
        used.usage()
    }

    /// Ends the task, if one runs, with a failure, which costs nothing.
    fn fail(&mut self, id: &str, code: &str, message: &str) -> Vec<SessionOutput> {
        self.task = None;
        let header = json!({
            "task_id": id, "event": "task-failed", "attributes": {}, "error_code": code, "error_message": message,
        });
        vec![SessionOutput::Event(json!({"header": header, "payload": {}}))]
    }
}

/// A client that leaves pays for what was made until then.
impl Drop for RunTaskProtocol {
    fn drop(&mut self) {
        if let Some(task) = self.task.take().filter(|task| task.sentences > 0 || task.audio_bytes > 0) {
            self.settle(&task);
        }
    }
}

fn event(id: &str, name: &str, payload: Value) -> SessionOutput {
    SessionOutput::Event(
        json!({"header": {"task_id": id, "event": name, "attributes": {}}, "payload": payload}),
    )
}

fn has_no_text(input: &Value) -> bool {
    input_text(input).is_empty()
}

const SOUND_MILLIS: u32 = 200;
const SOUND_CHUNK_BYTES: usize = 3200;
/// Audio is 16 bit mono at 16 kHz.
const BYTES_PER_MILLI: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::session_bill::tests::session_bill;
    use super::*;

    /// A protocol in good standing, and the function that gives the units of its bill's lines.
    fn protocol() -> (RunTaskProtocol, impl Fn() -> Vec<Value>) {
        let (bill, session) = session_bill();
        let units = move || {
            let page: Value = serde_json::from_str(&bill.page()).unwrap();
            page["calls"].as_array().unwrap().iter().map(|line| line["units"].clone()).collect()
        };
        (RunTaskProtocol::new(Ok(()), session), units)
    }

    fn frame(action: &str, payload: Value) -> String {
        json!({"header": {"action": action, "task_id": "t", "streaming": "duplex"}, "payload": payload})
            .to_string()
    }

    fn events(outputs: &[SessionOutput]) -> Vec<String> {
        let name = |output: &SessionOutput| match output {
            SessionOutput::Event(event) => event["header"]["event"].as_str().unwrap().to_owned(),
            SessionOutput::Binary(_) => "binary".to_owned(),
            SessionOutput::Ping => "ping".to_owned(),
            SessionOutput::Close(code, _) => code.to_string(),
        };
        outputs.iter().map(name).collect()
    }

    #[test]
    fn speech_is_made_text_by_text() {
        let (mut run_task, billed) = protocol();
        let mut receive = |frame: String| run_task.receive(SessionInput::Text(&frame));
        let run = json!({"model": "cosyvoice-v2", "task": "tts", "input": {}});
        assert_eq!(events(&receive(frame("run-task", run))), ["task-started"]);
        let outputs = receive(frame("continue-task", json!({"input": {"text": "hello"}})));
        assert_eq!(events(&outputs), ["result-generated", "binary", "binary"]);
        let outputs = receive(frame("finish-task", json!({"input": {}})));
        let SessionOutput::Event(event) = &outputs[0] else { panic!("{outputs:?}") };
        assert_eq!(event["payload"]["usage"]["characters"], 5);
        assert_eq!(events(&receive(frame("finish-task", json!({})))), ["task-failed"]);
        assert_eq!(billed(), [json!({"character": "5.000"})]);
    }

    #[test]
    fn speech_is_recognized_to_the_end() {
        let (mut run_task, billed) = protocol();
        let run = json!({"model": "paraformer-realtime-v2", "task": "asr", "input": {}});
        run_task.receive(SessionInput::Text(&frame("run-task", run)));
        assert_eq!(events(&run_task.receive(SessionInput::Binary(&[0; 12_800]))), ["result-generated"]);
        let outputs = run_task.receive(SessionInput::Text(&frame("finish-task", json!({"input": {}}))));
        assert_eq!(events(&outputs), ["result-generated", "task-finished"]);
        assert!(!run_task.is_running());
        assert_eq!(billed(), [json!({"audio_second": "1.000"})]);
    }

    #[test]
    fn strange_models_and_silent_clients_fail() {
        let (mut run_task, billed) = protocol();
        let outputs = run_task.receive(SessionInput::Text(&frame("run-task", json!({"model": "x"}))));
        assert_eq!(events(&outputs), ["task-failed"]);
        run_task
            .receive(SessionInput::Text(&frame("run-task", json!({"model": "cosyvoice-v2", "task": "tts"}))));
        let SessionOutput::Event(event) = run_task.time_out(Duration::from_secs(23)).remove(0) else {
            panic!()
        };
        assert_eq!(event["header"]["error_message"], "request timeout after 23 seconds.");
        drop(run_task);
        assert!(billed().is_empty());
    }

    #[test]
    fn who_leaves_pays_for_what_was_made() {
        let (mut run_task, billed) = protocol();
        let run = json!({"model": "cosyvoice-v2", "task": "tts", "input": {}});
        run_task.receive(SessionInput::Text(&frame("run-task", run)));
        run_task.receive(SessionInput::Text(&frame("continue-task", json!({"input": {"text": "hel"}}))));
        assert!(billed().is_empty());
        drop(run_task);
        assert_eq!(billed(), [json!({"character": "3.000"})]);
    }
}
