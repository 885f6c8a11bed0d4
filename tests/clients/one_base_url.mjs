// The openai library for Node with one base URL: everything that it has and DashScope too.

import assert from 'node:assert/strict';
import OpenAI, { BadRequestError, NotFoundError } from 'openai';
import { collect, key, step, url } from './gateway.mjs';

const client = new OpenAI({ apiKey: key, baseURL: `${url}/v1` });
const messages = [{ role: 'user', content: 'Where does the sun rise?' }];

const models = (await collect(await client.models.list(), model => model.id));
assert.ok(models.includes('qwen-plus'), models.join());
assert.equal((await client.models.retrieve('qwen-plus')).id, 'qwen-plus');
assert.ok((await client.chat.completions.create({ model: 'qwen-plus', messages })).choices[0].message.content);
const stream = await client.chat.completions.create({ model: 'qwen-plus', messages, stream: true });
assert.ok((await collect(stream, chunk => chunk.choices[0]?.delta.content)).length > 1);
const vectors = await client.embeddings.create({
  model: 'text-embedding-v4', input: ['one', 'two'], encoding_format: 'float',
});
assert.equal(vectors.data.length, 2);
const response = await client.responses.create({ model: 'qwen3-max', input: 'Where does the sun rise?', store: false });
assert.ok(response.output_text);
await assert.rejects(client.responses.create({ model: 'qwen3-max', input: 'Where?' }), BadRequestError);
await assert.rejects(client.responses.retrieve('resp_1'), NotFoundError);
let video = await client.videos.create({ model: 'wan2.7-t2v', prompt: 'A paper boat', seconds: '5', size: '1280x720' });
while (['queued', 'in_progress'].includes(video.status)) {
  await new Promise(resume => setTimeout(resume, 300));
  video = await client.videos.retrieve(video.id);
}
assert.equal(video.status, 'completed');
const file = Buffer.from(await (await client.videos.downloadContent(video.id)).arrayBuffer());
assert.equal(file.subarray(4, 8).toString(), 'ftyp');
step('one base URL: all passed on', process.version);
