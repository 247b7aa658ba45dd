// Clients after a lost line: they catch up with what they missed, or are told that they cannot.
// The official JavaScript SDK, and a bare WebSocket with the snippet of `docs/bare-websocket.md`.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { Gateway, Inbox, Line, beforeAll } from './support.mjs';

const WINDOW = 5;

/** A subscriber behind a line of its own; every event of the subscription waits in `events[name]`. */
async function subscribe(t, gateway, channel, options) {
  const line = await Line.to(t, Number(gateway.host.split(':')[1]));
  const client = new Centrifuge(`ws://${line.host}/connection/websocket`, {
    websocket: WebSocket,
    token: gateway.token('ann'),
    minReconnectDelay: 20,
    maxReconnectDelay: 100,
  });
  t.after(() => client.disconnect());
  const subscription = client.newSubscription(channel, options);
  const events = {};
  for (const name of ['subscribing', 'subscribed', 'publication', 'unsubscribed']) {
    events[name] = new Inbox();
    subscription.on(name, events[name].push);
  }
  subscription.subscribe();
  client.connect();
  await events.subscribing.next('the first attempt');
  return { line, client, subscription, events, first: await events.subscribed.next('subscribed') };
}

async function publish(gateway, channel, ...numbers) {
  for (const data of numbers) await gateway.api('publish', { channel, data });
}

/** Cuts the line, publishes `numbers` meanwhile, mends it, and returns the context of the new subscription. */
async function miss({ line, events }, gateway, channel, ...numbers) {
  line.cut();
  await events.subscribing.next('the loss of the line');
  await publish(gateway, channel, ...numbers);
  line.mend();
  return events.subscribed.next('subscribed again');
}

/** The next publications as `[offset, data]`. */
async function take({ events }, count) {
  const taken = [];
  while (taken.length < count) {
    const { offset, data } = await events.publication.next(`publication ${taken.length + 1} of ${count}`);
    taken.push([offset, data]);
  }
  return taken;
}

describe('the SDK, when its line was cut,', () => {
  let gateway;
  beforeAll(async (t) => {
    gateway = await Gateway.serve(t, ({ channel }) => {
      const keeps = { history_size: WINDOW, history_ttl: '10m', allow_subscribe_for_client: true };
      channel.namespaces.push(
        { ...keeps, name: 'kept', force_recovery: true },
        { ...keeps, name: 'asked', allow_recovery: true },
      );
    });
  });

  for (const [what, channel, options] of [
    ['where every subscription recovers', 'kept:news', {}],
    ['where it asks for that', 'asked:news', { recoverable: true }],
  ]) {
    test(`gets exactly what it missed, in order, ${what}`, async (t) => {
      await publish(gateway, channel, 1);
      const ann = await subscribe(t, gateway, channel, options);
      assert.deepEqual([ann.first.recoverable, ann.first.positioned, ann.first.wasRecovering], [true, true, false]);
      assert.equal(ann.first.streamPosition.offset, 1);
      await publish(gateway, channel, 2);
      assert.deepEqual(await take(ann, 1), [[2, 2]]);
      for (const [third, fourth, fifth] of [[3, 4, 5], [6, 7, 8]]) {
        const again = await miss(ann, gateway, channel, third, fourth);
        assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
        await publish(gateway, channel, fifth);
        assert.deepEqual(await take(ann, 3), [[third, third], [fourth, fourth], [fifth, fifth]]);
      }
      assert.ok(ann.events.publication.isEmpty);
    });
  }

  test('has recovered when it missed nothing', async (t) => {
    const ann = await subscribe(t, gateway, 'kept:quiet');
    const again = await miss(ann, gateway, 'kept:quiet');
    assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
    await publish(gateway, 'kept:quiet', 1);
    assert.deepEqual(await take(ann, 1), [[1, 1]]);
  });

  test('is told that it missed more than is kept, and goes on from there', async (t) => {
    const ann = await subscribe(t, gateway, 'kept:busy');
    const again = await miss(ann, gateway, 'kept:busy', 1, 2, 3, 4, 5, 6);
    assert.deepEqual([again.wasRecovering, again.recovered], [true, false]);
    assert.equal(again.streamPosition.offset, 6);
    await publish(gateway, 'kept:busy', 7);
    assert.deepEqual(await take(ann, 1), [[7, 7]]);
    assert.ok(ann.events.unsubscribed.isEmpty);
  });

  test('is told that the epoch is another when the gateway has forgotten everything', async (t) => {
    const own = await Gateway.serve(t, ({ channel }) => {
      channel.namespaces.push({ name: 'kept', history_size: WINDOW, history_ttl: '10m', allow_subscribe_for_client: true, force_recovery: true });
    });
    await publish(own, 'kept:news', 1);
    const ann = await subscribe(t, own, 'kept:news');
    await own.stop('SIGKILL');
    await ann.events.subscribing.next('the loss of the gateway');
    await own.start();
    const again = await ann.events.subscribed.next('subscribed again');
    assert.deepEqual([again.wasRecovering, again.recovered], [true, false]);
    assert.notEqual(again.streamPosition.epoch, ann.first.streamPosition.epoch);
    await publish(own, 'kept:news', 'first');
    assert.deepEqual(await take(ann, 1), [[1, 'first']]);
  });
});

describe('a bare WebSocket with the snippet of the documentation', () => {
  const DOCUMENT = new URL('../../../docs/bare-websocket.md', import.meta.url);
  const README_EXAMPLE = new URL('examples/history.yaml', import.meta.url).pathname;

  /** What the snippet defines, with everything that it shows or gives up. */
  async function snippet() {
    const [, text] = /^```js\n(const positions[^]*?)^```$/m.exec(await readFile(DOCUMENT, 'utf8'));
    const shown = new Inbox();
    const reloads = new Inbox();
    const define = new Function('show', 'reload', `${text}\nreturn { address, listen };`);
    return { ...define((...what) => shown.push(what), reloads.push), shown, reloads };
  }

  /** Connects and says when the gateway has answered. */
  async function open(t, gateway, { address, listen }, channel) {
    const socket = new WebSocket(address(gateway.bareUrl([['token', gateway.token('ann')], ['channels', channel]])));
    t.after(() => socket.terminate());
    const frames = new Inbox();
    const closed = new Inbox();
    socket.on('close', closed.push);
    listen(socket);
    socket.on('message', frames.push);
    await frames.next('the connect push');
    return { socket, closed };
  }

  test('shows each publication once and in order, and reloads when it cannot', async (t) => {
    const gateway = await Gateway.serveFile(t, README_EXAMPLE);
    const ann = await snippet();
    const shown = async (count) => {
      const all = [];
      while (all.length < count) all.push(await ann.shown.next(`publication ${all.length + 1} of ${count}`));
      return all.map(([channel, data]) => { assert.equal(channel, 'orders:42'); return data; });
    };
    let next = 1;
    for (const _ of [1, 2, 3]) {
      const { socket, closed } = await open(t, gateway, ann, 'orders:42');
      await publish(gateway, 'orders:42', next, next + 1);
      // The first two were published while it was away, except for the first time.
      assert.deepEqual(await shown(next === 1 ? 2 : 4), next === 1 ? [1, 2] : [next - 2, next - 1, next, next + 1]);
      socket.terminate();
      await closed.next('the end of the line');
      await publish(gateway, 'orders:42', next + 2, next + 3);
      next += 4;
    }
    assert.ok(ann.reloads.isEmpty);
    await gateway.api('history_remove', { channel: 'orders:42' });
    await open(t, gateway, ann, 'orders:42');
    assert.equal(await ann.reloads.next('the reload'), 'orders:42');
    await publish(gateway, 'orders:42', 'live');
    assert.deepEqual(await shown(1), ['live']);
    assert.ok(ann.shown.isEmpty);
  });
});
