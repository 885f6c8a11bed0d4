"""The openai library with one base URL: everything that it has and DashScope too."""

import warnings

import openai
from gateway import KEY, URL, check, finish, same, scratch, step

# The library calls its own API of videos deprecated.
warnings.simplefilter("ignore", DeprecationWarning)

QUESTION = [{"role": "user", "content": "Where does the sun rise?"}]


def main():
    client = openai.OpenAI(api_key=KEY, base_url=URL + "/v1")
    step("/v1 with openai", openai.__version__)
    models = [model.id for model in client.models.list()]
    check("qwen-plus" in models, models)
    same(client.models.retrieve("qwen-plus").id, "qwen-plus")
    try:
        client.models.retrieve("nobody-has-this-one")
    except openai.NotFoundError as error:
        same(error.status_code, 404, error)
    else:
        raise AssertionError("a model that does not exist was shown")
    answer = client.chat.completions.create(model="qwen-plus", messages=QUESTION)
    check(answer.choices[0].message.content and answer.usage.total_tokens > 0, answer)
    stream = client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True)
    text = [choice.delta.content for chunk in stream for choice in chunk.choices if choice.delta.content]
    check(len(text) > 1, "not a stream:", text)
    check(client.completions.create(model="qwen-plus", prompt="The sun").choices[0].text, "no completion")
    vectors = client.embeddings.create(model="text-embedding-v4", input=["one", "two"], encoding_format="float")
    same(len(vectors.data), 2, "embeddings")
    response = client.responses.create(model="qwen3-max", input="Where does the sun rise?", store=False)
    check(response.output_text, response)
    with client.responses.stream(model="qwen3-max", input="Where?", store=False) as events:
        kinds = [event.type for event in events]
    check("response.completed" in kinds, kinds)
    try:
        client.responses.create(model="qwen3-max", input="Where?")
    except openai.BadRequestError as error:
        check("store" in str(error), error)
    else:
        raise AssertionError("a response was stored for the whole account")
    try:
        client.responses.retrieve("resp_1")
    except openai.NotFoundError as error:
        same(error.status_code, 404, error)
    else:
        raise AssertionError("a stored response was shown")
    video = client.videos.create_and_poll(model="wan2.7-t2v", prompt="A paper boat", seconds="5", size="1280x720")
    same(video.status, "completed", video)
    with scratch() as directory:
        client.videos.download_content(video.id).write_to_file(f"{directory}/boat.mp4")
        with open(f"{directory}/boat.mp4", "rb") as file:
            check(file.read(8)[4:] == b"ftyp", "not an MP4")
    for name, call in {"files": client.files.list, "batches": client.batches.list}.items():
        try:
            call()
        except openai.PermissionDeniedError as error:
            same(error.status_code, 403, error)
        else:
            raise AssertionError(f"the account's {name} were shown")
    finish("one base URL")


if __name__ == "__main__":
    main()
