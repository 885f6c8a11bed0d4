// Runs the JavaScript examples of the documents, with the real libraries: only the gateway's address is another one.
// An example runs in a process of its own, and may use ACME_KEY of the environment.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import assert from 'node:assert';
import { Webhook } from 'standardwebhooks';
import { key, step, url } from './gateway.mjs';

const root = resolve(dirname(realpathSync(fileURLToPath(import.meta.url))), '../..');
const secret = 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
// What a reader has set who follows the table of clients.
const setBefore = {
  ACME_KEY: key,
  ALIBABA_API_KEY: key,
  OPENAI_API_KEY: key,
  OPENAI_BASE_URL: `${url}/compatible-mode/v1`,
  ANTHROPIC_AUTH_TOKEN: key,
  ANTHROPIC_BASE_URL: `${url}/apps/anthropic`,
};

// An example that receives webhooks takes a delivery with its signature, and no other.
async function verify(file) {
  const { receive } = await import(pathToFileURL(file));
  const [body, moment] = ['{"type":"task.succeeded","data":{}}', new Date()];
  const headers = {
    'webhook-id': 'msg_1',
    'webhook-timestamp': String(Math.floor(moment / 1000)),
    'webhook-signature': new Webhook(secret).sign('msg_1', moment, body),
  };
  assert.equal(receive(body, headers).type, 'task.succeeded');
  assert.throws(() => receive(body.replace('succeeded', 'failed'), headers));
}

function run(file, folder, example) {
  const env = { ...process.env, ...setBefore };
  const ended = spawnSync(process.execPath, [file], { cwd: folder, env, encoding: 'utf8', timeout: 60_000 });
  assert.equal(ended.status, 0, `${example}\n${ended.stdout}${ended.stderr}`);
}

const pages = readdirSync(join(root, 'deploy/guide'), { recursive: true })
  .filter(name => name.endsWith('.md')).sort()
  .map(name => join(root, 'deploy/guide', name));
let found = 0;
for (const page of [join(root, 'README.md'), ...pages]) {
  const blocks = readFileSync(page, 'utf8').matchAll(/(^<!-- not run: .*-->\n)?^```js\n(.*?)^```$/gms);
  for (const [, mark, example] of blocks) {
    if (mark) continue;
    found += 1;
    const folder = mkdtempSync(join(tmpdir(), 'dashgate-documents-'));
    symlinkSync(process.env.NODE_PATH, join(folder, 'node_modules'));
    const file = join(folder, 'example.mjs');
    writeFileSync(file, example.replaceAll('http://gateway:8080', url).replaceAll('whsec_...', secret));
    await (example.includes('standardwebhooks') ? verify(file) : run(file, folder, example));
    rmSync(folder, { recursive: true });
    step(`${relative(root, page)}: ${example.split('\n')[0]}`);
  }
}
assert(found, 'no example in the documents');
step(`documents: ${found} examples`);
