// The bare form, `/ws`, as a plain WebSocket client sees it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import WebSocket from 'ws';
import { DRAIN_DEADLINE_MS, Gateway, Inbox, beforeAll, within } from './support.mjs';

/** An open bare connection: `frames` holds what it received as text, `closed` its code and reason. */
async function open(t, url, protocols = [], options = {}) {
  const socket = new WebSocket(url, protocols, options);
  t.after(() => socket.terminate());
  const frames = new Inbox();
  const closed = new Inbox();
  socket.on('message', (data, isBinary) => frames.push(isBinary ? data : String(data)));
  socket.on('close', (code, reason) => closed.push([code, String(reason)]));
  await within(once(socket, 'open'), 'the WebSocket handshake');
  const next = async (what) => JSON.parse(await frames.next(what));
  return { socket, frames, closed, next, send: (message) => socket.send(JSON.stringify(message)) };
}

/** Opens with `parameters` and takes the connect push, which is the first frame. */
async function join(t, gateway, user, parameters) {
  const connection = await open(t, gateway.bareUrl([['token', gateway.token(user)], ...parameters]));
  const { push } = await connection.next('the connect push');
  assert.deepEqual(Object.keys(push), ['connect']);
  return { ...connection, connect: push.connect };
}

/** The refusal of a handshake: status and body. */
async function refused(url, protocols = [], options = {}) {
  const socket = new WebSocket(url, protocols, options);
  socket.on('error', () => {});
  const [, response] = await within(once(socket, 'unexpected-response'), 'a refused handshake');
  const chunks = await response.toArray();
  return { status: response.statusCode, type: response.headers['content-type'], text: Buffer.concat(chunks).toString() };
}

function assertRefusal({ status, type, text }, expected, token) {
  assert.equal(status, expected);
  assert.match(type, /^application\/json/);
  const body = JSON.parse(text);
  assert.ok('code' in body);
  assert.equal(typeof body.message, 'string');
  assert.ok(!token || !text.includes(token), 'the refusal repeats the token');
}

describe('the bare form', () => {
  let gateway;
  beforeAll(async (t) => { gateway = await Gateway.serve(t); });

  test('the server speaks first and lists what is subscribed and what is refused', async (t) => {
    const { connect } = await join(t, gateway, 'ann', [['channels', 'open:a,open:b,shut:c,nowhere:d']]);
    assert.match(connect.client, /^[0-9a-f-]{36}$/);
    assert.equal(typeof connect.version, 'string');
    assert.deepEqual(connect.subs, {
      'open:a': {},
      'open:b': {},
      'shut:c': { error: { code: 103, message: 'permission denied' } },
      'nowhere:d': { error: { code: 102, message: 'unknown channel' } },
    });
  });

  test('channel may be repeated, and its name needs no comma rule', async (t) => {
    const { connect, next } = await join(t, gateway, 'ann', [['channel', 'open:a'], ['channel', 'user#ann,bob']]);
    assert.deepEqual(connect.subs, { 'open:a': {}, 'user#ann,bob': {} });
    await gateway.api('publish', { channel: 'user#ann,bob', data: 1 });
    assert.deepEqual(await next('the publication'), { push: { channel: 'user#ann,bob', pub: { data: 1 } } });
  });

  test('a client publication says who it is from, one of the server API does not', async (t) => {
    const ann = await join(t, gateway, 'ann', [['channels', 'open:chat']]);
    const bob = await join(t, gateway, 'bob', [['channels', 'open:chat']]);
    ann.send({ publish: { channel: 'open:chat', data: { text: 'hi' } } });
    const info = { user: 'ann', client: ann.connect.client };
    const expected = { push: { channel: 'open:chat', pub: { data: { text: 'hi' }, info } } };
    assert.deepEqual(await ann.next('the echo'), expected);
    assert.deepEqual(await bob.next('the publication'), expected);
    await gateway.api('publish', { channel: 'open:chat', data: [1] });
    assert.deepEqual(await bob.next('the publication'), { push: { channel: 'open:chat', pub: { data: [1] } } });
  });

  test('commands with an id are answered, as in the native protocol', async (t) => {
    const ann = await join(t, gateway, 'ann', [['channels', 'open:a']]);
    ann.send({ id: 1, subscribe: { channel: 'open:b' } });
    assert.deepEqual(await ann.next('the reply'), { id: 1, subscribe: {} });
    ann.send({ id: 2, subscribe: { channel: 'shut:c' } });
    assert.deepEqual(await ann.next('the refusal'), { id: 2, error: { code: 103, message: 'permission denied' } });
    ann.send({ id: 3, unsubscribe: { channel: 'open:a' } });
    assert.deepEqual(await ann.next('the reply'), { id: 3, unsubscribe: {} });
    await gateway.api('publish', { channel: 'open:a', data: 'left' });
    await gateway.api('publish', { channel: 'open:b', data: 'joined' });
    assert.equal((await ann.next('the publication')).push.channel, 'open:b');
  });

  test('a refused publish without an id is told as an error, and the connection stays', async (t) => {
    const ann = await join(t, gateway, 'ann', [['channels', 'read:news']]);
    ann.send({ publish: { channel: 'read:news', data: 1 } });
    assert.deepEqual(await ann.next('the error'), { error: { code: 103, message: 'permission denied' } });
    await gateway.api('publish', { channel: 'read:news', data: 2 });
    assert.equal((await ann.next('the publication')).push.pub.data, 2);
  });

  test('with publish= what is sent is what arrives', async (t) => {
    const parameters = [['channels', 'open:echo'], ['publish', 'open:echo']];
    const ann = await open(t, gateway.bareUrl([['token', gateway.token('ann')], ...parameters]));
    const bob = await open(t, gateway.bareUrl([['token', gateway.token('bob')], ...parameters]));
    const watcher = await join(t, gateway, 'eve', [['channels', 'open:echo']]);
    for (const [sent, data] of [
      ['hello', 'hello'],
      ['{"text":"hi"}', { text: 'hi' }],
      ['[1,2]', [1, 2]],
      ['naïve ☕ {', 'naïve ☕ {'],
    ]) {
      ann.socket.send(sent);
      assert.equal(await ann.frames.next('the echo'), sent);
      assert.equal(await bob.frames.next('the text'), sent);
      assert.deepEqual((await watcher.next('the publication')).push.pub.data, data);
    }
  });

  test('a token in the Authorization header', async (t) => {
    const headers = { Authorization: `Bearer ${gateway.token('ann')}` };
    const { next } = await open(t, gateway.bareUrl([['channels', 'open:a']]), [], { headers });
    assert.deepEqual((await next('the connect push')).push.connect.subs, { 'open:a': {} });
  });

  test('a token as a sub-protocol beside the one that is selected', async (t) => {
    const protocols = ['clarion', `bearer.${gateway.token('ann')}`];
    const { socket, next } = await open(t, gateway.bareUrl([['channels', 'open:a']]), protocols);
    assert.equal(socket.protocol, 'clarion');
    assert.deepEqual((await next('the connect push')).push.connect.subs, { 'open:a': {} });
  });

  test('a bad, an expired and a missing token are 401 before the upgrade, with a reason', async () => {
    const bad = `${gateway.token('ann').slice(0, -4)}AAAA`;
    const expired = gateway.token('ann', { exp: Math.floor(Date.now() / 1000) - 60 });
    for (const token of [bad, expired]) {
      assertRefusal(await refused(gateway.bareUrl([['token', token], ['channels', 'open:a']])), 401, token);
    }
    assertRefusal(await refused(gateway.bareUrl([['channels', 'open:a']])), 401);
  });

  test('two tokens in one handshake are 400', async () => {
    const token = gateway.token('ann');
    const query = gateway.bareUrl([['token', token], ['channels', 'open:a']]);
    const headers = { Authorization: `Bearer ${token}` };
    assertRefusal(await refused(query, [], { headers }), 400, token);
    assertRefusal(await refused(query, ['clarion', `bearer.${token}`]), 400, token);
    assertRefusal(await refused(gateway.bareUrl([['token', token], ['token', token]])), 400, token);
  });

  test('the API disconnects with 3503', async (t) => {
    const eve = await join(t, gateway, 'eve-bare', [['channels', 'open:a']]);
    await gateway.api('disconnect', { user: 'eve-bare' });
    assert.deepEqual(await eve.closed.next('the close'), [3503, 'force disconnect']);
  });
});

test('with reject: close a bad token is upgraded and closed with 3500, which a browser can read', async (t) => {
  const gateway = await Gateway.serve(t, ({ client }) => { client.token.reject = 'close'; });
  const { closed } = await open(t, gateway.bareUrl([['token', 'not.a.token'], ['channels', 'open:a']]));
  assert.deepEqual(await closed.next('the close'), [3500, 'invalid token']);
});

test('liveness is WebSocket ping frames, which need no code', async (t) => {
  const gateway = await Gateway.serve(t, ({ client }) => Object.assign(client, { ping_interval: '1s', pong_timeout: '900ms' }));
  const { socket, frames } = await join(t, gateway, 'ann', [['channels', 'open:a']]);
  for (const which of ['first', 'second', 'third']) await within(once(socket, 'ping'), `the ${which} ping`);
  assert.equal(socket.readyState, WebSocket.OPEN);
  assert.ok(frames.isEmpty, 'a ping of the native protocol arrived on the bare form');
});

test('a stopped gateway closes with 1012', async (t) => {
  const gateway = await Gateway.serve(t);
  const { closed } = await join(t, gateway, 'ann', [['channels', 'open:a']]);
  const stopped = gateway.stop('SIGTERM');
  const [code] = await closed.next('the close', DRAIN_DEADLINE_MS);
  assert.equal(code, 1012);
  await stopped;
});
