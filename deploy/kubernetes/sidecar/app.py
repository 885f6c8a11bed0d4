"""An application that knows nothing of dashgate: a video by the official SDK, as its documentation has it."""

import os
from http import HTTPStatus

import dashscope
from dashscope import VideoSynthesis

print("base URL:", dashscope.base_http_api_url, flush=True)
answer = VideoSynthesis.call(
    model=os.environ.get("MODEL", "wan2.7-t2v"), prompt="a lighthouse at dusk", duration=5
)
assert answer.status_code == HTTPStatus.OK, answer
print(answer.output.task_status, answer.output.task_id, answer.output.video_url, flush=True)
