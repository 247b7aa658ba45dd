// Speaks a conversation that a page shows, and hears it: talk.mjs FILE USER QUERY [LINE=COMMAND…]
// A line with → is sent. A line with ← must come, in which `…` stands for anything, and so does every id, epoch and rest of a time. Before
// the line of that number a shell runs the command, in which somebody else does something.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { matches } from './pages.mjs';

const WebSocket = createRequire(join(process.env.CLIENTS, 'package.json'))('ws');
const [file, user, query, ...others] = process.argv.slice(2);
const acts = new Map(others.map((other) => [Number(other.split('=')[0]), other.slice(other.indexOf('=') + 1)]));
setTimeout(() => { console.error('not within 20 s'); process.exit(1); }, 20_000).unref();

/** A token for what the conversations of the page are about: everything but the channel `secret`. */
function token() {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const caps = [{ channels: ['news', 'chat', 'room'], allow: ['sub', 'pub', 'prs'] }, { channels: ['orders'], allow: ['hst'] }];
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + 3600, info: { name: 'Ann' }, caps };
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${signed}.${createHmac('sha256', process.env.TOKEN_SECRET).update(signed).digest('base64url')}`;
}

const frames = [];
let wake = () => {};
const socket = new WebSocket(`ws://127.0.0.1:${process.env.PUBLIC_PORT}/ws?token=${token()}&${query}`);
socket.on('message', (text) => { frames.push(String(text)); wake(); });
socket.on('close', (code) => { frames.push(`closed with ${code}`); wake(); });

async function next() {
  if (frames.length === 0) await new Promise((resolve) => { wake = resolve; });
  return frames.shift();
}

const lines = (await readFile(file, 'utf8')).trim().split('\n');
// Whoever says nothing of the greeting is not surprised by it.
if (!lines[0].includes('"connect"')) await next();
for (const [index, line] of lines.entries()) {
  if (acts.has(index + 1)) execFileSync('bash', ['-c', acts.get(index + 1)], { stdio: 'inherit' });
  const text = line.slice(2);
  if (line.startsWith('→')) socket.send(text.replace('eyJ…', token()));
  else {
    const frame = await next();
    const pattern = text.replace(/[0-9a-f]{8}-…/g, '…').replace(/("epoch":")[^"]*/g, '$1…').replace(/("ttl":)\d+/g, '$1…');
    assert.ok(matches(frame, [pattern]), `line ${index + 1} is\n${frame}\nand not\n${text}`);
  }
}
assert.deepEqual(frames, [], 'there is more');
process.exit(0);
