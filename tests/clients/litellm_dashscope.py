"""LiteLLM's dashscope provider and its OpenAI one: chat, stream, embeddings, rerank and videos."""

import asyncio
import os
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # The list of prices would be fetched from the net.

import litellm
from gateway import KEY, URL, WRONG_KEY, check, finish, same, step

litellm.suppress_debug_info = True
litellm.telemetry = False
QUESTION = [{"role": "user", "content": "Where does the sun rise?"}]


def chat(model, base):
    asked = {"model": model, "messages": QUESTION, "api_base": base, "api_key": KEY}
    answer = litellm.completion(**asked)
    check(answer.choices[0].message.content and answer.usage.total_tokens > 0, answer)
    stream = litellm.completion(**asked, stream=True, stream_options={"include_usage": True})
    text = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    check(len(text) > 1, "not a stream:", text)
    answer = asyncio.run(litellm.acompletion(**asked))
    check(answer.choices[0].message.content, answer)
    vectors = litellm.embedding(model=model.split("/")[0] + "/text-embedding-v4", input=["one"], api_base=base, api_key=KEY)
    same(len(vectors.data), 1, "embeddings")
    try:
        litellm.completion(**{**asked, "api_key": WRONG_KEY}, num_retries=0)
    except litellm.AuthenticationError as error:
        same(error.status_code, 401, error)
    else:
        raise AssertionError("a wrong key was let in")


def rerank(base):
    asked = {"query": "sun", "documents": ["moon", "sun"], "api_base": base, "api_key": KEY}
    same(len(litellm.rerank(model="dashscope/qwen3-rerank", **asked).results), 2, "rerank")


def video(model, base):
    asked = {"api_base": base, "api_key": KEY}
    made = litellm.video_generation(model=model, prompt="A paper boat", seconds="5", **asked)
    deadline = time.monotonic() + 60
    while made.status not in ("completed", "failed"):
        check(time.monotonic() < deadline, "still not over:", made)
        time.sleep(0.3)
        made = litellm.video_status(video_id=made.id, custom_llm_provider=model.split("/")[0], **asked)
    same(made.status, "completed", made)
    content = litellm.video_content(video_id=made.id, custom_llm_provider=model.split("/")[0], **asked)
    check(content[4:8] == b"ftyp", "not an MP4:", content[:64])


def main():
    from importlib.metadata import version

    step("litellm", version("litellm"))
    for mount in ("/wan", ""):
        chat("dashscope/qwen-plus", f"{URL}{mount}/compatible-mode/v1")
        rerank(f"{URL}{mount}/compatible-api/v1")
        video("dashscope/wan2.7-t2v", URL + mount)
    chat("openai/qwen-plus", URL + "/v1")
    rerank(URL + "/v1")
    video("openai/wan2.7-t2v", URL + "/v1")
    finish("litellm")


if __name__ == "__main__":
    main()
