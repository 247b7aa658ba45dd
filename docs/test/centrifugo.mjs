// What users of Centrifugo rely on, with the published SDK and the API as their back ends call it:
// centrifugo.mjs WEBSOCKET API CONFIG, where CONFIG is the file of Centrifugo that was translated.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const require = createRequire(join(process.env.CLIENTS, 'package.json'));
const { Centrifuge } = require('centrifuge');
const WebSocket = require('ws');

const [url, api, config] = process.argv.slice(2);
const { client: { token: { hmac_secret_key: secret } }, http_api: { key } } = JSON.parse(await readFile(config, 'utf8'));
const late = setTimeout(() => { throw new Error('not within 20 s'); }, 20_000);

function sign(claims) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

async function call(method, body) {
  const answer = await fetch(`${api}/${method}`, { method: 'POST', headers: { 'X-API-Key': key }, body: JSON.stringify(body) });
  assert.equal(answer.status, 200);
  return (await answer.json()).result;
}

const heard = (emitter, name) => once(emitter, name).then(([context]) => context);

function clientOf(user) {
  return new Centrifuge(url, { token: sign({ sub: user, info: { name: user } }), websocket: WebSocket, minReconnectDelay: 20, maxReconnectDelay: 50 });
}

const ann = clientOf('ann');
const connected = heard(ann, 'connected');
const personal = heard(ann, 'subscribed');
ann.connect();
await connected;
assert.equal((await personal).channel, 'user:#ann');

// A channel of a namespace: subscribe, publish from both sides, presence, history, who comes.
const room = ann.newSubscription('chat:room');
let got = heard(room, 'subscribed');
room.subscribe();
assert.ok((await got).recoverable);
got = heard(room, 'publication');
const { epoch, offset } = await call('publish', { channel: 'chat:room', data: { text: 'from the back end' } });
assert.deepEqual([(await got).data, (await got).offset], [{ text: 'from the back end' }, offset]);
got = heard(room, 'publication');
await room.publish({ text: 'from a client' });
assert.deepEqual([(await got).data, (await got).info.user], [{ text: 'from a client' }, 'ann']);
assert.deepEqual((await room.history({ limit: 10 })).publications.map(({ data }) => data.text), ['from the back end', 'from a client']);
assert.deepEqual(Object.values((await room.presence()).clients).map(({ user, connInfo }) => [user, connInfo]), [['ann', { name: 'ann' }]]);
const bob = clientOf('bob');
got = heard(room, 'join');
bob.newSubscription('chat:room').subscribe();
bob.connect();
assert.equal((await got).info.user, 'bob');
bob.disconnect();

// What was missed comes in order, once.
got = heard(room, 'subscribing');
ann.disconnect();
await got;
for (const n of [1, 2, 3]) await call('publish', { channel: 'chat:room', data: n });
const missed = [];
room.on('publication', ({ data }) => missed.push(data));
got = heard(room, 'subscribed');
ann.connect();
assert.deepEqual([(await got).recovered, (await got).streamPosition.epoch], [true, epoch]);
while (missed.length < 3) await pause(10);
assert.deepEqual(missed, [1, 2, 3]);

// Private channels, and what is not allowed.
const secretRoom = ann.newSubscription('$secret', { getToken: async () => sign({ sub: 'ann', channel: '$secret' }) });
got = heard(secretRoom, 'subscribed');
secretRoom.subscribe();
await got;
const denied = ann.newSubscription('news');
got = heard(denied, 'unsubscribed');
denied.subscribe();
assert.equal((await got).code, 103);

// The newest value of a channel, for who asks to catch up.
await call('broadcast', { channels: ['price:a', 'price:b'], data: { bid: 1 } });
await call('publish', { channel: 'price:a', data: { bid: 2 } });
const price = ann.newSubscription('price:a', { since: { offset: 0, epoch: '' } });
got = heard(price, 'publication');
price.subscribe();
assert.deepEqual((await got).data, { bid: 2 });

// The back end ends the connection for good.
got = heard(ann, 'disconnected');
await call('disconnect', { user: 'ann' });
assert.equal((await got).code, 3503);
clearTimeout(late);
