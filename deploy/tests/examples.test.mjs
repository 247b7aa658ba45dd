// The example applications, started by the commands of their READMEs and used in a real browser.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { PHONE, eventually, launch, openWindow } from '../../gateway/tests/clients/browser.mjs';
import { Line, beforeAll, freePort, run, until, within } from '../../gateway/tests/clients/support.mjs';

const HTML = '<b onclick="document.title=1">Ann</b>';
/** Where to leave pictures of the pages, to look at; none without it. */
const PICTURES = process.env.PICTURES;

const root = (example) => new URL(`../examples/${example}/`, import.meta.url).pathname;

/** An example as a reader starts it: the commands of its README, on ports of its own. Ends with the test or suite `t`. */
class Example {
  #child;
  output = '';

  static async start(t, name) {
    const example = new Example();
    const [publicPort, internalPort, port] = [await freePort(), await freePort(), await freePort()];
    example.line = await Line.to(t, publicPort);
    example.url = `http://127.0.0.1:${port}`;
    example.environment = {
      CLARION: process.env.CLARION_BIN,
      PORT: `${port}`,
      GATEWAY_URL: `ws://${example.line.host}`,
      API_URL: `http://127.0.0.1:${internalPort}`,
      CLARION__PUBLIC__PORT: `${publicPort}`,
      CLARION__INTERNAL__PORT: `${internalPort}`,
      CLARION__CLIENT__ALLOWED_ORIGINS: JSON.stringify([example.url]),
    };
    t.after(() => example.stop());
    await example.#run(name);
    return example;
  }

  async #run(name) {
    const readme = await readFile(`${root(name)}README.md`, 'utf8');
    const [, commands] = /^```console\n([^]*?)^```$/m.exec(readme);
    // A group of its own, which is what a terminal interrupts.
    this.#child = spawn('bash', ['-euc', commands], {
      cwd: root(name), env: { ...process.env, ...this.environment }, stdio: ['ignore', 'pipe', 'pipe'], detached: true,
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on('data', (bytes) => { this.output += bytes; });
    const answers = (url) => fetch(url).then((response) => response.ok, () => false);
    await until(async () => {
      if (this.#child.exitCode !== null) throw new Error(`the example ended:\n${this.output}`);
      return await answers(this.url) && answers(`${this.environment.API_URL}/readyz`);
    }, `the start of ${name}`);
  }

  async stop() {
    if (!this.#child || this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'close');
    process.kill(-this.#child.pid, 'SIGTERM');
    await within(ended, 'the end of the example');
  }

  /** A window on `path`, signed in as `name`; its `complaints` have to be empty at the end of the test. */
  async open(t, name, { path = '/', ...options } = {}) {
    const opened = await openWindow(t, this.url + path, options);
    if (name) {
      await opened.page.fill('#name', name);
      await opened.page.press('#name', 'Enter');
      await opened.page.waitForSelector('#state[data-state=connected]');
    }
    return opened;
  }
}

async function picture(page, name) {
  if (!PICTURES) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: `${PICTURES}/${name}.png` });
}

const textsOf = (page, selector) => () => page.locator(selector).allTextContents();

describe('the chat', () => {
  let chat;
  beforeAll(launch);
  beforeAll(async (t) => { chat = await Example.start(t, 'chat'); });

  async function say(page, text) {
    await page.fill('#text', text);
    await page.press('#text', 'Enter');
  }

  /** What the log shows, from top to bottom. */
  const log = (page) => textsOf(page, '#log .text, #log .rule');
  const people = (page) => textsOf(page, '#people .who');

  test('two people talk, one is away and catches up, and both see who is here', async (t) => {
    const ann = await chat.open(t, 'ann');
    const bob = await chat.open(t, 'bob', { viewport: PHONE });
    for (const [{ page }, names] of [[ann, ['ann', 'bob']], [bob, ['bob', 'ann']]]) await eventually(people(page), names);
    await say(ann.page, 'Anyone for lunch?');
    await eventually(log(bob.page), ['Anyone for lunch?']);
    await say(bob.page, 'Give me ten minutes.');
    await eventually(log(ann.page), ['Anyone for lunch?', 'Give me ten minutes.']);

    await bob.page.click('#line');
    await eventually(people(ann.page), ['ann']);
    await eventually(textsOf(bob.page, '#state'), ['offline']);
    for (const text of ['I go ahead.', 'The table by the window.', 'Bring the plans.']) await say(ann.page, text);
    await eventually(log(ann.page), ['Anyone for lunch?', 'Give me ten minutes.', 'I go ahead.', 'The table by the window.', 'Bring the plans.']);
    await bob.page.click('#line');
    await eventually(people(ann.page), ['ann', 'bob']);
    await say(ann.page, 'Welcome back.');
    await eventually(log(bob.page), [
      'Anyone for lunch?', 'Give me ten minutes.', '3 missed messages recovered',
      'I go ahead.', 'The table by the window.', 'Bring the plans.', 'Welcome back.',
    ]);
    assert.equal(await bob.page.locator('.message.recovered').count(), 3);
    await picture(ann.page, 'chat-desktop');
    await picture(bob.page, 'chat-phone');
    assert.deepEqual([...ann.complaints, ...bob.complaints], []);
  });

  test('who comes later sees what was said, and other rooms count what is unread', async (t) => {
    const ann = await chat.open(t, 'ann');
    await ann.page.getByRole('button', { name: 'garden' }).click();
    await say(ann.page, 'The roses are out.');
    await eventually(log(ann.page), ['The roses are out.']);
    const bob = await chat.open(t, 'bob');
    await eventually(textsOf(bob.page, '#room'), ['lobby']);
    await say(ann.page, 'And the bees.');
    await eventually(textsOf(bob.page, '#rooms [aria-current=false] .unread'), ['', '1']);
    await eventually(() => bob.page.title(), '(1) Chat');
    await bob.page.getByRole('button', { name: 'garden' }).click();
    await eventually(log(bob.page), ['The roses are out.', 'And the bees.']);
    await eventually(() => bob.page.title(), 'Chat');
  });

  test('when the network is gone for everybody, nothing is lost and nobody has left', async (t) => {
    const windows = [await chat.open(t, 'ann'), await chat.open(t, 'bob')];
    for (const { page } of windows) await page.getByRole('button', { name: 'kitchen' }).click();
    await eventually(people(windows[0].page), ['ann', 'bob']);
    chat.line.cut();
    for (const { page } of windows) await page.waitForSelector('#state[data-state=connecting]');
    await say(windows[0].page, 'Still there?'); // By the back end, which has a line of its own.
    chat.line.mend();
    for (const { page } of windows) await eventually(log(page), ['1 missed message recovered', 'Still there?']);
    for (const { page } of windows) assert.deepEqual(await textsOf(page, '#log .note:not(.rule)')(), []);
    await eventually(people(windows[0].page), ['ann', 'bob']);
  });

  test('a name and a message with HTML in them are shown as text', async (t) => {
    const mallory = await chat.open(t, HTML);
    const bob = await chat.open(t, 'bob', { colorScheme: 'dark' });
    await eventually(people(bob.page), ['bob', HTML]);
    await say(mallory.page, `${HTML}<img src=x onerror="document.title=2">`);
    await bob.page.getByText('<img src=x').waitFor();
    assert.equal(await bob.page.locator('.from').last().textContent(), HTML);
    for (const { page, complaints } of [mallory, bob]) {
      assert.equal(await page.locator('main :is(b, img)').count(), 0);
      assert.equal(await page.title(), 'Chat');
      assert.deepEqual(complaints, []);
    }
    await picture(bob.page, 'chat-dark');
  });

  test('a page that is loaded again is still signed in', async (t) => {
    const { page } = await openWindow(t, chat.url);
    await page.waitForSelector('#signin');
    await picture(page, 'chat-signin');
    await page.fill('#name', 'ann');
    await page.press('#name', 'Enter');
    await page.waitForSelector('#state[data-state=connected]');
    await page.reload();
    await page.waitForSelector('#state[data-state=connected]');
    assert.equal(await page.locator('#me .who').textContent(), 'ann');
  });

  test('the back end refuses who is not signed in, and what makes no sense, with a sentence', async () => {
    const post = (path, body, headers = {}) => fetch(chat.url + path, { method: 'POST', body, headers });
    const outcome = async (response) => [response.status, (await response.json()).error];
    assert.deepEqual(await outcome(await fetch(`${chat.url}/token`)), [401, 'Please sign in.']);
    assert.deepEqual(await outcome(await post('/say', '{"room":"lobby","text":"x"}')), [401, 'Please sign in.']);
    assert.deepEqual(await outcome(await post('/login', '{"name":"  "}')), [400, 'name: 1 to 40 characters, please.']);
    assert.deepEqual(await outcome(await post('/login', 'no json')), [400, 'A JSON object, please.']);
    assert.deepEqual(await outcome(await post('/login', ' '.repeat(20_000))), [413, 'That is too long.']);
    const signedIn = await post('/login', '{"name":"eve"}');
    const headers = { cookie: signedIn.headers.get('set-cookie').split(';')[0] };
    assert.deepEqual(await outcome(await post('/say', '{"room":"cellar","text":"x"}', headers)), [404, 'There is no such room.']);
  });
});

describe('the notifications', () => {
  let notify;
  let admin;
  beforeAll(launch);
  beforeAll(async (t) => { notify = await Example.start(t, 'notify'); });
  beforeAll(async (t) => {
    admin = await notify.open(t, null, { path: '/admin' });
    await admin.page.fill('#password', /The password of the admin: (\w+)/.exec(notify.output)[1]);
    await admin.page.press('#password', 'Enter');
    await admin.page.waitForSelector('#send:not([hidden])');
  });

  async function send(name, title, text = 'See the details in your account.') {
    const { page } = admin;
    await page.click('#again');
    await page.locator('#user option').filter({ hasText: name }).waitFor({ state: 'attached' });
    await page.selectOption('#user', { label: name });
    await page.fill('#title', title);
    await page.fill('#text', text);
    await page.click('#send .primary');
    await eventually(textsOf(page, '#outcome'), [`Sent to ${name}.`]);
  }

  const titles = (page) => textsOf(page, '#list h2');
  const unread = (page) => textsOf(page, '#unread');

  test('a notification arrives in every window of its user and nowhere else', async (t) => {
    const windows = [await notify.open(t, 'Ann'), await notify.open(t, 'Ann', { viewport: PHONE })];
    const bob = await notify.open(t, 'Bob');
    await send('Ann', 'Your order has shipped');
    for (const { page } of windows) await eventually(titles(page), ['Your order has shipped']);
    await picture(admin.page, 'notify-admin');
    // What was sent to Bob afterwards is the first thing that Bob sees.
    await send('Bob', 'Your password was changed');
    await eventually(titles(bob.page), ['Your password was changed']);
    await send('Ann', 'Rate your order', 'How was it?\nOne click is enough.');
    for (const { page } of windows) {
      await eventually(titles(page), ['Rate your order', 'Your order has shipped']);
      await eventually(unread(page), ['2']);
      await eventually(() => page.title(), '(2) Notifications');
    }
    await picture(windows[0].page, 'notify-desktop');
    await picture(windows[1].page, 'notify-phone');
    assert.deepEqual([...admin.complaints, ...windows[0].complaints, ...windows[1].complaints, ...bob.complaints], []);
  });

  test('what is read stays read, and only what comes later is counted', async (t) => {
    const { page } = await notify.open(t, 'Carol');
    await eventually(unread(page), ['']);
    await picture(page, 'notify-empty');
    await send('Carol', 'One');
    await eventually(unread(page), ['1']);
    await page.click('#read');
    await eventually(unread(page), ['']);
    await send('Carol', 'Two');
    await eventually(unread(page), ['1']);
    await page.reload();
    await eventually(titles(page), ['Two', 'One']);
    await eventually(unread(page), ['1']);
  });

  test('what was sent while the line was cut is there afterwards, once', async (t) => {
    const { page, frames } = await notify.open(t, 'Dora');
    await send('Dora', 'Before');
    await eventually(titles(page), ['Before']);
    notify.line.cut();
    await page.waitForSelector('#state[data-state=connecting]');
    await send('Dora', 'Meanwhile');
    notify.line.mend();
    await eventually(titles(page), ['Meanwhile', 'Before']);
    let frame;
    do frame = await frames.next('the answer to since='); while (!frame.includes('"was_recovering":true'));
    assert.match(frame, /"recovered":true/);
    await send('Dora', 'After');
    await eventually(titles(page), ['After', 'Meanwhile', 'Before']);
  });

  test('a name and a notification with HTML in them are shown as text', async (t) => {
    const { page, complaints } = await notify.open(t, HTML, { colorScheme: 'dark' });
    await send(HTML, HTML, '<img src=x onerror="document.title=2">');
    await eventually(titles(page), [HTML]);
    assert.equal(await page.locator('#who').textContent(), HTML);
    for (const window of [page, admin.page]) assert.equal(await window.locator('body :is(b, img)').count(), 0);
    await picture(page, 'notify-dark');
    assert.deepEqual([...complaints, ...admin.complaints], []);
  });

  test('only the admin sends, and the gateway keeps one user out of the inbox of another', async (t) => {
    const post = (path, body) => fetch(notify.url + path, { method: 'POST', body: JSON.stringify(body) });
    const outcome = async (response) => [response.status, (await response.json()).error];
    assert.deepEqual(await outcome(await post('/admin/notify', { user: 'x', title: 'x', text: 'x' })), [401, 'Please sign in as the admin.']);
    assert.deepEqual(await outcome(await post('/admin/login', { password: 'guessed' })), [403, 'That is not the password.']);
    const { page } = await notify.open(t, 'Mallory');
    const subscribed = await page.evaluate(async () => {
      const { url } = await (await fetch('/realtime')).json();
      const socket = new WebSocket(`${url}&channel=${encodeURIComponent('inbox:#0123456789abcdef')}`);
      const { data } = await new Promise((resolve) => { socket.onmessage = resolve; });
      return JSON.parse(data).push.connect.subs['inbox:#0123456789abcdef'];
    });
    assert.deepEqual(subscribed, { error: { code: 103, message: 'permission denied' } });
  });
});

describe('without a secret', () => {
  const complete = { TOKEN_SECRET: 's'.repeat(32), API_KEY: 'k', ADMIN_PASSWORD: 'p' };
  const backEnds = {
    chat: [['.venv/bin/python', 'server.py'], ['TOKEN_SECRET', 'API_KEY']],
    notify: [['node', 'server.mjs'], ['TOKEN_SECRET', 'API_KEY', 'ADMIN_PASSWORD']],
  };
  for (const [name, [[interpreter, file], secrets]] of Object.entries(backEnds)) {
    for (const secret of secrets) {
      test(`the back end of ${name} and its start say that ${secret} is missing`, async () => {
        const environment = { ...complete, [secret]: '', PORT: '1' };
        const program = interpreter.includes('/') ? root(name) + interpreter : interpreter;
        await assert.rejects(run(program, [root(name) + file], environment), new RegExp(`${file}: ${secret} is not set`));
        await assert.rejects(run(`${root(name)}start.sh`, [], environment), new RegExp(`${secret}: is not set: export ${secret}=`));
      });
    }
  }
});
