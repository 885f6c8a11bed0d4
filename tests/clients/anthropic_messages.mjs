// The anthropic library for Node, which Claude Code is built on, against the Anthropic surface.

import assert from 'node:assert/strict';
import Anthropic, { AuthenticationError } from '@anthropic-ai/sdk';
import { collect, key, mounts, step, url, wrongKey } from './gateway.mjs';

const question = {
  model: 'qwen3-coder-plus', max_tokens: 64, messages: [{ role: 'user', content: 'Where does the sun rise?' }],
};

for (const mount of mounts) {
  const baseURL = `${url}${mount}/apps/anthropic`;
  step(`${mount}/apps/anthropic`, 'with anthropic for node');
  for (const credential of [{ apiKey: key, authToken: null }, { apiKey: null, authToken: key }]) {
    const client = new Anthropic({ baseURL, ...credential });
    const answer = await client.messages.create(question);
    assert.ok(answer.content[0].text);
    assert.ok(answer.usage.output_tokens > 0);
    const stream = await client.messages.create({ ...question, stream: true });
    const parts = await collect(stream, event => event.type === 'content_block_delta' && event.delta.text);
    assert.ok(parts.length > 1, `not a stream: ${parts}`);
    const { model, messages } = question;
    assert.ok((await client.messages.countTokens({ model, messages })).input_tokens > 0);
  }
  const nobody = new Anthropic({ baseURL, apiKey: wrongKey, authToken: null, maxRetries: 0 });
  await assert.rejects(nobody.messages.create(question), error =>
    error instanceof AuthenticationError && error.status === 401 && error.error.error.type === 'authentication_error');
}
step('anthropic for node: all passed on', process.version);
