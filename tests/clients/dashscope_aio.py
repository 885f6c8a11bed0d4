"""The DashScope SDK's asynchronous classes. They poll and cancel at paths
with a trailing slash and send a body with a GET."""

import asyncio
import os
from http import HTTPStatus

from gateway import KEY, NATIVE_BASES, OTHER_KEY, PATIENT_URL, URL, WRONG_KEY
from gateway import check, download_video, finish, same, step

os.environ["DASHSCOPE_API_KEY"] = KEY
os.environ["DASHSCOPE_HTTP_BASE_URL"] = URL + NATIVE_BASES[0]

import dashscope
from dashscope import AioGeneration
from dashscope.aigc.image_synthesis import AioImageSynthesis
from dashscope.aigc.video_synthesis import AioVideoSynthesis

# Old versions ask for a cancel with GET, which is no operation of DashScope.
CANCELS = not dashscope.version.__version__.startswith("1.")

QUESTION = [{"role": "user", "content": "Where does the sun rise?"}]


def ok(answer, what):
    same(answer.status_code, HTTPStatus.OK, f"{what}: {answer}")
    return answer


def status(answer):
    """The asynchronous classes answer with plain dictionaries where the others have attributes."""
    return answer.output["task_status"]


async def tasks():
    called = AioVideoSynthesis.call(model="wan2.7-t2v", prompt="A boat in the harbour")
    imaged = AioImageSynthesis.call(model="wan2.2-t2i-flash", prompt="A boat", n=1)
    task = ok(await AioVideoSynthesis.async_call(model="wan2.7-t2v", prompt="Another boat"), "async_call")
    waited = AioVideoSynthesis.wait(task)
    for name, answer in zip(("call", "image", "wait"), await asyncio.gather(called, imaged, waited)):
        same(status(ok(answer, name)), "SUCCEEDED", name)
        if name != "image":
            await asyncio.to_thread(download_video, answer.output["video_url"])
    id = task.output["task_id"]
    same(status(ok(await AioVideoSynthesis.fetch(id), "fetch")), "SUCCEEDED")
    listed = ok(await AioVideoSynthesis.list(page_size=50), "list").output["data"]
    check(id in {item["task_id"] for item in listed}, "an own task is not listed:", listed)
    return id


async def others_tasks(id):
    for call in (AioVideoSynthesis.fetch, AioVideoSynthesis.wait):
        same(status(ok(await call(id, api_key=OTHER_KEY), "a foreign task")), "UNKNOWN", call)
    # Older versions show a list without tasks as no output at all.
    listed = ok(await AioVideoSynthesis.list(api_key=OTHER_KEY), "list").output
    check(listed is None or (listed["total"], listed["data"]) == (0, []), "another tenant's list:", listed)
    await cancel_refused(id, "cancel of a foreign task")


async def cancel_refused(id, what):
    refused = await AioVideoSynthesis.cancel(id, api_key=OTHER_KEY)
    expected = (400, "UnsupportedOperation") if CANCELS else (403, "AccessDenied")
    same((refused.status_code, refused.code), expected, what)


async def cancel_pending():
    usual = dashscope.base_http_api_url
    dashscope.base_http_api_url = usual.replace(URL, PATIENT_URL)
    task = ok(await AioVideoSynthesis.async_call(model="wan2.7-t2v", prompt="Never begun"), "async_call")
    id = task.output["task_id"]
    await cancel_refused(id, "a foreign cancel")
    same(status(ok(await AioVideoSynthesis.fetch(id), "fetch")), "PENDING", "after a foreign cancel")
    if CANCELS:
        ok(await AioVideoSynthesis.cancel(id), "cancel")
        same(status(await AioVideoSynthesis.fetch(id)), "CANCELED")
    dashscope.base_http_api_url = usual


async def generation():
    answer = ok(await AioGeneration.call(model="qwen-plus", messages=QUESTION, result_format="message"), "generation")
    check(answer.output.choices[0].message.content, "an empty answer:", answer)
    parts = []
    stream = await AioGeneration.call(
        model="qwen-plus", messages=QUESTION, result_format="message", stream=True, incremental_output=True
    )
    async for part in stream:
        parts.append(ok(part, "a streamed part").output.choices[0].message.content)
    check(len(parts) > 1 and "".join(parts), "not a stream:", parts)


async def refusals():
    wrong = await AioVideoSynthesis.async_call(model="wan2.7-t2v", prompt="No", api_key=WRONG_KEY)
    same((wrong.status_code, wrong.code), (401, "InvalidApiKey"), "a wrong key")


async def main():
    for base in NATIVE_BASES:
        dashscope.base_http_api_url = URL + base
        step(base, "with dashscope", dashscope.version.__version__)
        id = await tasks()
        await others_tasks(id)
        await cancel_pending()
        await generation()
        await refusals()
    finish("dashscope aio")


if __name__ == "__main__":
    asyncio.run(main())
