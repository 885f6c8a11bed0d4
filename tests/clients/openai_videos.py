"""The openai library's videos against the unified dialect."""

import asyncio
import warnings
from pathlib import Path

import openai
import requests
from gateway import KEY, OTHER_KEY, PATIENT_URL, URL, WRONG_KEY, check, finish, png, same, scratch, step

# The library calls its own API deprecated.
warnings.simplefilter("ignore", DeprecationWarning)

PROMPT = "A paper boat sets sail across the puddle"
FRAME = "https://example.com/boat.png"


def is_video(path):
    check(Path(path).read_bytes()[4:8] == b"ftyp", "not an MP4:", path)


def create(client, picture, large):
    video = client.videos.create(model="wan2.7-t2v", prompt=PROMPT, seconds="5", size="1280x720")
    same((video.object, video.status, video.progress), ("video", "queued", 0), video)
    same((video.prompt, video.seconds, video.size, video.model), (PROMPT, "5", "1280x720", "wan2.7-t2v"), video)
    check(video.created_at > 1_600_000_000 and video.completed_at is None and video.error is None, video)
    videos = [video]
    for file in (picture, large):
        with open(file, "rb") as reference:
            videos.append(
                client.videos.create(
                    model="wan2.7-i2v",
                    prompt=PROMPT,
                    seconds="4",
                    size="720x1280",
                    input_reference=reference,
                    extra_body={"negative_prompt": "rain", "parameters": {"watermark": True}},
                )
            )
    content = [{"type": "image_url", "role": "first_frame", "image_url": {"url": FRAME}}]
    videos.append(
        client.videos.create(
            model="wan2.7-i2v",
            prompt=PROMPT,
            extra_body={"input_reference": {"content": content}, "generate_audio": False, "seed": 7},
        )
    )
    for video in videos:
        done = client.videos.poll(video.id)
        same((done.status, done.progress), ("completed", 100), done)
    return [video.id for video in videos]


def download(client, video_id, directory):
    client.videos.download_content(video_id).write_to_file(directory / "whole.mp4")
    is_video(directory / "whole.mp4")
    with client.videos.with_streaming_response.download_content(video_id) as response:
        same(response.headers["content-type"], "video/mp4")
        response.stream_to_file(directory / "streamed.mp4")
    same((directory / "whole.mp4").read_bytes(), (directory / "streamed.mp4").read_bytes(), "both ways")


def pages(client, ids):
    listed = [video.id for video in client.videos.list(limit=2)]
    same(listed[: len(ids)], list(reversed(ids)), "newest first, over several pages")
    first = client.videos.list(limit=2, order="asc")
    check(first.has_more and len(first.data) == 2, first)
    following = client.videos.list(limit=2, order="asc", after=first.last_id)
    check(not {video.id for video in first.data} & {video.id for video in following.data}, "pages overlap")


def gone(client, video_id):
    deleted = client.videos.delete(video_id)
    same((deleted.id, deleted.deleted, deleted.object), (video_id, True, "video.deleted"))
    refused(openai.NotFoundError, "not_found", lambda: client.videos.retrieve(video_id))
    check(video_id not in [video.id for video in client.videos.list()], "still listed")


def refused(kind, code, call):
    try:
        call()
    except kind as error:
        same(error.code, code, error)
        check(error.request_id, "a refusal without a request id:", error)
    else:
        raise AssertionError(f"not refused with {kind.__name__}")


def refusals(client, video_id):
    other_tenant = openai.OpenAI(api_key=OTHER_KEY, base_url=client.base_url)
    for call in (other_tenant.videos.retrieve, other_tenant.videos.delete, other_tenant.videos.download_content):
        refused(openai.NotFoundError, "not_found", lambda call=call: call(video_id))
    nobody = openai.OpenAI(api_key=WRONG_KEY, base_url=client.base_url)
    refused(openai.AuthenticationError, "invalid_api_key", nobody.videos.list)
    create = client.videos.create
    refused(openai.BadRequestError, "invalid_parameter", lambda: create(prompt=PROMPT))
    refused(openai.BadRequestError, "invalid_parameter", lambda: create(model="wan2.7-t2v", prompt=PROMPT, size="1792x1024"))


def patient():
    """Where tasks wait to run, a delete cancels one, and there is nothing to download."""
    client = openai.OpenAI(api_key=KEY, base_url=PATIENT_URL + "/v1")
    video = client.videos.create(model="wan2.7-t2v", prompt=PROMPT)
    refused(openai.BadRequestError, "video_not_ready", lambda: client.videos.download_content(video.id))
    gone(client, video.id)
    answer = requests.get(
        f"{PATIENT_URL}/api/v1/tasks/{video.id}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    )
    same(answer.json()["output"]["task_status"], "CANCELED", "the native view")


async def asynchronous():
    async with openai.AsyncOpenAI(api_key=KEY, base_url=URL + "/v1") as client:
        video = await client.videos.create_and_poll(model="wan2.7-t2v", prompt=PROMPT, seconds="4")
        same(video.status, "completed", video)
        content = await client.videos.download_content(video.id)
        check((await content.aread())[4:8] == b"ftyp", "not an MP4")


def main():
    step("videos with openai", openai.__version__)
    with scratch() as directory, openai.OpenAI(api_key=KEY, base_url=URL + "/v1") as client:
        directory = Path(directory)
        picture = png(directory)
        large = directory / "large.png"
        large.write_bytes(picture.read_bytes() + bytes(1_000_000))
        ids = create(client, picture, large)
        video = client.videos.create_and_poll(model="wan2.7-t2v", prompt=PROMPT, seconds="4")
        same((video.status, video.seconds), ("completed", "4"), video)
        ids.append(video.id)
        check(client.videos.retrieve(video.id).completed_at, video)
        download(client, video.id, directory)
        pages(client, ids)
        refusals(client, video.id)
        gone(client, video.id)
    asyncio.run(asynchronous())
    patient()
    finish("openai videos")


if __name__ == "__main__":
    main()
