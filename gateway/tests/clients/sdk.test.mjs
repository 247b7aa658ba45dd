// The official JavaScript SDK against the native protocol, over `ws`.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import WebSocket from 'ws';
import { clientOf, code, connect, join, subscribe } from './sdk.mjs';
import { DRAIN_DEADLINE_MS, Gateway, Inbox, beforeAll, within } from './support.mjs';

describe('the SDK', () => {
  let gateway;
  beforeAll(async (t) => { gateway = await Gateway.serve(t); });

  test('connects with a token and is told its client id', async (t) => {
    const [ann, bob] = [await connect(t, gateway, 'ann'), await connect(t, gateway, 'bob')];
    assert.match(ann.id, /^[0-9a-f-]{36}$/);
    assert.notEqual(ann.id, bob.id);
  });

  test('a publication reaches every subscriber, the publisher too, and says who it is from', async (t) => {
    const [ann, bob] = [await connect(t, gateway, 'ann'), await connect(t, gateway, 'bob')];
    const [annChat, bobChat] = [await join(ann.client, 'open:chat'), await join(bob.client, 'open:chat')];
    const data = { text: 'grüß dich\n☕', list: [1, null, true] };
    await annChat.subscription.publish(data);
    for (const chat of [annChat, bobChat]) {
      const publication = await chat.events.publication.next('the publication');
      assert.deepEqual(publication.data, data);
      assert.equal(publication.info.user, 'ann');
      assert.equal(publication.info.client, ann.id);
    }
  });

  test('one publisher is heard in order', async (t) => {
    const [ann, bob] = [await connect(t, gateway, 'ann'), await connect(t, gateway, 'bob')];
    const chat = await join(bob.client, 'open:order');
    const numbers = Array.from({ length: 200 }, (_, index) => index);
    await Promise.all(numbers.map((number) => ann.client.publish('open:order', number)));
    const heard = [];
    while (heard.length < numbers.length) heard.push((await chat.events.publication.next(`publication ${heard.length}`)).data);
    assert.deepEqual(heard, numbers);
  });

  test('a publication of the server API arrives without a publisher', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    const news = await join(ann.client, 'read:news');
    await gateway.api('publish', { channel: 'read:news', data: { text: 'noon' } });
    const publication = await news.events.publication.next('the publication');
    assert.deepEqual(publication.data, { text: 'noon' });
    assert.equal(publication.info, undefined);
  });

  test('after unsubscribing nothing more arrives', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    const left = await join(ann.client, 'open:left');
    const kept = await join(ann.client, 'open:kept');
    left.subscription.unsubscribe();
    assert.equal((await left.events.unsubscribed.next('unsubscribed')).code, 0);
    // The publication of the other channel was sent later on the same connection: what was due has come.
    await ann.client.publish('open:left', 'unheard');
    await ann.client.publish('open:kept', 'heard');
    assert.equal((await kept.events.publication.next('the kept channel')).data, 'heard');
    assert.ok(left.events.publication.isEmpty);
  });

  test('a personal channel is for its user only', async (t) => {
    const [ann, bob] = [await connect(t, gateway, 'ann'), await connect(t, gateway, 'bob')];
    await join(ann.client, 'user#ann');
    const { events } = subscribe(bob.client, 'user#ann');
    assert.equal((await events.unsubscribed.next('the refusal')).code, 103);
  });

  for (const [what, channel, expected] of [
    ['a channel without permission', 'shut:room', 103],
    ['a channel of an unknown namespace', 'nowhere:room', 102],
  ]) {
    test(`${what} is refused with ${expected} and the connection stays`, async (t) => {
      const ann = await connect(t, gateway, 'ann');
      const { events } = subscribe(ann.client, channel);
      assert.equal((await events.unsubscribed.next('the refusal')).code, expected);
      await join(ann.client, 'open:chat');
      assert.ok(ann.events.disconnected.isEmpty);
    });
  }

  test('publishing without permission is refused with 103', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    await join(ann.client, 'read:news');
    await assert.rejects(ann.client.publish('read:news', 1), code(103));
  });

  test('what is not built answers 108, rpc, and so does what is off, history and presence', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    const { subscription } = await join(ann.client, 'open:chat');
    await assert.rejects(ann.client.rpc('sum', [1, 2]), code(108));
    await assert.rejects(subscription.history({ limit: 1 }), code(108));
    await assert.rejects(subscription.presence(), code(108));
    await assert.rejects(subscription.presenceStats(), code(108));
  });

  test('an invalid token ends in 3500 and no reconnect', async (t) => {
    const { client, events } = clientOf(t, gateway, { token: `${gateway.token('ann').slice(0, -4)}AAAA` });
    client.connect();
    const { code: closed, reason } = await events.disconnected.next('disconnected');
    assert.deepEqual([closed, reason], [3500, 'invalid token']);
  });

  test('an expired token makes the SDK fetch a new one', async (t) => {
    const expired = gateway.token('ann', { exp: Math.floor(Date.now() / 1000) - 60 });
    let fetched = 0;
    const getToken = async () => { fetched += 1; return gateway.token('ann'); };
    const { client, events } = clientOf(t, gateway, { token: expired, getToken });
    client.connect();
    await events.connected.next('connected');
    assert.equal(fetched, 1);
  });

  test('the API disconnects a user for good, and nobody else', async (t) => {
    const [eve, ann] = [await connect(t, gateway, 'eve'), await connect(t, gateway, 'ann')];
    await gateway.api('disconnect', { user: 'eve' });
    const { code: closed, reason } = await eve.events.disconnected.next('disconnected');
    assert.deepEqual([closed, reason], [3503, 'force disconnect']);
    await join(ann.client, 'open:chat');
    assert.ok(ann.events.disconnected.isEmpty);
  });

  test('the API unsubscribes a user with 2000', async (t) => {
    const fay = await connect(t, gateway, 'fay');
    const { events } = await join(fay.client, 'open:chat');
    await gateway.api('unsubscribe', { user: 'fay', channel: 'open:chat' });
    assert.equal((await events.unsubscribed.next('unsubscribed')).code, 2000);
  });

  test('the API subscribes a user, who then hears that channel', async (t) => {
    const gus = await connect(t, gateway, 'gus');
    await gateway.api('subscribe', { user: 'gus', channel: 'shut:inbox' });
    assert.equal((await gus.events.subscribed.next('the server-side subscription')).channel, 'shut:inbox');
    await gateway.api('publish', { channel: 'shut:inbox', data: 'for you' });
    const publication = await gus.events.publication.next('the publication');
    assert.deepEqual([publication.channel, publication.data], ['shut:inbox', 'for you']);
    await gateway.api('unsubscribe', { user: 'gus', channel: 'shut:inbox' });
    assert.equal((await gus.events.unsubscribed.next('its end')).channel, 'shut:inbox');
  });
});

test('pings are answered and keep the connection', async (t) => {
  const gateway = await Gateway.serve(t, ({ client }) => Object.assign(client, { ping_interval: '1s', pong_timeout: '900ms' }));
  const pings = new Inbox();
  class Listening extends WebSocket {
    constructor(...args) {
      super(...args);
      this.on('message', (frame) => String(frame).split('\n').filter((line) => line === '{}').forEach(pings.push));
    }
  }
  const { client, events } = clientOf(t, gateway, { websocket: Listening, token: gateway.token('ann') });
  client.connect();
  await events.connected.next('connected');
  // The third ping comes long after the pong timeout of the first.
  for (const which of ['first', 'second', 'third']) await pings.next(`the ${which} ping`);
  await join(client, 'open:chat');
  assert.ok(events.disconnected.isEmpty);
});

test('a stopped gateway closes with 3001, and the SDK and its subscription are back when it is', async (t) => {
  const gateway = await Gateway.serve(t);
  const ann = await connect(t, gateway, 'ann');
  const chat = await join(ann.client, 'open:chat');
  await ann.events.connecting.next('the first attempt');
  const stopped = gateway.stop('SIGTERM');
  const { code: closed, reason } = await ann.events.connecting.next('the close', DRAIN_DEADLINE_MS);
  assert.deepEqual([closed, reason], [3001, 'shutdown']);
  await stopped;
  await gateway.start();
  await ann.events.connected.next('reconnected');
  await chat.events.subscribed.next('resubscribed');
  await within(gateway.api('publish', { channel: 'open:chat', data: 'again' }), 'the publish');
  assert.equal((await chat.events.publication.next('the publication')).data, 'again');
});
