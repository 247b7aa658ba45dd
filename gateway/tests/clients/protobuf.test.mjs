// The official JavaScript SDK in its Protobuf build, over `ws`, alone and beside JSON clients.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Centrifuge as JsonClient } from 'centrifuge';
import { Centrifuge as ProtobufClient } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';
import { Gateway, Inbox, Line, beforeAll } from './support.mjs';

const encode = (value) => new TextEncoder().encode(JSON.stringify(value));
const decode = (bytes) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
/** Neither JSON nor UTF-8, with the bytes that end a message in some framing or other. */
const BINARY = Uint8Array.of(0x00, 0xff, 0x0a, 0x0d, 0xc3, 0x28, 0x7b, 0x80);

/** A subscriber behind a line of its own; every event of the client and of the subscription waits in an inbox. */
async function subscribe(t, gateway, Client, user, channel) {
  const line = await Line.to(t, Number(gateway.host.split(':')[1]));
  const sockets = [];
  class Listening extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  }
  const client = new Client(`ws://${line.host}/connection/websocket`, {
    websocket: Listening,
    token: gateway.token(user),
    minReconnectDelay: 20,
    maxReconnectDelay: 100,
  });
  t.after(() => client.disconnect());
  const ends = inboxes(client, ['connected', 'disconnected']);
  const subscription = client.newSubscription(channel);
  const events = inboxes(subscription, ['subscribing', 'subscribed', 'publication', 'unsubscribed']);
  subscription.subscribe();
  client.connect();
  await events.subscribing.next('the first attempt');
  const first = await events.subscribed.next('subscribed');
  const { client: id } = await ends.connected.next('connected');
  return { line, client, ends, subscription, events, first, id, sockets };
}

function inboxes(emitter, names) {
  return Object.fromEntries(names.map((name) => {
    const inbox = new Inbox();
    emitter.on(name, inbox.push);
    return [name, inbox];
  }));
}

async function publish(gateway, channel, ...numbers) {
  for (const data of numbers) await gateway.api('publish', { channel, data });
}

/** The next publications as `[offset, data]`. */
async function take({ events }, count) {
  const taken = [];
  while (taken.length < count) {
    const { offset, data } = await events.publication.next(`publication ${taken.length + 1} of ${count}`);
    taken.push([offset, decode(data)]);
  }
  return taken;
}

describe('the SDK in Protobuf', () => {
  let gateway;
  beforeAll(async (t) => {
    gateway = await Gateway.serve(t, ({ channel }) => {
      channel.namespaces.push({
        name: 'kept', history_size: 5, history_ttl: '10m', force_recovery: true,
        allow_subscribe_for_client: true, allow_history_for_subscriber: true,
      });
    });
  });

  test('connects with a token and is told its client id; the sub-protocol is the one it offered', async (t) => {
    const ann = await subscribe(t, gateway, ProtobufClient, 'ann', 'open:chat');
    assert.match(ann.id, /^[0-9a-f-]{36}$/);
    assert.deepEqual(ann.sockets.map(({ protocol }) => protocol), ['centrifuge-protobuf']);
  });

  test('bytes that are no JSON reach another, the publisher too, and say who they are from', async (t) => {
    const ann = await subscribe(t, gateway, ProtobufClient, 'ann', 'open:binary');
    const bob = await subscribe(t, gateway, ProtobufClient, 'bob', 'open:binary');
    await ann.subscription.publish(BINARY);
    for (const { events } of [ann, bob]) {
      const { data, info } = await events.publication.next('the publication');
      assert.deepEqual([...data], [...BINARY]);
      assert.deepEqual([info.user, info.client], ['ann', ann.id]);
    }
  });

  test('JSON goes to a JSON client and comes from one', async (t) => {
    const ann = await subscribe(t, gateway, ProtobufClient, 'ann', 'open:both');
    const bob = await subscribe(t, gateway, JsonClient, 'bob', 'open:both');
    const sent = { text: 'grüß dich\n☕', list: [1, null, true] };
    await ann.subscription.publish(encode(sent));
    const toBob = await bob.events.publication.next('the publication for JSON');
    assert.deepEqual([toBob.data, toBob.info.user], [sent, 'ann']);
    assert.deepEqual(decode((await ann.events.publication.next('the echo')).data), sent);
    await bob.subscription.publish(['back']);
    const toAnn = await ann.events.publication.next('the publication for Protobuf');
    assert.deepEqual([decode(toAnn.data), toAnn.info.user], [['back'], 'bob']);
    assert.deepEqual((await bob.events.publication.next('the echo')).data, ['back']);
  });

  test('an error has its code', async (t) => {
    const ann = await subscribe(t, gateway, ProtobufClient, 'ann', 'read:news');
    await assert.rejects(ann.subscription.publish(encode(1)), ({ code, message }) => code === 103 && message === 'permission denied');
    assert.ok(ann.ends.disconnected.isEmpty);
  });

  test('reads the history', async (t) => {
    await publish(gateway, 'kept:read', 1, 2, 3);
    const ann = await subscribe(t, gateway, ProtobufClient, 'ann', 'kept:read');
    const { publications, offset, epoch } = await ann.subscription.history({ limit: 2, reverse: true });
    assert.deepEqual(publications.map(({ offset, data }) => [offset, decode(data)]), [[3, 3], [2, 2]]);
    assert.deepEqual({ offset, epoch }, ann.first.streamPosition);
  });

  test('when its line was cut gets exactly what it missed, in order', async (t) => {
    await publish(gateway, 'kept:missed', 1);
    const ann = await subscribe(t, gateway, ProtobufClient, 'ann', 'kept:missed');
    assert.deepEqual([ann.first.recoverable, ann.first.streamPosition.offset], [true, 1]);
    await publish(gateway, 'kept:missed', 2);
    assert.deepEqual(await take(ann, 1), [[2, 2]]);
    for (const [third, fourth, fifth] of [[3, 4, 5], [6, 7, 8]]) {
      ann.line.cut();
      await ann.events.subscribing.next('the loss of the line');
      await publish(gateway, 'kept:missed', third, fourth);
      ann.line.mend();
      const again = await ann.events.subscribed.next('subscribed again');
      assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
      await publish(gateway, 'kept:missed', fifth);
      assert.deepEqual(await take(ann, 3), [[third, third], [fourth, fourth], [fifth, fifth]]);
    }
    assert.ok(ann.events.publication.isEmpty);
  });
});

test('pings are answered and keep the connection in Protobuf', async (t) => {
  const gateway = await Gateway.serve(t, ({ client }) => Object.assign(client, { ping_interval: '1s', pong_timeout: '900ms' }));
  const ann = await subscribe(t, gateway, ProtobufClient, 'ann', 'open:chat');
  const pings = new Inbox();
  ann.sockets[0].on('message', (frame) => {
    if (Buffer.from(frame).equals(Buffer.of(0))) pings.push(frame);
  });
  // The third ping comes long after the pong timeout of the first.
  for (const which of ['first', 'second', 'third']) await pings.next(`the ${which} ping`);
  await ann.subscription.publish(BINARY);
  assert.deepEqual([...(await ann.events.publication.next('the publication')).data], [...BINARY]);
  assert.ok(ann.ends.disconnected.isEmpty);
});
