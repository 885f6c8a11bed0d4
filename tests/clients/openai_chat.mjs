// The openai library for Node against the compatible surface.

import assert from 'node:assert/strict';
import OpenAI, { AuthenticationError, PermissionDeniedError } from 'openai';
import { collect, compatibleBases, key, step, url, wrongKey } from './gateway.mjs';

const question = { model: 'qwen-plus', messages: [{ role: 'user', content: 'Where does the sun rise?' }] };

for (const base of compatibleBases) {
  step(base || '/', 'with openai for node');
  const client = new OpenAI({ apiKey: key, baseURL: url + base });

  const answer = await client.chat.completions.create(question);
  assert.ok(answer.choices[0].message.content);
  assert.ok(answer.usage.total_tokens > 0);

  const stream = await client.chat.completions.create({ ...question, stream: true });
  const parts = await collect(stream, chunk => chunk.choices[0]?.delta.content);
  assert.ok(parts.length > 1, `not a stream: ${parts}`);

  const vectors = await client.embeddings.create({
    model: 'text-embedding-v4', input: ['one', 'two'], encoding_format: 'float',
  });
  assert.equal(vectors.data.length, 2);

  const nobody = new OpenAI({ apiKey: wrongKey, baseURL: url + base });
  await assert.rejects(nobody.chat.completions.create(question), error =>
    error instanceof AuthenticationError && error.status === 401 && error.code === 'invalid_api_key');
  await assert.rejects(client.files.list(), PermissionDeniedError);
}
step('openai for node: all passed on', process.version);
