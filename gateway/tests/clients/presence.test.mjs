// Who is in a channel and what was published there, as the official JavaScript SDK sees it.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import WebSocket from 'ws';
import { code, connect, join } from './sdk.mjs';
import { Gateway, Inbox, beforeAll } from './support.mjs';

describe('the SDK', () => {
  let gateway;
  beforeAll(async (t) => {
    gateway = await Gateway.serve(t, ({ channel }) => {
      const rights = { allow_subscribe_for_client: true, allow_presence_for_subscriber: true };
      channel.namespaces.push(
        { ...rights, name: 'room', presence: true, join_leave: true },
        { ...rights, name: 'loud', presence: true, join_leave: true, force_push_join_leave: true },
        { ...rights, name: 'lasting', presence: true, join_leave: true, force_push_join_leave: true, leave_grace: '1h' },
        {
          name: 'kept', history_size: 5, history_ttl: '10m', allow_subscribe_for_client: true,
          allow_publish_for_client: true, allow_history_for_subscriber: true,
        },
      );
    });
  });

  test('asks who is present and how many', async (t) => {
    const ann = await connect(t, gateway, 'ann', { info: { name: 'Ann' } });
    const tablet = await connect(t, gateway, 'ann');
    const bob = await connect(t, gateway, 'bob');
    const { subscription } = await join(ann.client, 'room:asked');
    await join(tablet.client, 'room:asked');
    await join(bob.client, 'room:asked');
    const { clients } = await subscription.presence();
    const seen = Object.entries(clients).map(([id, { client, user, connInfo }]) => [id, client, user, connInfo]);
    assert.deepEqual(seen.sort(), [
      [ann.id, ann.id, 'ann', { name: 'Ann' }], [tablet.id, tablet.id, 'ann', undefined], [bob.id, bob.id, 'bob', undefined],
    ].sort());
    assert.deepEqual(await subscription.presenceStats(), { numClients: 3, numUsers: 2 });
    const eve = await connect(t, gateway, 'eve');
    await assert.rejects(eve.client.presence('room:asked'), code(103));
    await assert.rejects(eve.client.presenceStats('room:asked'), code(103));
  });

  for (const [what, channel, options] of [
    ['where it asks for that', 'room:door', { joinLeave: true }],
    ['where everybody is told', 'loud:door', {}],
  ]) {
    test(`is told who joins and leaves ${what}`, async (t) => {
      const ann = await connect(t, gateway, 'ann');
      const { events } = await join(ann.client, channel, options);
      assert.equal((await events.join.next('its own join')).info.client, ann.id);
      const bob = await connect(t, gateway, 'bob', { info: { name: 'Bob' } });
      const { subscription } = await join(bob.client, channel);
      const joined = await events.join.next('the join');
      assert.deepEqual([joined.channel, joined.info.client, joined.info.connInfo], [channel, bob.id, { name: 'Bob' }]);
      subscription.unsubscribe();
      assert.equal((await events.leave.next('the leave')).info.client, bob.id);
      subscription.subscribe();
      assert.equal((await events.join.next('the second join')).info.user, 'bob');
      bob.client.disconnect();
      assert.equal((await events.leave.next('the leave of who disconnects')).info.user, 'bob');
    });
  }

  test('is told nothing of who lost its connection and came back', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    const { subscription, events } = await join(ann.client, 'lasting:door');
    await events.join.next('its own join');
    const sockets = [];
    class Cuttable extends WebSocket {
      constructor(...args) {
        super(...args);
        sockets.push(this);
      }
    }
    const bob = await connect(t, gateway, 'bob', {}, { websocket: Cuttable });
    const door = await join(bob.client, 'lasting:door');
    assert.equal((await events.join.next('the join')).info.user, 'bob');
    const present = async () => Object.values((await subscription.presence()).clients).map(({ user }) => user).sort();
    for (let cuts = 1; cuts <= 3; cuts++) {
      sockets.at(-1).terminate();
      await bob.events.connecting.next('the connection to be lost');
      assert.deepEqual(await present(), ['ann', 'bob']);
      await door.events.subscribed.next('to be back');
      assert.deepEqual(await present(), ['ann', 'bob']);
    }
    const { client } = await bob.events.connected.next('the first time');
    assert.notEqual(client, bob.id);
    door.subscription.unsubscribe();
    assert.equal((await events.leave.next('the leave')).info.user, 'bob');
    assert.ok(events.join.isEmpty && events.leave.isEmpty, 'nothing was told in between');
    assert.deepEqual(await present(), ['ann']);
  });

  test('reads the history in both directions', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    const { subscription } = await join(ann.client, 'kept:news');
    for (const number of [1, 2, 3]) await subscription.publish({ number });
    const read = async (options) => (await subscription.history(options)).publications.map(({ offset, data }) => [offset, data.number]);
    assert.deepEqual(await read({ limit: 10 }), [[1, 1], [2, 2], [3, 3]]);
    assert.deepEqual(await read({ limit: 2, reverse: true }), [[3, 3], [2, 2]]);
    const { offset, epoch, publications } = await subscription.history();
    assert.deepEqual([offset, publications], [3, []]);
    assert.deepEqual(await read({ limit: 10, since: { offset: 1, epoch } }), [[2, 2], [3, 3]]);
    await assert.rejects(subscription.history({ limit: 1, since: { offset: 1, epoch: 'other' } }), code(112));
    assert.equal((await subscription.history({ limit: 1 })).publications[0].info.client, ann.id);
  });
});

test('a bare WebSocket keeps a roster as the documentation says', async (t) => {
  const gateway = await Gateway.serveFile(t, new URL('examples/presence.yaml', import.meta.url).pathname);
  const enter = async (user, parameters) => {
    const token = gateway.token(user, { info: { name: user } });
    const socket = new WebSocket(gateway.bareUrl([['token', token], ['channels', 'room:a'], ...parameters]));
    t.after(() => socket.terminate());
    const frames = new Inbox();
    socket.on('message', (frame) => frames.push(JSON.parse(frame)));
    const { push } = await frames.next('the connect push');
    return { socket, id: push.connect.client, next: frames.next.bind(frames) };
  };
  const bob = await enter('bob', []);
  const ann = await enter('ann', [['join_leave', '1']]);
  const roster = new Set();
  let isAsked = false;
  /** Takes frames in until the roster holds these clients. */
  const holds = async (...ids) => {
    for (;;) {
      if (isAsked && roster.size === ids.length && ids.every((id) => roster.has(id))) return;
      const { push, presence } = await ann.next(`a roster of ${ids.length}`);
      for (const id of Object.keys(presence?.presence ?? {})) roster.add(id);
      if (push?.join) roster.add(push.join.info.client);
      if (push?.leave && !roster.delete(push.leave.info.client)) {
        roster.clear();
        isAsked = false;
      }
      if (!isAsked) {
        ann.socket.send('{"id":1,"presence":{"channel":"room:a"}}');
        isAsked = true;
      }
    }
  };
  await holds(ann.id, bob.id);
  const eve = await enter('eve', []);
  await holds(ann.id, bob.id, eve.id);
  bob.socket.close();
  await holds(ann.id, eve.id);
  eve.socket.terminate();
  await holds(ann.id);
});
