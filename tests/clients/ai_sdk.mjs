// Vercel's AI SDK with its Alibaba provider: chat, embeddings and video.

import assert from 'node:assert/strict';
import { createAlibaba } from '@ai-sdk/alibaba';
import { embed, experimental_generateVideo as generateVideo, generateText, streamText } from 'ai';
import { collect, key, mounts, step, url, wrongKey } from './gateway.mjs';

const picture = 'https://example.com/picture.png';
const prompt = 'A sailing boat leaves the harbour';

// The SDK's own download refuses loopback addresses, where the simulator's
// results are. The plain fetch sends no Authorization either.
async function download({ url }) {
  const answer = await fetch(url);
  assert.equal(answer.status, 200, `GET ${url}`);
  return { data: new Uint8Array(await answer.arrayBuffer()), mediaType: answer.headers.get('content-type') };
}

function provider(mount, apiKey = key) {
  return createAlibaba({
    apiKey,
    baseURL: `${url}${mount}/compatible-mode/v1`,
    videoBaseURL: `${url}${mount}`,
    embeddingBaseURL: `${url}${mount}/api/v1`,
  });
}

async function video(alibaba, model, options = {}) {
  const { providerOptions, ...rest } = options;
  const { video } = await generateVideo({
    model: alibaba.video(model),
    prompt,
    download,
    providerOptions: { alibaba: { pollIntervalMs: 500, pollTimeoutMs: 60000, ...providerOptions } },
    ...rest,
  });
  assert.equal(Buffer.from(video.uint8Array.subarray(4, 8)).toString(), 'ftyp', `${model}: not an MP4`);
}

async function talk(alibaba) {
  const answer = await generateText({ model: alibaba('qwen-plus'), prompt: 'Where does the sun rise?' });
  assert.ok(answer.text);
  assert.ok(answer.usage.totalTokens > 0);
  const stream = streamText({ model: alibaba('qwen-plus'), prompt: 'Where does the sun rise?' });
  const parts = await collect(stream.textStream, part => part);
  assert.ok(parts.length > 1, `not a stream: ${parts}`);
  const { embedding } = await embed({ model: alibaba.embedding('text-embedding-v4'), value: 'one' });
  assert.ok(embedding.length > 0);
}

for (const mount of mounts) {
  step(mount || '/', 'with the AI SDK');
  const alibaba = provider(mount);
  const reference = [{ type: 'reference_image', url: picture }];
  await Promise.all([
    talk(alibaba),
    video(alibaba, 'wan2.7-t2v', { resolution: '1280x720', duration: 5 }),
    video(alibaba, 'wan2.7-r2v', { providerOptions: { media: reference } }),
    video(alibaba, 'wan2.6-i2v', { prompt: { text: prompt, image: picture } }),
  ]);
  const nobody = provider(mount, wrongKey);
  await assert.rejects(video(nobody, 'wan2.7-t2v'), /Invalid API-key provided/);
  await assert.rejects(generateText({ model: nobody('qwen-plus'), prompt }), error => error.statusCode === 401);
}
step('AI SDK: all passed on', process.version);
