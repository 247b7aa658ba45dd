// Tokens of connections and subscriptions that the official JavaScript SDK fetches and renews.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { after, clientOf, connect, join, listening, subscribe } from './sdk.mjs';
import { Gateway, Inbox, beforeAll } from './support.mjs';

/** A `getToken` that brings what `token(count)` makes, and counts. */
function fetching(token) {
  const fetch = Object.assign(async (context) => { fetch.contexts.push(context); return token(fetch.contexts.length); }, { contexts: [] });
  return fetch;
}

// What waits for a token to end does so together.
describe('the SDK', { concurrency: true }, () => {
  let gateway;
  beforeAll(async (t) => {
    gateway = await Gateway.serve(t, ({ client }) => { client.expired_sub_close_delay = '300ms'; });
  });

  test('renews its connection before its token ends', async (t) => {
    const getToken = fetching(() => gateway.token('ann', { info: { token: 'second' } }));
    const { websocket, heard } = listening('refresh');
    const ann = await connect(t, gateway, 'ann', { exp: after(1.5), info: { token: 'first' } }, { getToken, websocket });
    const { subscription, events } = await join(ann.client, 'open:renewed');
    const { refresh } = await heard.next('the reply to the refresh');
    assert.ok(refresh.expires && refresh.ttl > 500 && refresh.ttl <= 600, JSON.stringify(refresh));
    await subscription.publish(1);
    assert.deepEqual((await events.publication.next('the publication')).info.connInfo, { token: 'second' });
    assert.equal(getToken.contexts.length, 1);
    assert.ok(ann.events.disconnected.isEmpty && events.subscribed.isEmpty, 'it was never away');
  });

  test('ends in 3500 when it renews as somebody else', async (t) => {
    const getToken = fetching(() => gateway.token('bob'));
    const ann = await connect(t, gateway, 'ann', { exp: after(1.5) }, { getToken });
    assert.equal((await ann.events.disconnected.next('the end')).code, 3500);
  });

  test('fetches a token for a channel that needs one, and renews it', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    const claims = (count) => ({ channel: '$shut:room', info: { role: 'host' }, data: { count }, exp: after(count === 1 ? 1.5 : 600) });
    const getToken = fetching((count) => gateway.token('ann', claims(count)));
    const { websocket, heard } = listening('sub_refresh');
    const bob = await connect(t, gateway, 'ann', {}, { websocket });
    const { context, events } = await join(bob.client, '$shut:room', { getToken });
    assert.deepEqual(context.data, { count: 1 });
    const { sub_refresh: renewed } = await heard.next('the reply to the refresh');
    assert.ok(renewed.expires && renewed.ttl > 500, JSON.stringify(renewed));
    assert.deepEqual(getToken.contexts, [{ channel: '$shut:room' }, { channel: '$shut:room' }]);
    await gateway.api('publish', { channel: '$shut:room', data: 'still there' });
    assert.equal((await events.publication.next('the publication')).data, 'still there');
    const { events: refused } = subscribe(ann.client, '$shut:room');
    assert.equal((await refused.unsubscribed.next('the refusal')).code, 103, 'without a token');
  });

  test('is back with a fresh token after its subscription ended with 2501', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    let fetched = 0;
    // The second is never brought: renewing fails for ever, and the subscription ends.
    const getToken = async () => {
      fetched += 1;
      if (fetched === 2) throw new Error('the back end is away');
      return gateway.token('ann', { channel: 'shut:lost', exp: after(fetched === 1 ? 1.5 : 600) });
    };
    const { events } = await join(ann.client, 'shut:lost', { getToken, minResubscribeDelay: 20, maxResubscribeDelay: 100 });
    await events.subscribing.next('the first attempt');
    assert.equal((await events.subscribing.next('the end')).code, 2501);
    await events.subscribed.next('subscribed again');
    await gateway.api('publish', { channel: 'shut:lost', data: 'back' });
    assert.equal((await events.publication.next('the publication')).data, 'back');
  });

  test('is refused with 103 by a bad subscription token and closed with 3500 by another\'s', async (t) => {
    const ann = await connect(t, gateway, 'ann');
    const { events } = subscribe(ann.client, 'shut:a', { token: 'nope' });
    assert.equal((await events.unsubscribed.next('the refusal')).code, 103);
    subscribe(ann.client, 'shut:b', { token: gateway.token('bob', { channel: 'shut:b' }) });
    assert.equal((await ann.events.disconnected.next('the close')).code, 3500);
  });
});

test('a user has at most user_connections_max connections, and one more when one has closed', async (t) => {
  const gateway = await Gateway.serve(t, ({ client }) => { client.user_connections_max = 1; });
  const first = await connect(t, gateway, 'ann');
  const { client, events } = clientOf(t, gateway, { token: gateway.token('ann') });
  client.connect();
  const { code, reason } = await events.disconnected.next('the refusal');
  assert.deepEqual([code, reason], [3504, 'connection limit']);
  first.client.disconnect();
  const outcomes = new Inbox();
  client.on('connected', outcomes.push);
  client.on('disconnected', outcomes.push);
  // The gateway hears of the end a moment after the SDK says so.
  for (let outcome = {}; !outcome.client;) {
    client.connect();
    outcome = await outcomes.next('a place');
    assert.ok(outcome.client || outcome.code === 3504, JSON.stringify(outcome));
  }
});
