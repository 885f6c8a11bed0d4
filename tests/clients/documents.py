"""Runs the Python examples of the documents, with the real libraries: only the gateway's address is another one.

An example runs in a process of its own, in a directory with the files that examples read. It may use `ACME_KEY`, and
`openai` without an import.
"""

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

from gateway import KEY, URL, check, png, same, scratch, step, wav

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?P<mark>^<!-- not run: .*-->\n)?^```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
BEFORE = 'import openai, os\nACME_KEY = os.environ["ACME_KEY"]\n'
# What a reader has set who follows the table of clients.
SET_BEFORE = {
    "ACME_KEY": KEY,
    "DASHSCOPE_API_KEY": KEY,
    "DASHSCOPE_HTTP_BASE_URL": f"{URL}/api/v1",
    "DASHSCOPE_WEBSOCKET_BASE_URL": f"ws{URL.removeprefix('http')}/api-ws/v1/inference",
    "OPENAI_API_KEY": KEY,
    "OPENAI_BASE_URL": f"{URL}/compatible-mode/v1",
    "ANTHROPIC_AUTH_TOKEN": KEY,
    "ANTHROPIC_BASE_URL": f"{URL}/apps/anthropic",
}


def interpreter(example):
    """LiteLLM has an environment of its own."""
    if "litellm" in example:
        return Path(sys.prefix).with_name("python-litellm") / "bin" / "python"
    return sys.executable


def run(example):
    with scratch() as directory:
        png(directory).rename(Path(directory) / "boat.png")
        wav(directory)
        here = example.replace("http://gateway:8080", URL).replace("ws://gateway:8080", f"ws{URL.removeprefix('http')}")
        # A wrong indentation of the page is not mended.
        command = [interpreter(example), "-c", BEFORE + here]
        ended = subprocess.run(
            command, cwd=directory, env=os.environ | SET_BEFORE, capture_output=True, text=True, timeout=60
        )
        same(ended.returncode, 0, f"{example}\n{ended.stdout}{ended.stderr}")
        if ".mp4" in example:
            made = [file for file in Path(directory).iterdir() if file.read_bytes()[4:8] == b"ftyp"]
            check(made, "no MP4 came of:", example)


def verify(example):
    """An example that receives webhooks takes a delivery with its signature, and no other."""
    from standardwebhooks import Webhook, WebhookVerificationError

    scope = {}
    exec(example.replace("whsec_...", SECRET), scope)
    body, moment = '{"type":"task.succeeded","data":{}}', datetime.datetime.now(tz=datetime.timezone.utc)
    signature = Webhook(SECRET).sign("msg_1", moment, body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
    }
    same(scope["receive"](body.encode(), headers)["type"], "task.succeeded")
    try:
        scope["receive"](body.replace("succeeded", "failed").encode(), headers)
    except WebhookVerificationError:
        return
    raise AssertionError(f"a body that was changed is taken by:\n{example}")


found = 0
for page in [ROOT / "README.md", *sorted(ROOT.glob("deploy/guide/**/*.md"))]:
    for block in BLOCK.finditer(page.read_text()):
        if block["mark"]:
            continue
        found += 1
        example = block["text"]
        (verify if "standardwebhooks" in example else run)(example)
        step(f"{page.relative_to(ROOT)}: {example.splitlines()[0]}")
check(found, "no example in the documents")
step(f"documents: {found} examples")
