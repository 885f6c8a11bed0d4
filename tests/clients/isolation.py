"""Two tenants on one account, a thousand tasks each, through every class of
the DashScope SDK that knows tasks. The file named by DASHGATE_TASKS has a
line for each task: the key that asks, `own`, `foreign` or `none`, and the id.

Runs with an old SDK too, which has no Client.
"""

import asyncio
import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from gateway import NATIVE_BASES, URL, check, finish, same, step

BASE = URL + NATIVE_BASES[0]
os.environ["DASHSCOPE_HTTP_BASE_URL"] = BASE

import dashscope
from dashscope import ImageSynthesis, VideoSynthesis
from dashscope.aigc.image_synthesis import AioImageSynthesis
from dashscope.aigc.video_synthesis import AioVideoSynthesis
from dashscope.audio.asr import Transcription

dashscope.base_http_api_url = BASE
AT_A_TIME = 8


def read():
    tasks = defaultdict(lambda: defaultdict(list))
    with open(os.environ["DASHGATE_TASKS"], encoding="utf-8") as file:
        for line in file:
            key, kind, id = line.split()
            tasks[key][kind].append(id)
    same(len(tasks), 2, "tenants")
    return tasks


def masked(text, id, request_id):
    check(request_id, "no request id:", text)
    text = re.sub(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", "DATE", text)
    return text.replace(request_id, "REQUEST").replace(id, "TASK")


def answered(answer, id):
    """The part of an answer that a caller of the classic classes can see."""
    return masked(str(answer), id, answer.request_id)


def compare(name, foreign, none):
    """Answers to the calls on foreign ids and on invented ones."""
    check(foreign and none, "nothing was asked:", name)
    same(set(foreign), set(none), f"{name}: foreign against none")
    same(len(set(foreign)), 1, f"{name}: answers that differ")
    return foreign[0]


def pages(name, own, ask):
    """Reads pages until one is empty."""
    listed, number = [], 1
    while True:
        total, ids = ask(number)
        same(total, len(own), f"{name}: total")
        if not ids:
            break
        listed += ids
        number += 1
    same(len(listed), len(own), f"{name}: rows")
    same(set(listed), set(own), f"{name}: ids")
    return number - 1


def rows(answer):
    output = answer.output
    for row in output["data"]:
        same(sorted(row), ["gmt_create", "model_name", "status", "task_id"], "a row")
    return output["total"], [row["task_id"] for row in output["data"]]


def classic(kind, key, own, foreign, none, pool):
    def asked(call, ids):
        return list(pool.map(lambda id: answered(call(id, api_key=key), id), ids))

    name = kind.__name__
    fetched = compare(f"{name}.fetch", asked(kind.fetch, foreign), asked(kind.fetch, none))
    check("UNKNOWN" in fetched, fetched)
    # The task is over for `wait` too, which else would poll for ever.
    compare(f"{name}.wait", asked(kind.wait, foreign[:3]), asked(kind.wait, none[:3]))
    canceled = compare(f"{name}.cancel", asked(kind.cancel, foreign), asked(kind.cancel, none))
    check("UnsupportedOperation" in canceled, canceled)
    for status in pool.map(lambda id: kind.fetch(id, api_key=key).output["task_status"], own[:50]):
        same(status, "PENDING", f"{name}: an own task")
    # The first class reads pages of the usual size.
    size = {} if kind is VideoSynthesis else {"page_size": 100}
    turned = pages(f"{name}.list", own, lambda number: rows(kind.list(page_no=number, api_key=key, **size)))
    step(name, f"{len(foreign)} foreign ids as none, {len(own)} own tasks on {turned} pages")


async def asynchronous(kind, key, own, foreign, none):
    turns = asyncio.Semaphore(AT_A_TIME)

    async def one(call, id):
        async with turns:
            return answered(await call(id, api_key=key), id)

    async def asked(call, ids):
        return await asyncio.gather(*(one(call, id) for id in ids))

    name = kind.__name__
    fetched = compare(f"{name}.fetch", await asked(kind.fetch, foreign), await asked(kind.fetch, none))
    check("UNKNOWN" in fetched, fetched)
    # Old versions ask for a cancel with GET, which is no operation of DashScope.
    canceled = compare(f"{name}.cancel", await asked(kind.cancel, foreign), await asked(kind.cancel, none))
    check("UnsupportedOperation" in canceled or "AccessDenied" in canceled, canceled)
    listed = []
    for number in range(1, len(own) // 100 + 1):
        total, ids = rows(await kind.list(page_no=number, page_size=100, api_key=key))
        same(total, len(own), f"{name}.list: total")
        listed += ids
    same(sorted(listed), sorted(own), f"{name}.list")
    step(name, f"{len(foreign)} foreign ids as none, {len(own)} own tasks")


def refused(error):
    return masked(f"{error.status_code} {error}", "-", error.request_id or "-")


def client(key, own, foreign, none, pool):
    from dashscope import Client
    from dashscope.v2.errors import DashScopeError

    with Client(api_key=key, base_url=BASE) as client:
        for name, jobs in (("videos.jobs", client.videos.jobs), ("images.jobs", client.images.jobs)):

            def fetch(id):
                job = jobs.fetch(id)
                return masked(str(job), id, job.request_id)

            def cancel(id):
                try:
                    return f"canceled {jobs.cancel(id)}"
                except DashScopeError as error:
                    return refused(error)

            for call in (fetch, cancel):
                compare(f"Client.{name}.{call.__name__}", list(pool.map(call, foreign)), list(pool.map(call, none)))
            check("UnsupportedOperation" in cancel(foreign[0]), cancel(foreign[0]))
            same(jobs.fetch(foreign[0]).status, "UNKNOWN", "a foreign task")
            same(jobs.fetch(own[0]).status, "PENDING", "an own task")
            # The Client's list looks for "tasks" where DashScope says "data", so only the count tells.
            same({jobs.list(page_no=number).total for number in range(1, 102)}, {len(own)}, f"{name}.list")
            step("Client", name, f"{len(foreign)} foreign ids as none, a list of {len(own)}")


async def asynchronous_client(key, own, foreign, none):
    from dashscope import AsyncClient
    from dashscope.v2.errors import DashScopeError

    async with AsyncClient(api_key=key, base_url=BASE) as client:
        jobs = client.videos.jobs
        for kind, ids in (("foreign", foreign), ("none", none)):
            for id in ids[:50]:
                same((await jobs.fetch(id)).status, "UNKNOWN", kind)
                try:
                    raise AssertionError(f"canceled {await jobs.cancel(id)}")
                except DashScopeError as error:
                    check("UnsupportedOperation" in refused(error), kind, refused(error))
        same((await jobs.list(page_size=100)).total, len(own), "AsyncClient's list")


def main():
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for key, ids in read().items():
            own, foreign, none = ids["own"], ids["foreign"], ids["none"]
            step(dashscope.version.__version__, f"{len(own)} own, {len(foreign)} foreign, {len(none)} invented ids")
            for kind in (VideoSynthesis, ImageSynthesis, Transcription):
                classic(kind, key, own, foreign, none, pool)
            for kind in (AioVideoSynthesis, AioImageSynthesis):
                asyncio.run(asynchronous(kind, key, own, foreign, none))
            if not dashscope.version.__version__.startswith("1."):
                client(key, own, foreign, none, pool)
                asyncio.run(asynchronous_client(key, own, foreign, none))
    finish("isolation")


if __name__ == "__main__":
    main()
