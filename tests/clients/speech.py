"""Speech over WebSockets, both ways, with the DashScope SDK's three protocols:
text in and audio out, audio in and text out, and a realtime conversation."""

import base64
import os
import queue
import threading

from gateway import KEY, WEBSOCKET_BASES, WRONG_KEY
from gateway import check, finish, same, scratch, step, wav, websocket

os.environ["DASHSCOPE_API_KEY"] = KEY
os.environ["DASHSCOPE_WEBSOCKET_BASE_URL"] = websocket(WEBSOCKET_BASES[0]) + "/inference"

import dashscope
from dashscope.audio.asr import Recognition, RecognitionCallback
from dashscope.audio.qwen_omni import MultiModality, OmniRealtimeCallback, OmniRealtimeConversation
from dashscope.audio.tts_v2 import AudioFormat, ResultCallback, SpeechSynthesizer
from websocket import WebSocketBadStatusException, create_connection

WITHIN_SECONDS = 30
PCM = AudioFormat.PCM_16000HZ_MONO_16BIT


def synthesizer(callback=None):
    return SpeechSynthesizer(model="cosyvoice-v2", voice="longxiaochun_v2", format=PCM, callback=callback)


class Listener(ResultCallback):
    """Keeps the audio that arrives while text is still being sent."""

    def __init__(self):
        self.audio = b""
        self.errors = []
        self.over = threading.Event()

    def on_data(self, data):
        self.audio += data

    def on_error(self, message):
        self.errors.append(message)
        self.over.set()

    def on_complete(self):
        self.over.set()


def text_to_speech():
    audio = synthesizer().call("Good morning, this is a test.")
    check(audio, "no audio for a whole text")
    listener = Listener()
    streaming = synthesizer(listener)
    for part in ("Good ", "morning, ", "this is a test."):
        streaming.streaming_call(part)
    streaming.streaming_complete()
    check(listener.over.wait(WITHIN_SECONDS), "the synthesis did not end")
    same(listener.errors, [])
    check(listener.audio, "no audio for a streamed text")


class Transcript(RecognitionCallback):
    """Keeps the sentences that arrive while audio is still being sent."""

    def __init__(self):
        self.sentences = []
        self.errors = []
        self.over = threading.Event()

    def on_event(self, result):
        self.sentences.append(result.get_sentence())

    def on_error(self, result):
        self.errors.append(f"{result.code} {result.message}")
        self.over.set()

    def on_complete(self):
        self.over.set()


def recognition(callback=None):
    return Recognition(model="paraformer-realtime-v2", format="wav", sample_rate=16000, callback=callback)


def speech_to_text(file):
    result = recognition().call(str(file))
    same(result.status_code, 200, f"{result.code} {result.message}")
    check(result.get_sentence(), "nothing was recognised in a file:", result.output)
    transcript = Transcript()
    streaming = recognition(transcript)
    streaming.start()
    audio = file.read_bytes()
    for start in range(0, len(audio), 3200):
        streaming.send_audio_frame(audio[start : start + 3200])
    streaming.stop()
    check(transcript.over.wait(WITHIN_SECONDS), "the recognition did not end")
    same(transcript.errors, [])
    check(any(sentence["text"] for sentence in transcript.sentences), "nothing was recognised in a stream")


class Conversation(OmniRealtimeCallback):
    def __init__(self):
        self.events = queue.Queue()
        self.seen = []

    def on_event(self, message):
        self.events.put(message)

    def on_close(self, close_status_code, close_msg):
        self.events.put({"type": "closed", "code": close_status_code, "reason": close_msg})

    def until(self, kind):
        """The next event of a kind, passing over what comes before it."""
        while True:
            event = self.events.get(timeout=WITHIN_SECONDS)
            self.seen.append(event["type"])
            if event["type"] == kind:
                return event
            check(event["type"] not in ("error", "closed"), f"{kind} was expected:", event, self.seen)


def realtime(base, file):
    heard = Conversation()
    talk = OmniRealtimeConversation("qwen3-omni-flash-realtime", heard, url=websocket(base) + "/realtime")
    talk.connect()
    heard.until("session.created")
    talk.update_session(output_modalities=[MultiModality.AUDIO, MultiModality.TEXT], voice="Cherry",
                        enable_turn_detection=False)
    heard.until("session.updated")
    talk.append_audio(base64.b64encode(file.read_bytes()[44:]).decode())
    talk.commit()
    talk.create_response()
    done = heard.until("response.done")
    check("response.created" in heard.seen, heard.seen, done)
    talk.close()


def refusals(base, file):
    """A wrong key is turned away before the upgrade, and the SDK says so."""
    try:
        create_connection(f"{websocket(base)}/inference", header=[f"Authorization: Bearer {WRONG_KEY}"])
    except WebSocketBadStatusException as error:
        same(error.status_code, 401, error)
        check(b"InvalidApiKey" in error.resp_body, error.resp_body)
    else:
        raise AssertionError("a wrong key was let in")
    dashscope.api_key = WRONG_KEY
    result = recognition().call(str(file))
    check(result.status_code in (401, 403), "a wrong key was let in:", result.status_code, result.output)
    dashscope.api_key = KEY


def main():
    with scratch() as directory:
        file = wav(directory)
        for base in WEBSOCKET_BASES:
            if base == WEBSOCKET_BASES[0]:
                same(dashscope.base_websocket_api_url, websocket(base) + "/inference", "the environment's base URL")
            dashscope.base_websocket_api_url = websocket(base) + "/inference"
            step(base, "with dashscope", dashscope.version.__version__)
            text_to_speech()
            speech_to_text(file)
            realtime(base, file)
        refusals(WEBSOCKET_BASES[0], file)
    finish("speech")


if __name__ == "__main__":
    main()
