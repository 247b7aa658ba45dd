// Subscriptions that the server makes, as the official JavaScript SDK sees them: on the client object.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { connect, join } from './sdk.mjs';
import { Gateway, Line, beforeAll } from './support.mjs';

describe('the SDK', () => {
  let gateway;
  beforeAll(async (t) => {
    gateway = await Gateway.serve(t, ({ channel }) => {
      channel.namespaces.push(
        { name: 'kept', history_size: 5, history_ttl: '10m', force_recovery: true },
        { name: 'door', presence: true, join_leave: true, force_push_join_leave: true, allow_subscribe_for_client: true },
      );
    });
  });

  test('has the channels of its token, with their data, publications and joins', async (t) => {
    const subs = { 'shut:news': { data: { welcome: true } }, 'door:a': { info: { role: 'host' } } };
    const ann = await connect(t, gateway, 'ann', { subs });
    const made = [await ann.events.subscribed.next('the first'), await ann.events.subscribed.next('the second')];
    const byChannel = Object.fromEntries(made.map((context) => [context.channel, context]));
    assert.deepEqual(Object.keys(byChannel).sort(), ['door:a', 'shut:news']);
    assert.deepEqual(byChannel['shut:news'].data, { welcome: true });
    const own = await ann.events.join.next('its own join');
    assert.deepEqual([own.channel, own.info.client, own.info.chanInfo], ['door:a', ann.id, { role: 'host' }]);
    const bob = await connect(t, gateway, 'bob');
    const { subscription } = await join(bob.client, 'door:a');
    assert.equal((await ann.events.join.next('the join')).info.client, bob.id);
    subscription.unsubscribe();
    assert.equal((await ann.events.leave.next('the leave')).info.client, bob.id);
    await gateway.api('publish', { channel: 'shut:news', data: 'for you' });
    const { channel, data } = await ann.events.publication.next('the publication');
    assert.deepEqual([channel, data], ['shut:news', 'for you']);
    await gateway.api('unsubscribe', { user: 'ann', channel: 'shut:news' });
    assert.equal((await ann.events.unsubscribed.next('its end')).channel, 'shut:news');
  });

  test('recovers a channel of the server after its line was cut', async (t) => {
    const line = await Line.to(t, Number(gateway.host.split(':')[1]));
    const url = `ws://${line.host}/connection/websocket`;
    const ann = await connect(t, gateway, 'ann', { channels: ['kept:inbox'] }, { url });
    const first = await ann.events.subscribed.next('subscribed');
    assert.deepEqual([first.recoverable, first.positioned], [true, true]);
    const take = async (count) => {
      const offsets = [];
      while (offsets.length < count) offsets.push((await ann.events.publication.next(`publication ${offsets.length}`)).offset);
      return offsets;
    };
    await gateway.api('publish', { channel: 'kept:inbox', data: 1 });
    assert.deepEqual(await take(1), [1]);
    line.cut();
    await ann.events.subscribing.next('the loss of the line');
    for (const data of [2, 3]) await gateway.api('publish', { channel: 'kept:inbox', data });
    line.mend();
    const again = await ann.events.subscribed.next('subscribed again');
    assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
    await gateway.api('publish', { channel: 'kept:inbox', data: 4 });
    assert.deepEqual(await take(3), [2, 3, 4]);
    assert.ok(ann.events.publication.isEmpty);
  });

  test('is told of what a later subscription by the API has missed', async (t) => {
    const hal = await connect(t, gateway, 'hal');
    for (const data of [1, 2, 3]) await gateway.api('publish', { channel: 'kept:late', data });
    const { epoch } = await gateway.api('history', { channel: 'kept:late' });
    await gateway.api('subscribe', { user: 'hal', channel: 'kept:late', recover_since: { offset: 1, epoch } });
    assert.equal((await hal.events.subscribed.next('subscribed')).channel, 'kept:late');
    for (const expected of [2, 3]) {
      const { channel, offset, data } = await hal.events.publication.next(`publication ${expected}`);
      assert.deepEqual([channel, offset, data], ['kept:late', expected, expected]);
    }
  });

  test('comes back after a subscription by the API has expired', async (t) => {
    const own = await Gateway.serve(t, ({ client }) => { client.expired_sub_close_delay = '0s'; });
    const jim = await connect(t, own, 'jim');
    await jim.events.connecting.next('the first attempt');
    await own.api('subscribe', { user: 'jim', channel: 'shut:a', expire_at: Math.floor(Date.now() / 1000) + 2 });
    await jim.events.subscribed.next('subscribed');
    assert.equal((await jim.events.connecting.next('the end')).code, 3006);
    await jim.events.connected.next('connected again');
    assert.equal((await jim.events.unsubscribed.next('the channel is gone')).channel, 'shut:a');
  });
});

test('a personal channel is there without asking and hears what is for its user', async (t) => {
  const gateway = await Gateway.serve(t, ({ client }) => { client.subscribe_to_user_personal_channel = { enabled: true }; });
  const [ann, bob] = [await connect(t, gateway, 'ann'), await connect(t, gateway, 'bob')];
  assert.equal((await ann.events.subscribed.next('its channel')).channel, '#ann');
  await gateway.api('publish', { channel: '#ann', data: 'for ann' });
  await gateway.api('publish', { channel: '#bob', data: 'for bob' });
  assert.equal((await ann.events.publication.next('the publication')).data, 'for ann');
  assert.equal((await bob.events.publication.next('the publication')).data, 'for bob');
});
