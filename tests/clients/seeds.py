"""Runs every example of the seeds as printed, against the gateway.

Only the host, the key and the blanks of the pages are put in. Each example
must get its task, each task its result, and each download without a key a video.

    DASHGATE_SEEDS        directory of the seeds; ../shared/seeds
    DASHGATE_OLD_PYTHON   a Python with an older DashScope SDK

Without the seeds it ends with 77, which means that nothing was checked; in CI, or where
DASHGATE_SEEDS names a directory, it fails.
"""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from gateway import KEY, URL, check, download_video, poll, same, scratch, step
from seed_examples import find_examples

NOTHING_CHECKED = 77

EXPECTED = [
    *(f"000 {kind} {language}" for kind in ("i2v", "t2v", "r2v") for language in ("curl", "python", "node", "java")),
    "000 query curl",
    "001 unified create curl",
    "001 unified query curl",
    "001 unified content curl",
    "002 i2v with audio curl",
    "003 t2v curl",
    "003 t2v curl #2",
    "003 t2v curl #3",
    "004 first and last frame curl",
    "004 query curl",
    "004 kf2v call dashscope",
    "004 kf2v wait dashscope",
]

# A mount of the gateway whose statuses are ope.ai's: seed 001 goes there.
OPE = URL + "/ope"

# Fields that the answers of seed 001 must have.
CREATED = {"id", "object", "status", "created_at", "model", "prompt", "size", "seconds"}
QUERIED = {"id", "status", "model", "created_at", "object", "prompt", "size"}

HOSTS = ("https://api.agentsflare.com/", "https://api.apiyi.com/", "https://dashscope.aliyuncs.com/")
KEYS = ("<token>", "sk-your-api-key")
ASYNC = "<x-dashscope-async>"
TASK_ID = re.compile(r"[<{]task_id[>}]")


def fill_in(example, task_id=None):
    code = example.code
    if example.unified:
        return code.replace("TASK_ID_HERE", task_id or "")
    check(any(host in code for host in HOSTS), "no host to change in", example.name, code)
    for host in HOSTS:
        code = code.replace(host, URL + "/")
    for key in KEYS:
        code = code.replace(key, KEY)
    code = code.replace(ASYNC, "enable")
    if example.query:
        code = TASK_ID.sub(task_id, code)
    return code


def run(example, directory, python=sys.executable, task_id=None):
    """Runs an example, and returns its output."""
    code = fill_in(example, task_id)
    name = re.sub(r"\W+", "-", example.name)
    if example.language == "curl":
        command = ["bash", "-c", code]
    elif example.language in ("python", "dashscope"):
        command = [python, source(directory / name / "example.py", code)]
    elif example.language == "node":
        command = ["node", source(directory / name / "example.cjs", code)]
    else:
        class_name = re.search(r"public class (\w+)", code).group(1)
        command = ["java", source(directory / name / f"{class_name}.java", code)]
    keys = {"API_KEY": KEY, "DASHSCOPE_API_KEY": KEY, "BASE_URL": OPE}
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **keys}, capture_output=True, text=True, timeout=120
    )
    same(done.returncode, 0, f"{example.name}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def source(path, code):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, encoding="utf-8")
    return str(path)


def base_of(example):
    """The base URL that the example itself uses."""
    return re.search(re.escape(URL) + r"[^'\"\s]*?/v1(?=[/'\"])", fill_in(example, "none")).group()


def create(example, directory, python=sys.executable):
    """Runs an example that creates a task and follows it to its video."""
    printed = run(example, directory, python)
    task = re.search(r'"task_id": ?"([0-9a-f-]{36})"', printed)
    check(task, "no task id from", example.name, printed)
    body = poll(base_of(example), task.group(1))
    same(body["output"]["task_status"], "SUCCEEDED", f"{example.name} {body}")
    download_video(body["output"]["video_url"])
    if example.language == "dashscope":
        check("SUCCEEDED" in printed and ".mp4" in printed, "the SDK did not wait for the video:", printed)
    step("ok", example.name)
    return task.group(1)


def query(example, task_id, directory):
    """Runs an example that asks for the task of another one of its seed."""
    printed = run(example, directory, task_id=task_id)
    for expected in (task_id, "SUCCEEDED", ".mp4"):
        check(expected in printed, expected, "is not in the answer to", example.name, printed)
    step("ok", example.name)


def unified(examples, directory):
    """Seed 001, step by step as its page says: create, query until SUCCESS, download."""
    made, asked, fetched = (next(e for e in examples if kind in e.name) for kind in ("create", "query", "content"))
    video = json.loads(run(made, directory))
    check(CREATED <= video.keys(), "missing:", CREATED - video.keys(), video)
    same((video["status"], video["seconds"], video["size"]), ("QUEUED", "5", "1280x720"), made.name)
    statuses = []
    while "SUCCESS" not in statuses:
        queried = json.loads(run(asked, directory, task_id=video["id"]))
        check(QUERIED <= queried.keys(), "missing:", QUERIED - queried.keys(), queried)
        check(queried["status"] in ("QUEUED", "IN_PROGRESS", "SUCCESS"), queried)
        same((queried["prompt"], queried["size"]), (video["prompt"], "1280x720"), asked.name)
        statuses.append(queried["status"])
        time.sleep(0.2)
    run(fetched, directory, task_id=video["id"])
    check((directory / "output.mp4").read_bytes()[4:8] == b"ftyp", "not an MP4")
    for example in (made, asked, fetched):
        step("ok", example.name, *(statuses if example is asked else []))


def apiyi(task_id):
    """Seed 003 in its prose: poll GET /v1/tasks/{id} until completed, fetch result_url without a key."""
    while True:
        answer = requests.get(f"{URL}/v1/tasks/{task_id}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
        task = answer.json()
        same((answer.status_code, task["task_id"]), (200, task_id), task)
        check(task["status"] in ("submitted", "in_progress", "completed"), task)
        if task["status"] == "completed":
            same(task["progress"], 100, task)
            download_video(task["result_url"])
            return step("ok", "003 result of /v1/tasks")
        time.sleep(0.2)


def main():
    directory = Path(os.environ.get("DASHGATE_SEEDS") or Path(__file__).parents[3] / "shared" / "seeds").resolve()
    if not directory.is_dir():
        step("NOT RUN", f"no examples of the documentation at {directory}; DASHGATE_SEEDS names their directory")
        sys.exit(1 if os.environ.get("DASHGATE_SEEDS") or os.environ.get("CI") else NOTHING_CHECKED)
    examples = find_examples(directory)
    same(sorted(example.name for example in examples), sorted(EXPECTED), f"examples in {directory}")
    in_unified = [example for example in examples if example.unified]
    served = [example for example in examples if not example.unified]
    creating = [example for example in served if not example.query]
    with scratch() as scratch_directory, ThreadPoolExecutor(4) as pool:
        scratch_directory = Path(scratch_directory)
        # The slow ones first: they wait for a task, or start a JVM.
        order = sorted(creating, key=lambda example: example.language not in ("dashscope", "java"))
        tasks = [pool.submit(create, example, scratch_directory) for example in order]
        old_python = os.environ["DASHGATE_OLD_PYTHON"]
        for example in creating:
            if example.language == "dashscope":
                tasks.append(pool.submit(create, example, scratch_directory / "old", old_python))
        ids = {example.seed: task.result() for example, task in zip(order, tasks)}
        for task in tasks:
            task.result()
        for example in served:
            if example.query:
                query(example, ids[example.seed], scratch_directory)
        unified(in_unified, scratch_directory)
        apiyi(ids["003"])
    step(f"{len(examples)} examples got their task and their result")


if __name__ == "__main__":
    main()
