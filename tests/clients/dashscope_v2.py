"""The DashScope SDK's Client of version 2, synchronous and asynchronous."""

import asyncio
import os
import warnings

from gateway import COMPATIBLE_BASES, KEY, NATIVE_BASES, OTHER_KEY, PATIENT_URL, URL, WEBSOCKET_BASES, WRONG_KEY
from gateway import check, download_video, finish, png, same, scratch, step, wav, websocket

import dashscope
from dashscope import AsyncClient, Client
from dashscope.v2.errors import DashScopeError

QUESTION = [{"role": "user", "content": "Where does the sun rise?"}]


def refused(call, status, code=None):
    try:
        answer = call()
    except DashScopeError as error:
        same(error.status_code, status, f"{error}")
        if code:
            check(code in str(vars(error)), code, "is not in", vars(error))
        return
    raise AssertionError(f"expected {status}, got {answer}")


def tasks(client, picture):
    job = client.videos.generate(model="wan2.7-t2v", prompt="A boat in the harbour")
    check(job.succeeded, job)
    download_video(job.video_url)
    local = client.videos.jobs.create(model="wan2.7-i2v", prompt="It walks", image_url=f"file://{picture}")
    image = client.images.jobs.create(model="wan2.2-t2i-flash", prompt="A boat")
    done = client.videos.jobs.wait(local.task_id)
    check(done.succeeded, done)
    download_video(client.videos.jobs.fetch(local.task_id).video_url)
    check(client.images.jobs.wait(image.task_id).image_urls, "no image")
    # The Client's list looks for "tasks" where DashScope says "data", so only the count tells.
    check(client.videos.jobs.list(page_size=50).total >= 3, "own tasks are not listed")
    return job.task_id


def others_tasks(base, id):
    with Client(api_key=OTHER_KEY, base_url=base) as other:
        same(other.videos.jobs.fetch(id).status, "UNKNOWN", "a foreign task")
        same(other.videos.jobs.list().total, 0, "another tenant's list")
        refused(lambda: other.videos.jobs.cancel(id), 400, "UnsupportedOperation")


def cancel_pending(base):
    with Client(base_url=base) as client, Client(api_key=OTHER_KEY, base_url=base) as other:
        id = client.videos.jobs.create(model="wan2.7-t2v", prompt="Never begun").task_id
        refused(lambda: other.videos.jobs.cancel(id), 400, "UnsupportedOperation")
        same(client.videos.jobs.fetch(id).status, "PENDING", "after a foreign cancel")
        client.videos.jobs.cancel(id)
        same(client.videos.jobs.fetch(id).status, "CANCELED", "after cancel")
        same(other.videos.jobs.fetch(id).status, "UNKNOWN", "a foreign task")


def chat(client):
    check(client.chat.completions.create(model="qwen-plus", messages=QUESTION).output_text, "an empty answer")
    parts = list(client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True).text_stream)
    check(len(parts) > 1 and "".join(parts), "not a stream:", parts)


def embeddings(client):
    same(len(client.embeddings.create(model="text-embedding-v4", input=["one", "two"]).embeddings), 2, "embeddings")


def refusals(base):
    with Client(api_key=WRONG_KEY, base_url=base) as nobody:
        refused(lambda: nobody.videos.jobs.create(model="wan2.7-t2v", prompt="No"), 401, "InvalidApiKey")
    with Client(base_url=base) as client:
        refused(lambda: client.files.list(), 403, "AccessDenied")


def speech(client, base, directory):
    """Both ways over WebSockets, with the Client's own preview of them."""
    url = websocket(base) + "/inference"
    audio = client.audio.tts.synthesize("Good morning", model="cosyvoice-v2", voice="longxiaochun_v2", ws_url=url)
    check(len(audio) > 0, "no audio")
    file = str(wav(directory))
    events = list(client.audio.asr.recognize_file(file, model="paraformer-realtime-v2", format="wav", ws_url=url))
    check(any("sentence" in str(event) for event in events), "nothing was recognised:", events)


async def asynchronous(base):
    async with AsyncClient(base_url=base) as client:
        job, answer = await asyncio.gather(
            client.videos.generate(model="wan2.7-t2v", prompt="A boat in the harbour"),
            client.chat.completions.create(model="qwen-plus", messages=QUESTION),
        )
        check(job.succeeded and answer.output_text, job, answer)
        stream = await client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True)
        parts = [part async for part in stream.text_stream]
        check(len(parts) > 1 and "".join(parts), "not a stream:", parts)


def main():
    warnings.simplefilter("ignore")
    os.environ["DASHSCOPE_API_KEY"] = KEY
    with scratch() as directory:
        picture = png(directory)
        for base in NATIVE_BASES:
            step(base, "with dashscope", dashscope.version.__version__)
            os.environ["DASHSCOPE_BASE_URL"] = URL + base
            with Client() as client:
                id = tasks(client, picture)
                chat(client)
                embeddings(client)
            others_tasks(URL + base, id)
            cancel_pending(PATIENT_URL + base)
            refusals(URL + base)
            asyncio.run(asynchronous(URL + base))
        for base in COMPATIBLE_BASES:
            step(base, "with the openai protocol")
            with Client(base_url=URL + base, protocol="openai") as client:
                chat(client)
        with Client() as client:
            for base in WEBSOCKET_BASES:
                step(base)
                speech(client, base, directory)
    finish("dashscope v2")


if __name__ == "__main__":
    main()
