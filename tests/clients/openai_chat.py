"""The openai library against the compatible surface."""

import asyncio

import openai
from gateway import COMPATIBLE_BASES, KEY, URL, WRONG_KEY, check, finish, same, step

QUESTION = [{"role": "user", "content": "Where does the sun rise?"}]


def chat(client):
    answer = client.chat.completions.create(model="qwen-plus", messages=QUESTION)
    check(answer.choices[0].message.content and answer.usage.total_tokens > 0, answer)
    usage = None
    text = []
    for chunk in client.chat.completions.create(
        model="qwen-plus", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ):
        text += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        usage = chunk.usage or usage
    check(len(text) > 1, "not a stream:", text)
    check(usage and usage.total_tokens > 0, "no usage at the end of the stream")
    vectors = client.embeddings.create(model="text-embedding-v4", input=["one", "two"], encoding_format="float")
    same(len(vectors.data), 2, "embeddings")


async def asynchronous(base):
    async with openai.AsyncOpenAI(api_key=KEY, base_url=base) as client:
        stream = await client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True)
        text = [choice.delta.content async for chunk in stream for choice in chunk.choices if choice.delta.content]
        check(len(text) > 1, "not a stream:", text)


def refusals(base):
    try:
        openai.OpenAI(api_key=WRONG_KEY, base_url=base).chat.completions.create(model="qwen-plus", messages=QUESTION)
    except openai.AuthenticationError as error:
        same((error.status_code, error.code), (401, "invalid_api_key"), error)
        check(error.request_id, "a refusal without a request id:", error)
    else:
        raise AssertionError("a wrong key was let in")
    client = openai.OpenAI(api_key=KEY, base_url=base)
    for name, call in {"files": client.files.list, "batches": client.batches.list}.items():
        try:
            call()
        except openai.PermissionDeniedError as error:
            same(error.status_code, 403, error)
        else:
            raise AssertionError(f"the account's {name} were shown")


def main():
    for base in COMPATIBLE_BASES:
        step(base, "with openai", openai.__version__)
        with openai.OpenAI(api_key=KEY, base_url=URL + base) as client:
            chat(client)
        asyncio.run(asynchronous(URL + base))
        refusals(URL + base)
    finish("openai")


if __name__ == "__main__":
    main()
