"""The DashScope SDK's classic classes, as the documentation uses them.

Runs with an old SDK too: pointed at the gateway once by the environment,
then by the module's own variable.
"""

import os
from http import HTTPStatus
from inspect import signature

from gateway import KEY, NATIVE_BASES, OTHER_KEY, PATIENT_URL, URL, WRONG_KEY
from gateway import check, download_video, finish, png, same, scratch, step

os.environ["DASHSCOPE_API_KEY"] = KEY
os.environ["DASHSCOPE_HTTP_BASE_URL"] = URL + NATIVE_BASES[0]

import dashscope
import requests
from dashscope import Generation, ImageSynthesis, MultiModalConversation, TextEmbedding, VideoSynthesis
from dashscope.audio.asr import Transcription

PICTURE = "https://example.com/picture.png"
QUESTION = [{"role": "user", "content": "Where does the sun rise?"}]


def ok(answer, what):
    same(answer.status_code, HTTPStatus.OK, f"{what}: {answer}")
    check(answer.request_id, "no request id:", answer)
    return answer


def succeeded(answer, what):
    same(ok(answer, what).output.task_status, "SUCCEEDED", f"{what}: {answer}")
    return answer


def video_calls(picture):
    """Every way to a video: submit all, then wait for each."""
    answer = succeeded(VideoSynthesis.call(model="wan2.7-t2v", prompt="A boat in the harbour", duration=5), "call")
    check(len(download_video(answer.output.video_url)) > 0, "an empty video")
    same(answer.usage["video_count"], 1, "usage")

    frames = {"first_frame_url": PICTURE, "last_frame_url": PICTURE}
    media = {"media": [{"type": "first_frame", "url": PICTURE}]}
    # Old versions take the argument only among the other fields of the input.
    if "media" not in signature(VideoSynthesis.async_call).parameters:
        media = {"extra_input": media}
    submitted = {
        "t2v": VideoSynthesis.async_call(model="wan2.7-t2v", prompt="A boat", resolution="720P"),
        "i2v": VideoSynthesis.async_call(model="wan2.7-i2v", prompt="It walks", **media),
        "i2v 2.6": VideoSynthesis.async_call(model="wan2.6-i2v", prompt="It walks", img_url=PICTURE),
        "kf2v": VideoSynthesis.async_call(model="wan2.2-kf2v-flash", prompt="It looks up", **frames),
        "local file": VideoSynthesis.async_call(model="wan2.6-i2v", prompt="It walks", img_url=f"file://{picture}"),
        "image": ImageSynthesis.async_call(model="wan2.2-t2i-flash", prompt="A boat", n=1),
        "transcription": Transcription.async_call(model="paraformer-v2", file_urls=["https://example.com/a.wav"]),
    }
    ids = {}
    for name, answer in submitted.items():
        ids[name] = ok(answer, name).output.task_id
    results = {name: VideoSynthesis.wait(id) for name, id in ids.items() if name not in ("image", "transcription")}
    for name, answer in results.items():
        same(succeeded(answer, name).output.task_id, ids[name], name)
    download_video(results["local file"].output.video_url)
    image = succeeded(ImageSynthesis.wait(submitted["image"]), "image")
    check(image.output.results[0].url.startswith("http"), "no image:", image)
    transcription = succeeded(Transcription.wait(submitted["transcription"]), "transcription")
    transcript = requests.get(transcription.output.results[0]["transcription_url"], timeout=30)
    same(transcript.status_code, 200, "transcript")
    return list(ids.values())


def own_tasks(ids):
    listed = ok(VideoSynthesis.list(page_size=50), "list").output
    check(set(ids) <= {task["task_id"] for task in listed["data"]}, "not all own tasks are listed:", listed)
    fetched = succeeded(VideoSynthesis.fetch(ids[0]), "fetch")
    download_video(fetched.output.video_url)
    refused = VideoSynthesis.cancel(ids[0])
    same((refused.status_code, refused.code), (400, "UnsupportedOperation"), "cancel of a finished task")


def others_tasks(ids):
    """Another tenant sees none of the tasks, and a wait for one ends at once."""
    for call in (VideoSynthesis.fetch, VideoSynthesis.wait):
        same(ok(call(ids[0], api_key=OTHER_KEY), "a foreign task").output.task_status, "UNKNOWN", call)
    listed = ok(VideoSynthesis.list(api_key=OTHER_KEY), "list").output
    same((listed["total"], listed["data"]), (0, []), "another tenant's list")
    refused = VideoSynthesis.cancel(ids[0], api_key=OTHER_KEY)
    same((refused.status_code, refused.code), (400, "UnsupportedOperation"), "cancel of a foreign task")


def cancel_pending():
    """A foreign key can't cancel a task that its owner can."""
    usual = dashscope.base_http_api_url
    dashscope.base_http_api_url = usual.replace(URL, PATIENT_URL)
    task = ok(VideoSynthesis.async_call(model="wan2.7-t2v", prompt="Never begun"), "async_call")
    same(ok(VideoSynthesis.fetch(task), "fetch").output.task_status, "PENDING")
    refused = VideoSynthesis.cancel(task, api_key=OTHER_KEY)
    same((refused.status_code, refused.code), (400, "UnsupportedOperation"), "a foreign cancel")
    same(ok(VideoSynthesis.fetch(task), "fetch").output.task_status, "PENDING", "after a foreign cancel")
    ok(VideoSynthesis.cancel(task), "cancel")
    same(VideoSynthesis.wait(task).output.task_status, "CANCELED")
    dashscope.base_http_api_url = usual


def generation(picture):
    message = {"result_format": "message"}
    answer = ok(Generation.call(model="qwen-plus", messages=QUESTION, **message), "generation")
    whole = answer.output.choices[0].message.content
    check(whole and answer.usage.output_tokens > 0, "an empty answer:", answer)
    parts = []
    for part in Generation.call(
        model="qwen-plus", messages=QUESTION, stream=True, incremental_output=True, **message
    ):
        parts.append(ok(part, "a streamed part").output.choices[0].message.content)
    check(len(parts) > 1 and "".join(parts), "not a stream:", parts)
    content = [{"image": f"file://{picture}"}, {"text": "What is this?"}]
    seen = MultiModalConversation.call(model="qwen-vl-plus", messages=[{"role": "user", "content": content}])
    check(ok(seen, "a local picture").output.choices[0].message.content, "an empty answer:", seen)
    embedding = ok(TextEmbedding.call(model="text-embedding-v4", input=["one", "two"]), "embedding")
    same(len(embedding.output["embeddings"]), 2, "embeddings")


def refusals():
    wrong = VideoSynthesis.async_call(model="wan2.7-t2v", prompt="No", api_key=WRONG_KEY)
    same((wrong.status_code, wrong.code), (401, "InvalidApiKey"), "a wrong key")
    same(wrong.message, "Invalid API-key provided.", "a wrong key")
    poll = VideoSynthesis.fetch("0385dc79-5ff8-4d82-bcb6-000000000000", api_key=WRONG_KEY)
    same((poll.status_code, poll.code), (401, "InvalidApiKey"), "a wrong key polls")
    stream = list(Generation.call(model="qwen-plus", messages=QUESTION, stream=True, api_key=WRONG_KEY))
    same([(part.status_code, part.code) for part in stream], [(401, "InvalidApiKey")], "a wrong key streams")
    tokens = requests.post(
        f"{dashscope.base_http_api_url}/tokens", headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    )
    same((tokens.status_code, tokens.json()["token"][:6]), (200, "st-dg-"), "POST tokens gives one of the gateway")
    files = dashscope.Files.list()
    same((files.status_code, files.code), (403, "AccessDenied"), "files of the account")


def main():
    with scratch() as directory:
        picture = png(directory)
        for base in NATIVE_BASES:
            if base == NATIVE_BASES[0]:
                same(dashscope.base_http_api_url, URL + base, "the environment's base URL")
            dashscope.base_http_api_url = URL + base
            step(base, "with dashscope", dashscope.version.__version__)
            ids = video_calls(picture)
            own_tasks(ids)
            others_tasks(ids)
            cancel_pending()
            generation(picture)
            refusals()
    finish("dashscope v1")


if __name__ == "__main__":
    main()
