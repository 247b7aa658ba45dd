// A real browser: the playground of `clarion dev`, and a page with nothing but `new WebSocket`.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { DESKTOP, PHONE, eventually, launch, openWindow } from './browser.mjs';
import { Gateway, beforeAll, requireProgram, run, servePages } from './support.mjs';

/** The longest pause of the example's back-off, and some. */
const BACKOFF_MS = 25_000;

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

  /** Waits until the roster shows exactly these people, whoever looks first. */
  async function rosterIs(page, people) {
    const shown = () => page.locator('#people:not(.stale) .person').evaluateAll((items) => items.map((item) =>
      [...item.querySelectorAll('.name, .count')].map((part) => part.textContent).join(' ')));
    await eventually(shown, people);
  }

  /** The log from top to bottom: what was said, with how it is marked, and the notes between. */
  const logOf = (page) => page.locator('#log .entry, #log .note').evaluateAll((items) => items.map((item) => {
    const [text, mark] = ['.text', '.mark'].map((part) => item.querySelector(part)?.textContent);
    return text === undefined ? `-- ${item.textContent}` : mark ? `${text} [${mark}]` : text;
  }));

  /** Publishes through the server API, in order, with the key that the page shows. */
  async function publishByApi(gateway, page, channel, ...texts) {
    const line = await page.locator('#curl').filter({ hasNotText: '…' }).textContent();
    gateway.apiKey = line.match(/X-API-Key: ([^']+)'/)[1];
    for (const text of texts) await gateway.api('publish', { channel, data: { text } });
  }

  async function cut(page) {
    await page.click('#line');
    await page.waitForSelector('#state[data-state=waiting]');
  }

  /** Presses the button that has cut the line once more, which spares the wait. */
  async function comeBack(page) {
    await page.click('#line');
    await page.waitForSelector('#state[data-state=open]');
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

  test('everyone sees who is here, once per person, and who leaves is gone', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=roster');
    const bob = await openPlayground(t, '#user=bob&channel=roster', { viewport: PHONE });
    await rosterIs(ann.page, ['ann', 'bob']);
    await rosterIs(bob.page, ['bob', 'ann']);
    const second = await openPlayground(t, '#user=bob&channel=roster');
    for (const [page, people] of [[ann.page, ['ann', 'bob ×2']], [second.page, ['bob ×2', 'ann']]]) await rosterIs(page, people);
    await bob.page.close();
    await rosterIs(ann.page, ['ann', 'bob']);
    await second.page.close();
    await rosterIs(ann.page, ['ann']);
    assert.deepEqual([...ann.complaints, ...bob.complaints, ...second.complaints], []);
  });

  test('the roster is of one channel', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=here');
    const bob = await openPlayground(t, '#user=bob&channel=there');
    await rosterIs(bob.page, ['bob']);
    await bob.page.fill('#channel', 'here');
    await bob.page.press('#channel', 'Enter');
    await rosterIs(ann.page, ['ann', 'bob']);
    await rosterIs(bob.page, ['bob', 'ann']);
  });

  test('who joins later sees what was said before, then what follows, once', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=before');
    const said = Array.from({ length: 52 }, (_, index) => `number ${index + 1}`);
    await publishByApi(gateway, ann.page, 'before', ...said);
    await entry(ann.page, 'number 52');
    const bob = await openPlayground(t, '#user=bob&channel=before');
    await say(ann.page, 'and now');
    await entry(bob.page, 'and now');
    await eventually(() => logOf(bob.page), [
      '-- 50 earlier messages', ...said.slice(2).map((text) => `${text} [earlier]`), '-- You joined before', 'and now',
    ]);
    assert.deepEqual(bob.complaints, []);
  });

  /** For `onSocket`: frames with `text` in them, from the `page` or the `gateway`, wait until `release()`. */
  function holdBack(from, text) {
    const held = [];
    const hold = (page) => {
      const server = page.connectToServer();
      const [source, target] = from === 'page' ? [page, server] : [server, page];
      source.onMessage((frame) => (frame.includes(text) ? held.push(() => target.send(frame)) : target.send(frame)));
    };
    return { hold, release: () => held.splice(0).forEach((send) => send()) };
  }

  test('what is said while the history is on its way is shown once, after it', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=overlap');
    await say(ann.page, 'before');
    await entry(ann.page, 'before');
    const { hold, release } = holdBack('page', '"history"');
    const bob = await openPlayground(t, '#user=bob&channel=overlap', { onSocket: hold });
    await say(ann.page, 'meanwhile');
    await entry(bob.page, 'meanwhile');
    release();
    await eventually(() => logOf(bob.page), ['-- 1 earlier message', 'before [earlier]', '-- You joined overlap', 'meanwhile']);
  });

  test('who leaves while the presence is on its way does not stay in the roster', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=race');
    const { hold, release } = holdBack('gateway', '"presence"');
    const bob = await openPlayground(t, '#user=bob&channel=race', { onSocket: hold });
    await rosterIs(ann.page, ['ann', 'bob']);
    await ann.page.close();
    await bob.page.locator('#frames').getByText('"leave"').waitFor();
    release();
    await rosterIs(bob.page, ['bob']);
  });

  test('what is missed while the line is cut is recovered at its place, once, in order', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=cut');
    const bob = await openPlayground(t, '#user=bob&channel=cut');
    await say(bob.page, 'one');
    await entry(ann.page, 'one');
    await cut(ann.page);
    assert.match(await ann.page.textContent('#countdown'), /^again in \d+ s$/);
    await rosterIs(bob.page, ['bob']);
    await publishByApi(gateway, bob.page, 'cut', 'two', 'three');
    await say(ann.page, 'four, from the one who is away');
    await entry(bob.page, 'four, from the one who is away');
    await comeBack(ann.page);
    await say(bob.page, 'five');
    await entry(ann.page, 'five');
    assert.deepEqual(await logOf(ann.page), [
      '-- You joined cut', 'one', '-- Not connected', '-- 3 missed messages recovered', 'two [recovered]', 'three [recovered]',
      'four, from the one who is away [recovered]', 'five',
    ]);
    await rosterIs(ann.page, ['ann', 'bob']);
    assert.deepEqual([...ann.complaints, ...bob.complaints], []);
  });

  test('a line that was cut is back by itself, and says so when nothing was missed', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=quiet');
    await cut(ann.page);
    await ann.page.getByText('Back, nothing was missed').waitFor();
    assert.equal(await ann.page.textContent('#countdown'), '');
  });

  test('who misses more than is kept is told so, and sees what is left of it', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=flood');
    await publishByApi(gateway, ann.page, 'flood', 'seen');
    await entry(ann.page, 'seen');
    await cut(ann.page);
    const missed = Array.from({ length: 101 }, (_, index) => `missed ${index + 1}`);
    await publishByApi(gateway, ann.page, 'flood', ...missed);
    await comeBack(ann.page);
    await eventually(() => logOf(ann.page), [
      '-- You joined flood', 'seen', '-- Not connected', '-- Too much was missed: not recovered', '-- 50 earlier messages',
      ...missed.slice(-50).map((text) => `${text} [earlier]`), '-- Live again in flood',
    ]);
  });

  test('what has been shown is not shown again when too much was missed', async (t) => {
    const strict = await Gateway.dev(t, { CLARION__CLIENT__RECOVERY_PUBLICATIONS_MAX: '1' });
    const { page } = await openWindow(t, `http://${strict.host}/#user=ann&channel=strict`);
    await publishByApi(strict, page, 'strict', 'seen');
    await entry(page, 'seen');
    await cut(page);
    await publishByApi(strict, page, 'strict', 'one', 'two');
    await comeBack(page);
    await eventually(() => logOf(page), [
      '-- You joined strict', 'seen', '-- Not connected', '-- Too much was missed: not recovered', '-- 2 earlier messages',
      'one [earlier]', 'two [earlier]', '-- Live again in strict',
    ]);
  });

  test('nothing moves when the line is cut, and the focus stays', async (t) => {
    for (const viewport of [DESKTOP, PHONE]) {
      const { page } = await openPlayground(t, `#user=ann&channel=still-${viewport.width}`, { viewport });
      await rosterIs(page, ['ann']);
      const places = () => page.evaluate(() => ['line', 'chat', 'log', 'people', 'roster', 'message', 'send']
        .map((id) => [id, JSON.stringify(document.getElementById(id).getBoundingClientRect())]));
      const before = await places();
      await page.focus('#line');
      await page.keyboard.press('Enter');
      await page.waitForSelector('#state[data-state=waiting]');
      assert.deepEqual(await places(), before);
      await page.keyboard.press('Enter');
      await page.getByText('Back, nothing was missed').waitFor();
      await rosterIs(page, ['ann']);
      assert.deepEqual(await places(), before);
      assert.equal(await page.evaluate(() => document.activeElement.id), 'line');
    }
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
    const ann = await openPlayground(t, '#user=<b>ann</b>&channel=markup');
    const text = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
    await say(ann.page, text);
    assert.equal((await entry(ann.page, text)).from, '<b>ann</b>');
    await rosterIs(ann.page, ['<b>ann</b>']);
    await cut(ann.page);
    await publishByApi(gateway, ann.page, 'markup', `${text} missed`);
    await comeBack(ann.page);
    await entry(ann.page, `${text} missed`);
    const bob = await openPlayground(t, '#user=bob&channel=markup');
    assert.deepEqual(await entry(bob.page, text), { from: '<b>ann</b>', kind: 'entry earlier' });
    await rosterIs(bob.page, ['bob', '<b>ann</b>']);
    for (const { page, complaints } of [ann, bob]) {
      assert.equal(await page.locator('#log :is(img, b, script), #frames img, #roster b').count(), 0);
      assert.match(await page.title(), /playground$/);
      assert.deepEqual(complaints, []);
    }
  });

  test('a window joins another channel and leaves the first', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=one');
    const bob = await openPlayground(t, '#user=bob&channel=two');
    await say(ann.page, 'Farewell.');
    await entry(ann.page, 'Farewell.');
    await ann.page.fill('#channel', 'two');
    await ann.page.press('#channel', 'Enter');
    await ann.page.getByText('You joined two').waitFor();
    await say(bob.page, 'Welcome.');
    await entry(ann.page, 'Welcome.');
    assert.deepEqual(await logOf(ann.page), ['-- You joined two', 'Welcome.']);
    assert.match(ann.page.url(), /#user=ann&channel=two$/);
  });

  test('the frames show both directions and no token', async (t) => {
    const ann = await openPlayground(t, '#user=ann&channel=chat');
    const frames = await ann.page.locator('#frames').textContent();
    assert.match(frames, /open ws:.*\/ws\?token=eyJ…&channel=chat&join_leave=1/);
    assert.match(frames, /"connect":\{"client":/);
    assert.match(frames, /"presence":\{"channel":"chat"\}/);
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
  await page.waitForFunction(() => window.states.some((text) => text.startsWith('1012 shutdown')));
  await gateway.start();
  await page.waitForSelector('#state[data-state=open]');
  // Another start, another epoch.
  await page.getByText('Too much was missed: not recovered').waitFor();
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
