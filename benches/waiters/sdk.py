"""Concurrent `VideoSynthesis.call` of the unmodified DashScope SDK.

    sdk.py CALLS RATE    so many a second; DASHSCOPE_API_KEY and DASHSCOPE_HTTP_BASE_URL say where

One line for each call: its task, when it returned (seconds since the epoch)
and the task's status, or what it was told instead.
"""

import multiprocessing
import sys
import threading
import time

PROCESSES = 4


def call(turn, results):
    from dashscope import VideoSynthesis

    time.sleep(turn)
    try:
        answer = VideoSynthesis.call(model="wan2.7-t2v", prompt="a lighthouse at dusk")
        returned = time.time()
        output = answer.output or {}
        task = output.get("task_id") or "-"
        status = output.get("task_status") if answer.status_code == 200 else answer.status_code
    except Exception as error:
        returned, task, status = time.time(), "-", type(error).__name__
    results.append((task, returned, status))


def calls(turns, ready, lines):
    import dashscope  # noqa: F401  it takes seconds, which are no part of a call

    ready.wait()
    results = []
    threads = [threading.Thread(target=call, args=(turn, results)) for turn in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.put([f"{task} {returned:.6f} {status}" for task, returned, status in results])


def main():
    turns = [number / float(sys.argv[2]) for number in range(int(sys.argv[1]))]
    shares = [share for share in (turns[process::PROCESSES] for process in range(PROCESSES)) if share]
    context = multiprocessing.get_context("spawn")
    ready, lines = context.Barrier(len(shares)), context.Queue()
    children = [context.Process(target=calls, args=(share, ready, lines)) for share in shares]
    for child in children:
        child.start()
    for _ in children:
        print("\n".join(lines.get()))
    for child in children:
        child.join()


if __name__ == "__main__":
    main()
