"""Settings of all client scripts: where the gateway is, whose keys
it takes, and how a check fails. All of it comes from the environment, so a
script can be pointed at any gateway.

    DASHGATE_URL         the gateway; its simulator runs a task for a second
    DASHGATE_PATIENT_URL another gateway, where a task stays PENDING
    DASHGATE_KEY         a tenant's key
    DASHGATE_OTHER_KEY   another tenant's key
"""

import os
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import requests

URL = os.environ["DASHGATE_URL"].rstrip("/")
PATIENT_URL = os.environ["DASHGATE_PATIENT_URL"].rstrip("/")
KEY = os.environ["DASHGATE_KEY"]
OTHER_KEY = os.environ["DASHGATE_OTHER_KEY"]
WRONG_KEY = "sk-nobody-00000000000000000000000000000"

# Base URLs that a user may give to a DashScope SDK.
NATIVE_BASES = ["/wan/api/v1", "/alibabacloudapi/v1", "/alibabacloudapi/api/v1", "/api/v1"]
COMPATIBLE_BASES = ["/wan/compatible-mode/v1", "/alibabacloudapi/compatible-mode/v1", "/compatible-mode/v1"]
WEBSOCKET_BASES = ["/wan/api-ws/v1", "/alibabacloudapi/api-ws/v1", "/api-ws/v1"]

TERMINAL = {"SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"}


def check(condition, *what):
    """An assertion that shows what it looked at, and survives `python -O`."""
    if not condition:
        raise AssertionError(" ".join(str(item) for item in what))


def same(actual, expected, what=""):
    check(actual == expected, f"{what}: expected {expected!r}, got {actual!r}")


def step(*what):
    print(*what, flush=True)


def websocket(path):
    return "ws" + URL.removeprefix("http") + path


def download_video(url):
    """Fetches a result as clients are told to: without Authorization."""
    answer = requests.get(url, timeout=30)
    same(answer.status_code, 200, f"GET {url}")
    check(answer.content[4:8] == b"ftyp", "not an MP4:", answer.content[:64])
    return answer.content


def poll(base, task_id, key=KEY, within_seconds=60):
    """Polls a task until it has ended, and returns the whole last answer."""
    deadline = time.monotonic() + within_seconds
    while True:
        answer = requests.get(
            f"{base}/tasks/{task_id}", headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        same(answer.status_code, 200, f"poll of {task_id}: {answer.text}")
        body = answer.json()
        if body["output"]["task_status"] in TERMINAL:
            return body
        check(time.monotonic() < deadline, f"still not over after {within_seconds} s:", body)
        time.sleep(0.5)


def png(directory):
    """A small valid picture in a file, to upload."""
    side = 64

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x * 4, 96, 160)[c] for x in range(side) for c in range(3)) for _ in range(side))
    path = Path(directory) / "picture.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def wav(directory, seconds=1, rate=16000):
    """A second of quiet noise as 16-bit mono, to recognise."""
    samples = b"".join(struct.pack("<h", (i * 7919) % 2001 - 1000) for i in range(rate * seconds))
    header = b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16) + b"data" + struct.pack("<I", len(samples))
    path = Path(directory) / "speech.wav"
    path.write_bytes(header + samples)
    return path


def scratch():
    return tempfile.TemporaryDirectory(prefix="dashgate-clients-")


def finish(name):
    step(f"{name}: all passed on Python {sys.version.split()[0]}")
