// A real browser: the playground of `clarion dev`, and a page with nothing but `new WebSocket`.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Gateway, Inbox, beforeAll, requireProgram, run, servePages } from './support.mjs';

const FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740 };
/** The longest pause of the example's back-off, and some. */
const BACKOFF_MS = 25_000;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

let browser;
async function launch(t) {
  const executablePath = await requireProgram(CHROMIUM, 'chromium');
  browser = await chromium.launch({ executablePath, args: FLAGS });
  t.after(() => browser.close());
}

/** A window of its own (context, storage); `complaints` collects what its console and
 * its scripts complain of, `frames` what its WebSockets receive. */
async function openWindow(t, url, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  t.after(() => context.close());
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  const frames = new Inbox();
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => frames.push(payload)));
  await page.goto(url);
  return { page, complaints, frames };
}

describe('the playground', () => {
  let gateway;
  beforeAll(launch);
  beforeAll(async (t) => { gateway = await Gateway.dev(t); });

  async function openPlayground(t, fragment = '', options = {}) {
    const opened = await openWindow(t, `http://${gateway.host}/${fragment}`, options);
    await opened.page.waitForSelector('#state[data-state=open]');
    await opened.page.waitForSelector('#send:enabled');
    return opened;
  }

  async function say(page, text) {
    await page.fill('#message', text);
    await page.press('#message', 'Enter');
  }

  /** Waits for the entry with `text` and says how it is shown. */
  async function entry(page, text) {
    const found = page.locator('#log .entry').filter({ has: page.getByText(text, { exact: true }) });
    await found.waitFor();
    return { from: await found.locator('.from').textContent(), kind: await found.getAttribute('class') };
  }

  test('two windows chat', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=chat');
    const bob = await openPlayground(t, '#user=bob&channel=chat', { viewport: PHONE });
    await say(ann.page, 'Is anyone there?');
    assert.deepEqual(await entry(bob.page, 'Is anyone there?'), { from: 'ann', kind: 'entry' });
    assert.deepEqual(await entry(ann.page, 'Is anyone there?'), { from: 'ann', kind: 'entry mine' });
    await say(bob.page, 'Yes.');
    assert.deepEqual(await entry(ann.page, 'Yes.'), { from: 'bob', kind: 'entry' });
    assert.deepEqual([...ann.complaints, ...bob.complaints], []);
  });

  test('two windows without a name are two users', async (t) => {
    const [one, two] = [await openPlayground(t), await openPlayground(t)];
    assert.notEqual(await one.page.inputValue('#user'), await two.page.inputValue('#user'));
    await say(one.page, 'Who am I?');
    assert.equal((await entry(two.page, 'Who am I?')).from, await one.page.inputValue('#user'));
  });

  test('the curl lines of the page and of the terminal reach both windows', async (t) => {
    await requireProgram('curl', 'curl');
    const ann = await openPlayground(t, '#user=ann&channel=chat');
    const bob = await openPlayground(t, '#user=bob&channel=chat', { viewport: PHONE });
    const line = await ann.page.locator('#curl').filter({ hasNotText: '…' }).textContent();
    const printed = await gateway.printed('curl ');
    for (const [command, text] of [[line, 'from the page'], [printed.slice(printed.indexOf('curl ')), 'from the terminal']]) {
      assert.match(command, /"text":"hello"/);
      await run('sh', ['-c', command.replace('"hello"', `"${text}"`)]);
      for (const { page } of [ann, bob]) {
        assert.deepEqual(await entry(page, text), { from: 'server API', kind: 'entry server' });
      }
    }
    assert.deepEqual([...ann.complaints, ...bob.complaints], []);
  });

  test('what others send is shown as text, never as markup', async (t) => {
    const ann = await openPlayground(t, '#user=<b>ann</b>&channel=chat');
    const text = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
    await say(ann.page, text);
    assert.equal((await entry(ann.page, text)).from, '<b>ann</b>');
    assert.equal(await ann.page.locator('#log img, #log b, #log script, #frames img').count(), 0);
    assert.deepEqual(ann.complaints, []);
  });

  test('a window joins another channel and leaves the first', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=one');
    const bob = await openPlayground(t, '#user=bob&channel=two');
    await ann.page.fill('#channel', 'two');
    await ann.page.press('#channel', 'Enter');
    await ann.page.getByText('You joined two').waitFor();
    await say(bob.page, 'Welcome.');
    await entry(ann.page, 'Welcome.');
    assert.match(ann.page.url(), /#user=ann&channel=two$/);
  });

  test('the frames show both directions and no token', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=chat');
    const frames = await ann.page.locator('#frames').textContent();
    assert.match(frames, /"connect":\{"token":"eyJ…"/);
    assert.match(frames, /"subscribe":\{\}/);
    assert.doesNotMatch(frames, /eyJ\w/);
    await ann.page.click('#toggle');
    assert.equal(await ann.page.isVisible('#frames'), false);
  });

  test('disconnecting and connecting again by keyboard', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=chat');
    await ann.page.focus('#connect');
    await ann.page.keyboard.press('Enter');
    await ann.page.waitForSelector('#state[data-state=closed]');
    assert.equal(await ann.page.isDisabled('#send'), true);
    await ann.page.keyboard.press('Enter');
    await ann.page.waitForSelector('#state[data-state=open]');
    await ann.page.waitForSelector('#send:enabled');
  });

  test('nothing scrolls sideways on a phone, in light and in dark, with long words', async (t) => {
    for (const colorScheme of ['light', 'dark']) {
      const { page } = await openPlayground(t, `#user=${'n'.repeat(60)}&channel=chat`, { viewport: PHONE, colorScheme });
      await page.click('#toggle');
      const text = `${colorScheme}${'o'.repeat(300)}`;
      await say(page, text);
      await entry(page, text);
      const wide = await page.evaluate(() => [...document.querySelectorAll('html, body, #log, #frames, #curl')]
        .filter((element) => element.scrollWidth > element.clientWidth).map((element) => element.id || element.localName));
      assert.deepEqual(wide, []);
    }
  });
});

test('the playground says how a connection ended and comes back', async (t) => {
  await launch(t);
  const gateway = await Gateway.dev(t);
  const { page } = await openWindow(t, `http://${gateway.host}/#user=ann&channel=chat`);
  await page.waitForSelector('#state[data-state=open]');
  // The reason is shown until the next attempt, so it is watched for and not polled.
  await page.evaluate(() => {
    window.states = [];
    const state = document.getElementById('state');
    new MutationObserver(() => window.states.push(state.textContent)).observe(state, { childList: true });
  });
  await gateway.stop('SIGTERM');
  await page.waitForFunction(() => window.states.some((text) => text.startsWith('3001 shutdown')));
  await gateway.start();
  await page.waitForSelector('#state[data-state=open]');
});

describe('a page with nothing but new WebSocket', () => {
  beforeAll(launch);

  const html = (text) => ['text/html; charset=utf-8', text];

  test('receives, and is back by itself after a restart of the gateway', async (t) => {
    let url;
    const example = await readFile(new URL('examples/browser.html', import.meta.url), 'utf8');
    const origin = await servePages(t, { '/': html(example), '/realtime': () => ['text/plain', url] });
    const gateway = await Gateway.serve(t, ({ client }) => { client.allowed_origins = [origin]; });
    url = gateway.bareUrl([['token', gateway.token('42')], ['channels', 'user#42']]);
    const { page, frames } = await openWindow(t, origin);
    for (const text of ['before', 'after']) {
      const { push } = JSON.parse(await frames.next('the connect push', BACKOFF_MS));
      assert.deepEqual(push.connect.subs, { 'user#42': {} });
      await gateway.api('publish', { channel: 'user#42', data: { text } });
      await page.getByText(text).waitFor();
      await frames.next('the publication');
      await gateway.stop('SIGTERM');
      await gateway.start();
    }
  });

  test('sends and receives plain text with publish=', async (t) => {
    const origin = await servePages(t, { '/': html('<title>echo</title>') });
    const gateway = await Gateway.serve(t, ({ client }) => { client.allowed_origins = [origin]; });
    const url = gateway.bareUrl([['token', gateway.token('ann')], ['channels', 'open:echo'], ['publish', 'open:echo']]);
    const { page } = await openWindow(t, origin);
    const echoed = await page.evaluate((url) => new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      socket.onopen = () => socket.send('hello');
      socket.onmessage = ({ data }) => resolve(data);
      socket.onclose = ({ code }) => reject(new Error(`closed ${code}`));
    }), url);
    assert.equal(echoed, 'hello');
  });

  test('reads why its token is refused, with reject: close', async (t) => {
    const origin = await servePages(t, { '/': html('<title>refused</title>') });
    const gateway = await Gateway.serve(t, ({ client }) => {
      client.allowed_origins = [origin];
      client.token.reject = 'close';
    });
    const { page } = await openWindow(t, origin);
    const outcome = await page.evaluate(outcomeOf, gateway.bareUrl([['token', 'not.a.token'], ['channels', 'open:a']]));
    assert.deepEqual(outcome, { opened: true, code: 3500, reason: 'invalid token' });
  });

  test('is refused from an origin that is not allowed, on both endpoints', async (t) => {
    const [allowed, foreign] = [
      await servePages(t, { '/': html('<title>allowed</title>') }),
      await servePages(t, { '/': html('<title>foreign</title>') }),
    ];
    const gateway = await Gateway.serve(t, ({ client }) => { client.allowed_origins = [allowed]; });
    const { page } = await openWindow(t, foreign);
    for (const url of [gateway.bareUrl([['token', gateway.token('ann')], ['channels', 'open:a']]), gateway.nativeUrl]) {
      assert.deepEqual(await page.evaluate(outcomeOf, url), { opened: false, code: 1006, reason: '' });
    }
  });

  /** Runs in the page: whether a WebSocket to `url` opened, and how it closed. */
  function outcomeOf(url) {
    return new Promise((resolve) => {
      let opened = false;
      const socket = new WebSocket(url);
      socket.onopen = () => { opened = true; };
      socket.onclose = ({ code, reason }) => resolve({ opened, code, reason });
    });
  }
});
