"""LiteLLM's proxy before the gateway: the routes that its dashscope provider serves, and its check of health."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import requests
from gateway import KEY, URL, WRONG_KEY, check, finish, same, step

MASTER_KEY = "sk-master-of-the-proxy-0f3a"
QUESTION = [{"role": "user", "content": "Where does the sun rise?"}]


def model(name, served, base, mode, key=KEY):
    return {
        "model_name": name,
        "litellm_params": {"model": served, "api_base": URL + base, "api_key": key},
        "model_info": {"mode": mode},
    }


MODELS = [
    model("chat", "dashscope/qwen-plus", "/compatible-mode/v1", "chat"),
    model("behind-a-prefix", "dashscope/qwen-plus", "/wan/compatible-mode/v1", "chat"),
    model("by-openai", "openai/qwen-plus", "/v1", "chat"),
    model("vectors", "dashscope/text-embedding-v4", "/compatible-mode/v1", "embedding"),
    model("order", "dashscope/qwen3-rerank", "/compatible-api/v1", "rerank"),
    model("video", "dashscope/wan2.7-t2v", "", "video_generation"),
    model("unknown-key", "dashscope/qwen-plus", "/compatible-mode/v1", "chat", WRONG_KEY),
]


class Proxy:
    """A proxy of its own, ended with the `with`."""

    def __init__(self, folder):
        config = Path(folder) / "config.yaml"
        # JSON is YAML.
        config.write_text(json.dumps({"model_list": MODELS, "general_settings": {"master_key": MASTER_KEY}}))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = Path(folder) / "log"
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
        program = Path(sys.executable).with_name("litellm")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [program, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"],
                env={**os.environ, **quiet},
                stdout=log,
                stderr=log,
            )

    def __enter__(self):
        deadline = time.monotonic() + 120
        while True:
            check(self.process.poll() is None and time.monotonic() < deadline, "no proxy:", self.log.read_text()[-3000:])
            try:
                if requests.get(f"{self.url}/health/readiness", timeout=5).status_code == 200:
                    return self
            except requests.ConnectionError:
                pass
            time.sleep(0.3)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def ask(self, method, path, **more):
        more.setdefault("headers", {"Authorization": f"Bearer {MASTER_KEY}"})
        return requests.request(method, self.url + path, timeout=60, **more)

    def good(self, method, path, **more):
        answer = self.ask(method, path, **more)
        same(answer.status_code, 200, f"{method} {path}: {answer.text}")
        return answer


def models(proxy):
    shown = {one["id"] for one in proxy.good("GET", "/v1/models").json()["data"]}
    check({"chat", "vectors", "order", "video"} <= shown, shown)


def chat(proxy, name):
    asked = {"model": name, "messages": QUESTION}
    answer = proxy.good("POST", "/v1/chat/completions", json=asked).json()
    check(answer["choices"][0]["message"]["content"] and answer["usage"]["total_tokens"] > 0, answer)
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = proxy.good("POST", "/v1/chat/completions", json=asked)
    check(answer.headers["content-type"].startswith("text/event-stream"), answer.headers)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    same(lines[-1], "[DONE]", "the last event")
    events = [json.loads(line) for line in lines[:-1]]
    text = [one["choices"][0]["delta"].get("content") for one in events if one["choices"]]
    check(len([part for part in text if part]) > 1, "not a stream:", answer.text)
    check(any((one.get("usage") or {}).get("total_tokens", 0) > 0 for one in events), "no usage:", answer.text[-500:])


def other_dialects(proxy):
    """The proxy turns these into chats."""
    asked = {"model": "chat", "messages": QUESTION, "max_tokens": 50}
    answer = proxy.good("POST", "/v1/messages", json=asked).json()
    check(answer["content"][0]["text"] and answer["usage"]["output_tokens"] > 0, answer)
    answer = proxy.good("POST", "/v1/responses", json={"model": "chat", "input": "Where does the sun rise?"}).json()
    check(answer["output"][0]["content"][0]["text"], answer)


def vectors(proxy):
    answer = proxy.good("POST", "/v1/embeddings", json={"model": "vectors", "input": ["one", "two"]}).json()
    same(len(answer["data"]), 2, answer)
    answer = proxy.good("POST", "/v1/rerank", json={"model": "order", "query": "sun", "documents": ["moon", "sun"]}).json()
    same(len(answer["results"]), 2, answer)


def video(proxy):
    made = proxy.good("POST", "/v1/videos", json={"model": "video", "prompt": "A paper boat", "seconds": "5"}).json()
    deadline = time.monotonic() + 60
    while made["status"] not in ("completed", "failed"):
        check(time.monotonic() < deadline, "still not over:", made)
        time.sleep(0.5)
        made = proxy.good("GET", f"/v1/videos/{made['id']}").json()
    same(made["status"], "completed", made)
    content = proxy.good("GET", f"/v1/videos/{made['id']}/content").content
    check(content[4:8] == b"ftyp", "not an MP4:", content[:64])


def refusals(proxy):
    """A key that the gateway does not know is not taken for a proxy's own fault, and is not tried again."""
    refused = proxy.ask("POST", "/v1/chat/completions", json={"model": "unknown-key", "messages": QUESTION})
    same(refused.status_code, 401, refused.text)
    check(WRONG_KEY not in refused.text, refused.text)


def health(proxy):
    """The proxy's own check sends each model a small call of its kind."""
    told = proxy.good("GET", "/health").json()
    sick = {one["model"] + one.get("api_base", "").removeprefix(URL) for one in told["unhealthy_endpoints"]}
    step("health:", told["healthy_count"], "well,", sorted(sick), "not")
    same(told["healthy_count"], len(MODELS) - 1, told)
    same(sick, {"dashscope/qwen-plus/compatible-mode/v1"}, told)


def main():
    step("litellm", version("litellm"))
    with tempfile.TemporaryDirectory() as folder, Proxy(folder) as proxy:
        step("it is up")
        models(proxy)
        for name in ("chat", "behind-a-prefix", "by-openai"):
            chat(proxy, name)
        other_dialects(proxy)
        vectors(proxy)
        video(proxy)
        refusals(proxy)
        health(proxy)
    finish("litellm's proxy")


if __name__ == "__main__":
    main()
