//! run-task, continue-task, finish-task: speech out and in, task after task on one socket.

use std::time::Duration;

use serde_json::{Value, json};

use super::errors::{Cause, Refusal};
use super::generation::said;
use super::media::tone;
use super::models;
use super::session::{Heard, Say};

pub(super) struct RunTask {
    standing: Result<(), Refusal>,
    task: Option<Running>,
}

struct Running {
    id: String,
    kind: Kind,
    /// The client says when it is done; otherwise one input is all.
    streams_in: bool,
    characters: usize,
    audio_bytes: usize,
    sentences: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Speech,
    Recognition,
    Text,
}

impl RunTask {
    pub(super) fn new(standing: Result<(), Refusal>) -> RunTask {
        RunTask { standing, task: None }
    }

    pub(super) fn is_running(&self) -> bool {
        self.task.is_some()
    }

    pub(super) fn hear(&mut self, heard: Heard<'_>) -> Vec<Say> {
        let text = match heard {
            Heard::Binary(bytes) => return self.audio(bytes),
            Heard::Text(text) => text,
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

    pub(super) fn time_out(&mut self, after: Duration) -> Vec<Say> {
        let id = self.task.as_ref().map(|task| task.id.clone()).unwrap_or_default();
        self.fail(&id, "CLIENT_ERROR", &format!("request timeout after {} seconds.", after.as_secs()))
    }

    fn start(&mut self, id: &str, header: &Value, payload: &Value) -> Vec<Say> {
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
            Some("tts") => Kind::Speech,
            Some("asr") => Kind::Recognition,
            Some(_) | None => Kind::Text,
        };
        self.task = Some(Running {
            id: id.to_owned(),
            kind,
            streams_in: matches!(streaming, "in" | "duplex"),
            characters: 0,
            audio_bytes: 0,
            sentences: 0,
        });
        let mut said = vec![event(id, "task-started", json!({}))];
        if wishes["ping"] == true {
            said.push(Say::Ping);
        }
        if wishes["fail"] == true {
            said.extend(self.fail(id, "InternalError.Algo", "The simulator was told to fail."));
        } else if let Some(code) = wishes["close"].as_u64() {
            said.push(Say::Close(code as u16, "The simulator was told to close."));
        } else if !said_nothing(&payload["input"]) {
            said.extend(self.proceed(id, &payload["input"]));
        }
        said
    }

    fn check(&self, payload: &Value) -> Result<(), Refusal> {
        let model = payload["model"].as_str().unwrap_or_default();
        models::find(model).ok_or_else(|| Refusal::new(Cause::ModelNotFound, "Model not found"))?;
        self.standing.clone()
    }

    /// Text comes in.
    fn proceed(&mut self, id: &str, input: &Value) -> Vec<Say> {
        let Some(task) = self.task.as_mut().filter(|task| task.id == id) else {
            return self.fail(id, "InvalidParameter", "the task is not running.");
        };
        let text = said(input);
        task.characters += text.chars().count();
        task.sentences += 1;
        let mut said = Vec::new();
        match task.kind {
            Kind::Speech => {
                let begins = (task.sentences - 1) * u64::from(SOUND_MILLIS);
                let sentence = json!({
                    "index": task.sentences - 1, "begin_time": begins,
                    "end_time": begins + u64::from(SOUND_MILLIS), "words": [],
                });
                let output =
                    json!({"output": {"type": "sentence-synthesis", "sentence": sentence}, "usage": null});
                said.push(event(id, "result-generated", output));
                let sound = tone(SOUND_MILLIS);
                said.extend(sound.chunks(SOUND_CHUNK_BYTES).map(|chunk| Say::Binary(chunk.to_vec().into())));
            }
            Kind::Text => {
                said.push(event(id, "result-generated", json!({"output": {"text": text}, "usage": null})))
            }
            Kind::Recognition => {}
        }
        if !task.streams_in && task.kind != Kind::Recognition {
            said.extend(self.finish(id));
        }
        said
    }

    /// Sound comes in: a piece of a sentence comes out.
    fn audio(&mut self, bytes: &[u8]) -> Vec<Say> {
        let Some(task) = self.task.as_mut().filter(|task| task.kind == Kind::Recognition) else {
            return self.fail("", "InvalidParameter", "no task takes audio.");
        };
        task.audio_bytes += bytes.len();
        let id = task.id.clone();
        let sentence = json!({
            "sentence_id": 1, "begin_time": 0, "end_time": null, "text": "Hello from",
            "heartbeat": false, "sentence_end": false, "words": [],
        });
        let partial = json!({"output": {"sentence": sentence}, "usage": null});
        let mut said = vec![event(&id, "result-generated", partial)];
        if !task.streams_in {
            said.extend(self.finish(&id));
        }
        said
    }

    fn finish(&mut self, id: &str) -> Vec<Say> {
        let Some(task) = self.task.take_if(|task| task.id == id) else {
            return self.fail(id, "InvalidParameter", "the task is not running.");
        };
        match task.kind {
            Kind::Speech => {
                let usage = json!({"characters": task.characters});
                vec![event(id, "task-finished", json!({"output": null, "usage": usage}))]
            }
            Kind::Text => vec![event(id, "task-finished", json!({"output": {}, "usage": null}))],
            Kind::Recognition => {
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

    fn fail(&mut self, id: &str, code: &str, message: &str) -> Vec<Say> {
        self.task = None;
        let header = json!({
            "task_id": id, "event": "task-failed", "attributes": {}, "error_code": code, "error_message": message,
        });
        vec![Say::Event(json!({"header": header, "payload": {}}))]
    }
}

fn event(id: &str, name: &str, payload: Value) -> Say {
    Say::Event(json!({"header": {"task_id": id, "event": name, "attributes": {}}, "payload": payload}))
}

fn said_nothing(input: &Value) -> bool {
    said(input).is_empty()
}

const SOUND_MILLIS: u32 = 200;
const SOUND_CHUNK_BYTES: usize = 3200;
/// 16 bit mono at 16 kHz.
const BYTES_PER_MILLI: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(action: &str, payload: Value) -> String {
        json!({"header": {"action": action, "task_id": "t", "streaming": "duplex"}, "payload": payload})
            .to_string()
    }

    fn events(said: &[Say]) -> Vec<String> {
        let name = |say: &Say| match say {
            Say::Event(event) => event["header"]["event"].as_str().unwrap().to_owned(),
            Say::Binary(_) => "binary".to_owned(),
            Say::Ping => "ping".to_owned(),
            Say::Close(code, _) => code.to_string(),
        };
        said.iter().map(name).collect()
    }

    #[test]
    fn speech_is_made_text_by_text() {
        let mut run_task = RunTask::new(Ok(()));
        let mut hear = |frame: String| run_task.hear(Heard::Text(&frame));
        let run = json!({"model": "cosyvoice-v2", "task": "tts", "input": {}});
        assert_eq!(events(&hear(frame("run-task", run))), ["task-started"]);
        let said = hear(frame("continue-task", json!({"input": {"text": "hello"}})));
        assert_eq!(events(&said), ["result-generated", "binary", "binary"]);
        let said = hear(frame("finish-task", json!({"input": {}})));
        let Say::Event(event) = &said[0] else { panic!("{said:?}") };
        assert_eq!(event["payload"]["usage"]["characters"], 5);
        assert_eq!(events(&hear(frame("finish-task", json!({})))), ["task-failed"]);
    }

    #[test]
    fn speech_is_recognized_to_the_end() {
        let mut run_task = RunTask::new(Ok(()));
        let run = json!({"model": "paraformer-realtime-v2", "task": "asr", "input": {}});
        run_task.hear(Heard::Text(&frame("run-task", run)));
        assert_eq!(events(&run_task.hear(Heard::Binary(&[0; 12_800]))), ["result-generated"]);
        let said = run_task.hear(Heard::Text(&frame("finish-task", json!({"input": {}}))));
        assert_eq!(events(&said), ["result-generated", "task-finished"]);
        assert!(!run_task.is_running());
    }

    #[test]
    fn strange_models_and_silent_clients_fail() {
        let mut run_task = RunTask::new(Ok(()));
        let said = run_task.hear(Heard::Text(&frame("run-task", json!({"model": "x"}))));
        assert_eq!(events(&said), ["task-failed"]);
        run_task.hear(Heard::Text(&frame("run-task", json!({"model": "cosyvoice-v2", "task": "tts"}))));
        let Say::Event(event) = run_task.time_out(Duration::from_secs(23)).remove(0) else { panic!() };
        assert_eq!(event["header"]["error_message"], "request timeout after 23 seconds.");
    }
}
