// Vercel's AI SDK of version 7, which names each video by an Idempotency-Key, against an upstream that loses the answer
// to its first submit. The SDK's own retries must end with the video of that submit.

import assert from 'node:assert/strict';
import { createAlibaba } from 'ai-sdk-alibaba2';
import { experimental_generateVideo as generateVideo } from 'ai7';
import { key, step, url } from './gateway.mjs';

async function download({ url }) {
  const answer = await fetch(url);
  assert.equal(answer.status, 200, `GET ${url}`);
  return { data: new Uint8Array(await answer.arrayBuffer()), mediaType: answer.headers.get('content-type') };
}

step('/wan', 'with the retries of the AI SDK');
const alibaba = createAlibaba({ apiKey: key, videoBaseURL: `${url}/wan` });
const { video } = await generateVideo({
  model: alibaba.video('wan2.7-t2v'),
  prompt: 'A sailing boat leaves the harbour',
  resolution: '1280x720',
  duration: 5,
  download,
  providerOptions: { alibaba: { pollIntervalMs: 500, pollTimeoutMs: 60000 } },
});
assert.equal(Buffer.from(video.uint8Array.subarray(4, 8)).toString(), 'ftyp', 'not an MP4');
step('AI SDK: its retry got the first video', process.version);
