// The openai library's videos for Node against the unified dialect.

import assert from 'node:assert/strict';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError, toFile } from 'openai';
import { key, step, url, wrongKey } from './gateway.mjs';

const client = new OpenAI({ apiKey: key, baseURL: `${url}/v1` });
const directory = await mkdtemp(join(tmpdir(), 'dashgate-clients-'));
const prompt = 'A paper boat sets sail across the puddle';

// openai for Node has no create_and_poll in this version.
async function finished(video) {
  for (;;) {
    const { data, response } = await client.videos.retrieve(video.id).withResponse();
    if (data.status === 'completed' || data.status === 'failed') return data;
    assert.ok(['queued', 'in_progress'].includes(data.status), data.status);
    assert.ok(data.progress < 100);
    await new Promise(resolve => setTimeout(resolve, Number(response.headers.get('openai-poll-after-ms'))));
  }
}

// Only the signature and the padding of the picture are checked.
const picture = Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.alloc(1_000_000)]);
const path = join(directory, 'picture.png');
await writeFile(path, picture);

const plain = await client.videos.create({ model: 'wan2.7-t2v', prompt, seconds: '5', size: '1280x720' });
assert.deepEqual([plain.object, plain.status, plain.seconds, plain.size], ['video', 'queued', '5', '1280x720']);
const uploaded = await client.videos.create({
  model: 'wan2.7-i2v', prompt, input_reference: createReadStream(path), negative_prompt: 'rain',
});
const inline = await client.videos.create({
  model: 'wan2.7-i2v', prompt, input_reference: await toFile(picture.subarray(0, 99), 'small.png', { type: 'image/png' }),
});
const linked = await client.videos.create({
  model: 'wan2.7-i2v', prompt, seconds: '4', generate_audio: false,
  input_reference: { image_url: 'https://example.com/boat.png' },
});
const ids = [plain, uploaded, inline, linked].map(video => video.id);
for (const video of [plain, uploaded, inline, linked]) {
  const done = await finished(video);
  assert.deepEqual([done.status, done.progress, done.error], ['completed', 100, null]);
}

const content = await client.videos.downloadContent(plain.id);
assert.equal(content.headers.get('content-type'), 'video/mp4');
const file = join(directory, 'video.mp4');
await pipeline(Readable.fromWeb(content.body), createWriteStream(file));
assert.equal((await readFile(file)).subarray(4, 8).toString(), 'ftyp');

const listed = [];
for await (const video of client.videos.list({ limit: 2 })) listed.push(video.id);
assert.deepEqual(listed.slice(0, ids.length), ids.toReversed());

const deleted = await client.videos.delete(plain.id);
assert.deepEqual([deleted.id, deleted.deleted], [plain.id, true]);
await assert.rejects(client.videos.retrieve(plain.id), error =>
  error instanceof NotFoundError && error.code === 'not_found');
await assert.rejects(client.videos.create({ prompt }), error =>
  error instanceof BadRequestError && error.param === 'model');
const nobody = new OpenAI({ apiKey: wrongKey, baseURL: `${url}/v1` });
await assert.rejects(nobody.videos.list(), AuthenticationError);

await rm(directory, { recursive: true });
step('openai videos for node: all passed on', process.version);
