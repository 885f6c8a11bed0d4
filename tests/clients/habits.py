"""Requests by which programs find out what a base URL offers, in their order. The programs themselves are not run: each list
is what they were seen to send, and what they take for a good base URL."""

import requests
from gateway import KEY, URL, WRONG_KEY, check, finish, poll, same, step

BEARER = {"Authorization": f"Bearer {KEY}"}
QUESTION = [{"role": "user", "content": "hi"}]


def ask(method, path, **more):
    headers = {**BEARER, **more.pop("headers", {})}
    return requests.request(method, URL + path, headers=headers, timeout=30, **more)


def has_models(answer, what):
    same(answer.status_code, 200, f"{what}: {answer.text}")
    shown = answer.json()
    same(shown["object"], "list", what)
    check("qwen-plus" in [model["id"] for model in shown["data"]], what, shown)


def open_webui(base):
    """A connection is verified by its models; a wrong key must be told from a wrong address."""
    has_models(ask("GET", f"{base}/models"), base)
    wrong = requests.get(f"{URL}{base}/models", headers={"Authorization": f"Bearer {WRONG_KEY}"}, timeout=30)
    same((wrong.status_code, wrong.json()["error"]["code"]), (401, "invalid_api_key"), base)
    answer = ask("POST", f"{base}/chat/completions", json={"model": "qwen-plus", "messages": QUESTION, "stream": True})
    check(answer.headers["content-type"].startswith("text/event-stream") and "[DONE]" in answer.text, answer.text[-200:])


def cherry_studio(base):
    """Its check sends a chat of one word; its list of models is fetched apart. A base without `/v1` gets that."""
    has_models(ask("GET", f"{base}/models"), base)
    body = {"model": "qwen-plus", "messages": QUESTION, "max_tokens": 100, "stream": False, "temperature": 0.7}
    answer = ask("POST", f"{base}/chat/completions", json=body)
    check(answer.json()["choices"][0]["message"]["content"], answer.text)
    answer = ask("POST", f"{base}/embeddings", json={"model": "text-embedding-v4", "input": "test"})
    check(answer.json()["data"][0]["embedding"], answer.text)


def claude_code(base):
    """A look at the base, which needs no good answer but any; then the count, then a stream with the query `beta`."""
    same(ask("HEAD", base, headers={"x-api-key": KEY}).status_code, 403, base)
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219", "x-app": "cli"}
    asked = {"model": "qwen3-coder-plus", "messages": QUESTION}
    counted = ask("POST", f"{base}/v1/messages/count_tokens?beta=true", headers=headers, json=asked)
    check(counted.json()["input_tokens"] > 0, counted.text)
    asked |= {"max_tokens": 32, "stream": True, "metadata": {"user_id": "user_1"}}
    answer = ask("POST", f"{base}/v1/messages?beta=true", headers=headers, json=asked)
    check("event: message_stop" in answer.text, answer.text[-200:])
    # No list of models is served here, and the refusal has the shape that it reads.
    refused = ask("GET", f"{base}/v1/models", headers=headers)
    same((refused.status_code, refused.json()["type"]), (403, "error"), refused.text)


def qwen_code(base):
    """Its headers and a stream with tools."""
    headers = {"User-Agent": "QwenCode/0.6.0 (linux; x64)", "X-DashScope-CacheControl": "enable", "X-DashScope-UserAgent": "QwenCode"}
    tool = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object", "properties": {}}}}
    asked = {
        "model": "qwen3-coder-plus",
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [tool],
    }
    answer = ask("POST", f"{base}/chat/completions", headers=headers, json=asked)
    check(answer.status_code == 200 and '"usage"' in answer.text, answer.text[-300:])


def new_api(base):
    """A channel for Alibaba, whose base URL is the root: its list of models, its test of a channel in each kind of model, and
    the paths that it gives to its own clients' calls. It reads `error` of an answer, and takes one without `usage` for bad."""
    has_models(ask("GET", f"{base}/compatible-mode/v1/models"), base)
    chats = f"{base}/compatible-mode/v1/chat/completions"
    asked = {"model": "qwen-plus", "messages": QUESTION, "stream": False, "max_tokens": 16}
    answer = ask("POST", chats, json=asked).json()
    check("error" not in answer and answer["usage"]["total_tokens"] > 0, answer)
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = ask("POST", chats, headers={"X-DashScope-SSE": "enable"}, json=asked)
    check('"usage":{' in answer.text and '"error"' not in answer.text and "[DONE]" in answer.text, answer.text[-300:])
    wrong = ask("POST", chats, headers={"Authorization": f"Bearer {WRONG_KEY}"}, json=asked)
    check(wrong.status_code == 401 and wrong.json()["error"]["message"], wrong.text)
    answer = ask("POST", f"{base}/compatible-mode/v1/embeddings", json={"model": "text-embedding-v4", "input": ["hello world"]})
    check(answer.json()["data"][0]["embedding"] and answer.json()["usage"]["total_tokens"] > 0, answer.text)
    texts = {"query": "What is Deep Learning?", "documents": ["A subset of machine learning.", "A field."]}
    asked = {"model": "gte-rerank-v2", "input": texts, "parameters": {"top_n": 2, "return_documents": True}}
    answer = ask("POST", f"{base}/api/v1/services/rerank/text-rerank/text-rerank", json=asked)
    check(len(answer.json()["output"]["results"]) == 2 and answer.json()["usage"], answer.text)
    asked = {"model": "qwen3-max", "messages": QUESTION, "max_tokens": 16, "stream": False}
    answer = ask("POST", f"{base}/apps/anthropic/v1/messages", headers={"anthropic-version": "2023-06-01"}, json=asked)
    check(answer.json()["content"] and answer.json()["usage"]["output_tokens"] > 0, answer.text)
    picture = {"model": "wan2.2-t2i-flash", "input": {"prompt": "a cute cat"}, "parameters": {"size": "1024*1024", "n": 1}}
    video = {"model": "wan2.7-t2v", "input": {"prompt": "a cute cat"}, "parameters": {"resolution": "720P", "duration": 5}}
    for path, asked in (("text2image/image-synthesis", picture), ("video-generation/video-synthesis", video)):
        headers = {"X-DashScope-Async": "enable"}
        made = ask("POST", f"{base}/api/v1/services/aigc/{path}", headers=headers, json=asked)
        same(made.status_code, 200, made.text)
        ended = poll(f"{URL}{base}/api/v1", made.json()["output"]["task_id"])
        same(ended["output"]["task_status"], "SUCCEEDED", ended)
    # Its path for responses, and that of older versions for messages, are refused, and the other path is named.
    for path, meant in (
        ("protocols/compatible-mode/v1/responses", "/compatible-mode/v1/responses"),
        ("claude-code-proxy/v1/messages", "/apps/anthropic/v1/messages"),
    ):
        refused = ask("POST", f"{base}/api/v2/apps/{path}", json={"model": "qwen-plus", "input": "hi"})
        check(refused.status_code == 403 and f"It takes POST {base}{meant}" in refused.text, refused.text)


def heads(base):
    for path in (f"{base}/models", f"{base}/models/qwen-plus"):
        answer = ask("HEAD", path)
        same((answer.status_code, answer.content), (200, b""), path)


def main():
    for base in ("/v1", "/compatible-mode/v1", "/wan/compatible-mode/v1"):
        step(base)
        open_webui(base)
        cherry_studio(base)
        qwen_code(base)
        heads(base)
    for base in ("/apps/anthropic", "/wan/apps/anthropic"):
        step(base)
        claude_code(base)
    for base in ("", "/wan"):
        step(base or "/")
        new_api(base)
    # A base URL that forgets its path: the refusal names the path that would do.
    answer = ask("POST", "/chat/completions", json={"model": "qwen-plus", "messages": QUESTION})
    check(answer.status_code == 403 and "/compatible-mode/v1/chat/completions" in answer.text, answer.text)
    finish("habits")


if __name__ == "__main__":
    main()
