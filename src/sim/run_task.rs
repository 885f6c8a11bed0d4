//! The WebSocket protocol of run-task, continue-task and finish-task: one task after the other on one socket.

use std::time::Duration;

use serde_json::{Value, json};

use super::errors::{ErrorAnswer, ErrorCause};
use super::generation::input_text;
use super::media::tone;
use super::models;
use super::session_message::{SessionInput, SessionOutput};

pub(super) struct RunTaskProtocol {
    standing: Result<(), ErrorAnswer>,
    task: Option<SocketTask>,
}

struct SocketTask {
    id: String,
    kind: SocketTaskKind,
    /// True when the client sends `finish-task`; otherwise the task has one input.
    streams_in: bool,
    characters: usize,
    audio_bytes: usize,
    sentences: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SocketTaskKind {
    Speech,
    Recognition,
    Text,
}

impl RunTaskProtocol {
    pub(super) fn new(standing: Result<(), ErrorAnswer>) -> RunTaskProtocol {
        RunTaskProtocol { standing, task: None }
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
            kind,
            streams_in: matches!(streaming, "in" | "duplex"),
            characters: 0,
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
        task.characters += text.chars().count();
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
        match task.kind {
            SocketTaskKind::Speech => {
                let usage = json!({"characters": task.characters});
                vec![event(id, "task-finished", json!({"output": null, "usage": usage}))]
            }
            SocketTaskKind::Text => vec![event(id, "task-finished", json!({"output": {}, "usage": null}))],
            SocketTaskKind::Recognition => {
                let millis = task.audio_bytes / BYTES_PER_MILLI;
                let sentence = json!({
                    "sentence_id": 1, "begin_time": 0, "end_time": millis, "text": "Hello from the simulator.",
                    "heartbeat": false, "sentence_end": true, "words": [],
                });
                let usage = json!({"duration": millis.div_ceil(1000).max(1)});
                let whole = json!({"output": {"sentence": sentence}, "usage": usage});
                let end = json!({"output": {}, "usage": null});
                vec![event(id, "result-generated", whole), event(id, "task-finished", end)]
            }
        }
    }

    fn fail(&mut self, id: &str, code: &str, message: &str) -> Vec<SessionOutput> {
        self.task = None;
        let header = json!({
            "task_id": id, "event": "task-failed", "attributes": {}, "error_code": code, "error_message": message,
        });
        vec![SessionOutput::Event(json!({"header": header, "payload": {}}))]
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
    use super::*;

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
        let mut run_task = RunTaskProtocol::new(Ok(()));
        let mut receive = |frame: String| run_task.receive(SessionInput::Text(&frame));
        let run = json!({"model": "cosyvoice-v2", "task": "tts", "input": {}});
        assert_eq!(events(&receive(frame("run-task", run))), ["task-started"]);
        let outputs = receive(frame("continue-task", json!({"input": {"text": "hello"}})));
        assert_eq!(events(&outputs), ["result-generated", "binary", "binary"]);
        let outputs = receive(frame("finish-task", json!({"input": {}})));
        let SessionOutput::Event(event) = &outputs[0] else { panic!("{outputs:?}") };
        assert_eq!(event["payload"]["usage"]["characters"], 5);
        assert_eq!(events(&receive(frame("finish-task", json!({})))), ["task-failed"]);
    }

    #[test]
    fn speech_is_recognized_to_the_end() {
        let mut run_task = RunTaskProtocol::new(Ok(()));
        let run = json!({"model": "paraformer-realtime-v2", "task": "asr", "input": {}});
        run_task.receive(SessionInput::Text(&frame("run-task", run)));
        assert_eq!(events(&run_task.receive(SessionInput::Binary(&[0; 12_800]))), ["result-generated"]);
        let outputs = run_task.receive(SessionInput::Text(&frame("finish-task", json!({"input": {}}))));
        assert_eq!(events(&outputs), ["result-generated", "task-finished"]);
        assert!(!run_task.is_running());
    }

    #[test]
    fn strange_models_and_silent_clients_fail() {
        let mut run_task = RunTaskProtocol::new(Ok(()));
        let outputs = run_task.receive(SessionInput::Text(&frame("run-task", json!({"model": "x"}))));
        assert_eq!(events(&outputs), ["task-failed"]);
        run_task
            .receive(SessionInput::Text(&frame("run-task", json!({"model": "cosyvoice-v2", "task": "tts"}))));
        let SessionOutput::Event(event) = run_task.time_out(Duration::from_secs(23)).remove(0) else {
            panic!()
        };
        assert_eq!(event["header"]["error_message"], "request timeout after 23 seconds.");
    }
}
