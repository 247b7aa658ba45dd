// The snippets of the README: each is a file in `examples/`, stands in the README word for word, and works.
// `browser.html` is run by `browser.test.mjs`.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, readdir } from 'node:fs/promises';
import { before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { Gateway, Inbox, beforeAll, requireProgram, run, within } from './support.mjs';

const EXAMPLES = new URL('examples/', import.meta.url);
const README = new URL('../../../README.md', import.meta.url);

const INTERPRETERS = [
  ['sh', 'dash', 'sh'],
  ['py', 'python3', 'python3'],
  ['php', 'php-cli', 'php'],
];
const path = (name) => new URL(name, EXAMPLES).pathname;

describe('the README', () => {
  let readme;
  before(async () => { readme = await readFile(README, 'utf8'); });

  test('contains every example word for word', async () => {
    const names = await readdir(EXAMPLES);
    assert.ok(names.length >= 7);
    for (const name of names) {
      const text = await readFile(new URL(name, EXAMPLES), 'utf8');
      assert.ok(readme.includes(`\n${text}\`\`\`\n`), `README.md does not contain examples/${name}`);
    }
  });

  test('has no snippet that is not an example', async () => {
    const names = await readdir(EXAMPLES);
    const texts = await Promise.all(names.map((name) => readFile(new URL(name, EXAMPLES), 'utf8')));
    for (const [, language, snippet] of readme.matchAll(/^```(\w*)\n([^]*?)^```$/gm)) {
      // `console` is what a person types at a prompt: `make run`, exports.
      if (language !== 'console') assert.ok(texts.includes(snippet), `not in examples/: ${snippet}`);
    }
  });
});

describe('the examples', () => {
  let gateway;
  beforeAll(async (t) => {
    await requireProgram('curl', 'curl');
    gateway = await Gateway.serveFile(t, path('clarion.yaml'));
  });

  /** A device of `user`: an open bare connection to that user's personal channel. */
  async function device(t, user, token = gateway.token(user)) {
    const socket = new WebSocket(gateway.bareUrl([['token', token], ['channel', `user#${user}`]]));
    t.after(() => socket.terminate());
    const frames = new Inbox();
    socket.on('message', (data) => frames.push(JSON.parse(data)));
    await within(once(socket, 'open'), 'the WebSocket handshake');
    const { push } = await frames.next('the connect push');
    assert.deepEqual(push.connect.subs, { [`user#${user}`]: {} });
    return frames;
  }

  for (const [extension, debianPackage, interpreter] of INTERPRETERS) {
    const name = `notify.${extension}`;
    const environment = () => ({ API_URL: gateway.internalUrl, API_KEY: gateway.apiKey });

    test(`${name} reaches every device of the user and nobody else`, async (t) => {
      await requireProgram(interpreter, debianPackage);
      const [phone, laptop, other] = [await device(t, '42'), await device(t, '42'), await device(t, '43')];
      await run(interpreter, [path(name)], environment());
      for (const frames of [phone, laptop]) {
        const { push } = await frames.next('the notification');
        assert.deepEqual(push, { channel: 'user#42', pub: { data: { text: 'Your order has shipped' } } });
      }
      // What was sent to 43 afterwards is the first thing that 43 hears.
      await gateway.api('publish', { channel: 'user#43', data: 'yours' });
      assert.equal((await other.next('the own notification')).push.pub.data, 'yours');
    });

    test(`${name} fails with a wrong key`, async () => {
      await requireProgram(interpreter, debianPackage);
      await assert.rejects(run(interpreter, [path(name)], { ...environment(), API_KEY: 'wrong' }), /ended with [1-9]/);
    });
  }

  for (const [extension, debianPackage, interpreter] of INTERPRETERS.slice(1)) {
    test(`token.${extension} makes a token that connects`, async (t) => {
      await requireProgram(interpreter, debianPackage);
      const token = await run(interpreter, [path(`token.${extension}`)], { TOKEN_SECRET: gateway.secret });
      await device(t, '42', token.trim());
    });
  }
});
