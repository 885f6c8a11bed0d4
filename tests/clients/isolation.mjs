// Two tenants on one account, a thousand tasks each, with Node's fetch: the
// AI SDK shows no tasks, and there is no other SDK for Node. DASHGATE_TASKS is
// as in isolation.py.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mounts, step, url } from './gateway.mjs';

const tasks = {};
for (const line of readFileSync(process.env.DASHGATE_TASKS, 'utf8').trim().split('\n')) {
  const [key, kind, id] = line.split(' ');
  ((tasks[key] ??= {})[kind] ??= []).push(id);
}
assert.equal(Object.keys(tasks).length, 2);

async function ask(key, method, path) {
  const answer = await fetch(url + path, { method, headers: { authorization: `Bearer ${key}` } });
  const text = await answer.text();
  const headers = [...answer.headers].filter(([name]) => name !== 'date');
  return { status: answer.status, headers, text };
}

function masked({ status, headers, text }, id) {
  const { request_id } = JSON.parse(text);
  const whole = JSON.stringify([status, headers, text]);
  return whole.replaceAll(request_id, 'REQUEST').replaceAll(id, 'TASK');
}

for (const [key, { own, foreign, none }] of Object.entries(tasks)) {
  for (const mount of mounts) {
    for (const [method, end, status] of [['GET', '', 200], ['POST', '/cancel', 400]]) {
      const seen = new Set();
      for (let at = 0; at < foreign.length; at += 1) {
        for (const id of [foreign[at], none[at]]) {
          const answer = await ask(key, method, `${mount}/v1/tasks/${id}${end}`);
          assert.equal(answer.status, status, answer.text);
          seen.add(masked(answer, id));
        }
      }
      assert.equal(seen.size, 1, [...seen].join('\n'));
    }
    const listed = [];
    for (let page = 1; page <= own.length / 100; page += 1) {
      const { text } = await ask(key, 'GET', `${mount}/v1/tasks?page_no=${page}&page_size=100`);
      listed.push(...JSON.parse(text).data.map(row => row.task_id));
    }
    assert.deepEqual(listed.sort(), [...own].sort());
    step(mount || '/', `${foreign.length} foreign ids as none, ${own.length} own tasks`);
  }
}
step('isolation: all passed on', process.version);
