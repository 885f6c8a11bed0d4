"""The anthropic library, as Claude Code and its like use it, against the Anthropic surface."""

import anthropic
from gateway import KEY, URL, WRONG_KEY, check, finish, same, step

QUESTION = [{"role": "user", "content": "Where does the sun rise?"}]
MODEL = "qwen3-coder-plus"
BASES = ["/wan/apps/anthropic", "/alibabacloudapi/apps/anthropic", "/apps/anthropic"]
# Headers that Claude Code sends beside the library's own.
HABITS = {
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "x-app": "cli",
    "anthropic-dangerous-direct-browser-access": "true",
}


def messages(client):
    answer = client.messages.create(model=MODEL, max_tokens=64, messages=QUESTION)
    check(answer.content[0].text and answer.usage.output_tokens > 0, answer)
    answer = client.beta.messages.create(model=MODEL, max_tokens=64, messages=QUESTION, betas=["x-2026-01-01"])
    check(answer.content[0].text, answer)
    with client.messages.stream(model=MODEL, max_tokens=64, messages=QUESTION) as stream:
        text = list(stream.text_stream)
        check(len(text) > 1, "not a stream:", text)
        check(stream.get_final_message().usage.output_tokens > 0, "no usage at the end of the stream")
    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION)
    check(counted.input_tokens > 0, counted)
    counted = client.beta.messages.count_tokens(model=MODEL, messages=QUESTION)
    check(counted.input_tokens > 0, counted)


def refusals(base):
    """The library reads type and message of the body, so they must stand where Anthropic has them."""
    nobody = anthropic.Anthropic(base_url=base, api_key=WRONG_KEY, max_retries=0)
    try:
        nobody.messages.create(model=MODEL, max_tokens=1, messages=QUESTION)
    except anthropic.AuthenticationError as error:
        same((error.status_code, error.body["type"]), (401, "error"), error)
        same(error.body["error"]["type"], "authentication_error", error.body)
        check(error.body["request_id"], error.body)
    else:
        raise AssertionError("a wrong key was let in")
    client = anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0)
    try:
        client.messages.batches.list()
    except anthropic.PermissionDeniedError as error:
        same(error.body["error"]["type"], "permission_error", error.body)
    else:
        raise AssertionError("the account's batches were shown")


def main():
    for base in BASES:
        step(base, "with anthropic", anthropic.__version__)
        with anthropic.Anthropic(base_url=URL + base, api_key=KEY, default_headers=HABITS) as client:
            messages(client)
        with anthropic.Anthropic(base_url=URL + base, auth_token=KEY, api_key=None) as client:
            messages(client)
        refusals(URL + base)
    finish("anthropic")


if __name__ == "__main__":
    main()
