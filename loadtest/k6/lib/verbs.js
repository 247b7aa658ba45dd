// Every verb of a client and of a back end, once: what has to be answered, and what has to be refused with which code.

import http from 'k6/http';
import { check } from 'k6';
import { api, call } from './api.js';
import { Bare, Native, Refused, tokenOf } from './connection.js';
import { shake } from './handshake.js';
import { Inbox, until } from './inbox.js';
import { badTokens, sign } from './token.js';
import websockets from './websockets.cjs';

const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);

/** A run of the verbs: names of its own, and clients that it makes. */
class Walk {
  #count = 0;
  #connections = [];

  constructor(settings) {
    this.settings = settings;
    this.run = `k6-${Date.now().toString(36)}`;
  }

  /** A channel that nobody has used before. */
  channel(namespace = this.settings.namespace) {
    return `${namespace}:${this.run}-${++this.#count}`;
  }

  user() {
    return `${this.run}-user-${++this.#count}`;
  }

  token(user, claims) {
    return tokenOf(this.settings, user, claims);
  }

  /** A native client that is connected, with its inbox. */
  async native(user = this.user(), claims = {}) {
    const inbox = new Inbox();
    const connection = new Native(this.settings.url, this.token(user, claims), inbox.put);
    this.#connections.push(connection);
    return { user, inbox, connection, hello: await connection.connected };
  }

  /** A bare client that is connected, with its inbox. */
  async bare(parameters, user = this.user()) {
    const inbox = new Inbox();
    const connection = new Bare(this.settings.url, [['token', this.token(user)], ...parameters], inbox.put);
    this.#connections.push(connection);
    return { user, inbox, connection, hello: await connection.connected };
  }

  /** Closes what a verb that failed has left open: an iteration of k6 goes on as long as one of its sockets does. */
  async end() {
    await Promise.all(this.#connections.map((connection) => connection.close()));
  }

  api(method, body) {
    return api(this.settings, method, body);
  }

  publish(channel, data, more = {}) {
    return this.api('publish', { channel, data, ...more });
  }
}

/** The code of the error that a command is refused with, or 0. */
async function refusal(command) {
  try {
    await command;
    return 0;
  } catch (failure) {
    if (!(failure instanceof Refused)) throw failure;
    return failure.code;
  }
}

async function connecting(walk) {
  const { connection, hello } = await walk.native();
  check(hello, {
    'connect: a client id': ({ client }) => client.length > 0,
    'connect: how often there is a ping': ({ ping, pong }) => ping > 0 && pong === true,
    'connect: when the token ends': ({ expires, ttl }) => expires === true && ttl > 0,
  });
  const { code } = await connection.close();
  check(code, { 'the client closes': (value) => value === 1000 });
}

async function badTokensAreRefused(walk) {
  const { settings } = walk;
  const { expired, ...forged } = badTokens(settings.secret);
  for (const [what, token] of Object.entries(forged)) {
    const { code } = await new Native(settings.url, token, () => {}).closed;
    check(code, { [`native, ${what}: 3500`]: (value) => value === 3500 });
  }
  const late = new Native(settings.url, expired, () => {});
  check(await refusal(late.connected), { 'native, expired: 109': (code) => code === 109 });
  await late.close();
  for (const [what, token] of Object.entries({ expired, ...forged })) {
    const { status } = await shake(settings, token);
    check(status, { [`bare, ${what}: 401`]: (value) => value === 401 });
  }
}

async function subscribing(walk) {
  const { connection } = await walk.native();
  const channel = walk.channel();
  const result = await connection.command('subscribe', { channel });
  check(result, { 'subscribe: a place to recover from': ({ recoverable, epoch }) => recoverable && epoch.length > 0 });
  const refused = {
    'subscribe twice: 105': [105, channel],
    'subscribe, no such namespace: 102': [102, walk.channel('nowhere')],
    'subscribe, not allowed: 103': [103, walk.channel('shut')],
    'subscribe, private and without a token: 103': [103, `$${walk.channel()}`],
    'subscribe, a name that cannot be: 107': [107, `${walk.channel()}-\u00e9`],
  };
  for (const [what, [code, wrong]] of Object.entries(refused)) {
    check(await refusal(connection.command('subscribe', { channel: wrong })), { [what]: (value) => value === code });
  }
  await connection.command('unsubscribe', { channel });
  check(await refusal(connection.command('subscribe', { channel })), { 'unsubscribe: it may subscribe again': (code) => code === 0 });
  await connection.close();
}

async function privateChannels(walk) {
  const { user, connection } = await walk.native();
  const channel = `$${walk.channel()}`;
  const token = () => sign(walk.settings.secret, { sub: user, channel });
  const result = await connection.command('subscribe', { channel, token: token() });
  const renewed = await connection.command('sub_refresh', { channel, token: token() });
  check([result, renewed], { 'subscribe with a token, and sub_refresh: when it ends': (both) => both.every(({ expires, ttl }) => expires && ttl > 0) });
  await connection.close();
}

async function publishing(walk) {
  const [native, other] = [await walk.native(), await walk.native()];
  const channel = walk.channel();
  for (const { connection } of [native, other]) await connection.command('subscribe', { channel });
  const bare = await walk.bare([['channel', channel]]);
  const everybody = [native, other, bare];
  const heard = () => Promise.all(everybody.map(({ inbox }) => inbox.publication(channel)));

  await walk.publish(channel, { by: 'api' });
  check(await heard(), { 'publish by the API: all have it, from nobody': (all) => all.every((pub) => same(pub.data, { by: 'api' }) && pub.offset === 1 && !pub.info) });
  await native.connection.command('publish', { channel, data: { by: 'client' } });
  check(await heard(), { 'publish by a client: all have it, from that user': (all) => all.every((pub) => same(pub.data, { by: 'client' }) && pub.offset === 2 && pub.info.user === native.user) });
  await bare.connection.command('publish', { channel, data: { by: 'bare' } });
  check(await heard(), { 'publish by a bare client: all have it': (all) => all.every((pub) => same(pub.data, { by: 'bare' }) && pub.info.user === bare.user) });

  const [first, again] = [await walk.publish(channel, 1, { idempotency_key: 'k' }), await walk.publish(channel, 1, { idempotency_key: 'k' })];
  check(again, { 'the same key again: the first result': (result) => same(result, first) });
  await walk.api('broadcast', { channels: [channel], data: 2 });
  const { replies } = await call(walk.settings, 'batch', { commands: [{ publish: { channel, data: 3 } }, { publish: { channel: 'nowhere:x', data: 3 } }] });
  check(replies, { 'batch: each has its answer': ([good, bad]) => good.publish.offset === 6 && bad.error.code === 102 });
  const last = [await heard(), await heard(), await heard()].map((all) => all.map(({ data }) => data));
  check(last, { 'the key, broadcast and batch: each arrives once': (all) => same(all, [[1, 1, 1], [2, 2, 2], [3, 3, 3]]) });

  const stranger = await walk.native();
  check(await refusal(stranger.connection.command('publish', { channel, data: 1 })), { 'publish, not subscribed: 103': (code) => code === 103 });
  await Promise.all([...everybody, stranger].map(({ connection }) => connection.close()));
}

async function presence(walk) {
  const channel = walk.channel();
  const first = await walk.native();
  await first.connection.command('subscribe', { channel, join_leave: true });
  await first.inbox.take(({ join }) => join && join.info.user === first.user);
  const second = await walk.native();
  await second.connection.command('subscribe', { channel });
  const { join } = await first.inbox.take((push) => push.join);
  check(join, { 'join: who it is': (value) => value.info.user === second.user });

  const ids = [first, second].map(({ hello }) => hello.client).sort();
  const answers = [await first.connection.command('presence', { channel }), await walk.api('presence', { channel })];
  check(answers, { 'presence: both, to clients and to the API': (all) => all.every((answer) => same(Object.keys(answer.presence).sort(), ids)) });
  const stats = [await first.connection.command('presence_stats', { channel }), await walk.api('presence_stats', { channel })];
  check(stats, { 'presence_stats: two and two': (all) => all.every((answer) => answer.num_clients === 2 && answer.num_users === 2) });

  await second.connection.close();
  const { leave } = await first.inbox.take((push) => push.leave);
  check(leave, { 'leave: who it was': (value) => value.info.user === second.user });
  const quiet = walk.channel('quiet');
  await first.connection.command('subscribe', { channel: quiet });
  check(await refusal(first.connection.command('presence', { channel: quiet })), { 'presence, not kept: 108': (code) => code === 108 });
  await first.connection.close();
}

async function history(walk) {
  const { connection } = await walk.native();
  const channel = walk.channel();
  await connection.command('subscribe', { channel });
  for (const data of [1, 2, 3]) await walk.publish(channel, data);
  const question = { channel, limit: 2, reverse: true };
  const answers = [await connection.command('history', question), await walk.api('history', question)];
  check(answers, { 'history: the newest two, to clients and to the API': (all) => all.every(({ publications }) => same(publications.map(({ data }) => data), [3, 2])) });
  const { epoch, publications, offset } = await connection.command('history', { channel });
  check(publications, { 'history without a limit: the place alone': (value) => value.length === 0 && offset === 3 });
  const since = { channel, limit: 10, since: { offset: 1, epoch } };
  check(await connection.command('history', since), { 'history since a place': ({ publications: later }) => same(later.map(({ data }) => data), [2, 3]) });
  const lost = { ...since, since: { offset: 1, epoch: 'another' } };
  check(await refusal(connection.command('history', lost)), { 'history of another epoch: 112': (code) => code === 112 });
  await walk.api('history_remove', { channel });
  check(await walk.api('history', { channel, limit: 10 }), { 'history_remove: nothing is left but the place': (answer) => answer.publications.length === 0 && answer.offset === 3 });
  await connection.close();
}

async function recovery(walk) {
  const channel = walk.channel();
  const user = walk.user();
  const before = await walk.native(user);
  const { epoch } = await before.connection.command('subscribe', { channel });
  await walk.publish(channel, 1);
  const { offset } = await before.inbox.publication(channel);
  await before.connection.close(4000);
  for (const data of [2, 3]) await walk.publish(channel, data);

  const isWhole = ({ recovered, publications }) => recovered === true && same(publications.map(({ data }) => data), [2, 3]);
  const after = await walk.native(user);
  const result = await after.connection.command('subscribe', { channel, recover: true, epoch, offset });
  check(result, { 'recover: what was missed, in order': isWhole });
  const bare = await walk.bare([['channel', channel], ['since', `${channel}@${epoch}:${offset}`]]);
  check(bare.hello.subs[channel], { 'since: what was missed, in order': isWhole });
  await walk.publish(channel, 4);
  const live = await Promise.all([after, bare].map(({ inbox }) => inbox.publication(channel)));
  check(live, { 'recovered, then live without a gap': (all) => all.every((pub) => pub.offset === 4) });

  const late = await walk.native();
  const lost = await late.connection.command('subscribe', { channel, recover: true, epoch: 'another', offset });
  check(lost, { 'recover from another epoch: an honest no': (answer) => !answer.recovered && answer.was_recovering === true && answer.offset === 4 });
  await Promise.all([after, bare, late].map(({ connection }) => connection.close()));
}

async function refreshing(walk) {
  const { user, connection } = await walk.native(undefined, { exp: Math.floor(Date.now() / 1000) + 60 });
  const result = await connection.command('refresh', { token: walk.token(user) });
  check(result, { 'refresh: the later end': ({ expires, ttl }) => expires === true && ttl > 60 });
  await walk.api('refresh', { user, expired: true });
  const { code } = await connection.closed;
  check(code, { 'refresh by the API, expired: 3005': (value) => value === 3005 });
}

async function ordersOfTheBackEnd(walk) {
  const { user, inbox, connection } = await walk.native();
  const channel = walk.channel();
  await walk.api('subscribe', { user, channel, data: { unread: 3 } });
  const { subscribe } = await inbox.take((push) => push.subscribe);
  check(subscribe, { 'subscribe by the API: a push with its data': ({ data }) => same(data, { unread: 3 }) });
  await walk.publish(channel, 1);
  check(await inbox.publication(channel), { 'subscribed by the API: publications arrive': ({ data }) => data === 1 });
  check(await walk.api('channels', { pattern: channel }), { 'channels: it is there, with one client': ({ channels }) => channels[channel].num_clients === 1 });
  await walk.api('unsubscribe', { user, channel });
  const { unsubscribe } = await inbox.take((push) => push.unsubscribe);
  check(unsubscribe, { 'unsubscribe by the API: 2000': ({ code }) => code === 2000 });
  await walk.api('disconnect', { user, disconnect: { code: 4501, reason: 'enough' } });
  check(await connection.closed, { 'disconnect by the API: its code and its reason': ({ code, reason }) => code === 4501 && reason === 'enough' });
}

async function revoking(walk) {
  const [url] = walk.settings.apiUrls;
  const { user, connection } = await walk.native(undefined, { jti: walk.run });
  const headers = { 'X-API-Key': walk.settings.apiKey, 'Content-Type': 'application/json' };
  const { status } = await http.asyncRequest('POST', `${url}/v1/revocations`, JSON.stringify({ token_id: walk.run }), { headers });
  check(status, { 'revocations: 201': (value) => value === 201 });
  check(await connection.closed, { 'whose token is revoked: 3503': ({ code }) => code === 3503 });
  const again = await shake(walk.settings, walk.token(user, { jti: walk.run }));
  check(again, { 'a revoked token: 401': (answer) => answer.status === 401 });
}

async function errorsOfTheApi(walk) {
  const { settings } = walk;
  const [url] = settings.apiUrls;
  check(await call(settings, 'publish', { channel: 'nowhere:x', data: 1 }), { 'API, no such namespace: 102': ({ error }) => error.code === 102 });
  check(await call(settings, 'presence', { channel: walk.channel('quiet') }), { 'API, presence that is not kept: 108': ({ error }) => error.code === 108 });
  check(await call(settings, 'rpc', { method: 'x' }), { 'API, no such method to call: 104': ({ error }) => error.code === 104 });
  check(await walk.api('info'), { 'info: nodes': ({ nodes }) => nodes.length > 0 && nodes.every(({ uid }) => uid.length > 0) });
  const ask = (method, body, key) => http.asyncRequest(method, `${url}/api/publish`, body, { headers: { 'X-API-Key': key } });
  const statuses = [await ask('POST', '{}', 'wrong'), await ask('POST', '{', settings.apiKey), await ask('GET', null, settings.apiKey)].map(({ status }) => status);
  check(statuses, { 'API, wrong key, garbage, wrong verb: 401, 400, 405': (all) => same(all, [401, 400, 405]) });
  const ops = [];
  for (const path of ['/livez', '/readyz', '/metrics']) ops.push((await http.asyncRequest('GET', `${url}${path}`)).status);
  check(ops, { 'livez, readyz and metrics: 200': (all) => all.every((status) => status === 200) });
}

async function bareForm(walk) {
  const [open, shut, nowhere] = [walk.channel(), walk.channel('shut'), walk.channel('nowhere')];
  const { inbox, connection, hello } = await walk.bare([['channels', [open, shut, nowhere].join(',')]]);
  check(hello.subs, { 'bare: each channel with its answer, 103 and 102 among them': (subs) => subs[open].epoch && subs[shut].error.code === 103 && subs[nowhere].error.code === 102 });
  const other = walk.channel();
  await connection.command('subscribe', { channel: other });
  await walk.publish(other, 5);
  check(await inbox.publication(other), { 'bare: subscribe by command': ({ data }) => data === 5 });
  await connection.command('unsubscribe', { channel: other });
  const { presence: present } = await connection.command('presence', { channel: open });
  check(present, { 'bare: presence': (entries) => Object.keys(entries).length === 1 });
  check(await refusal(connection.command('publish', { channel: shut, data: 1 })), { 'bare, publish, not allowed: 103': (code) => code === 103 });
  await connection.close();
}

/** With `publish=`: what is sent is published as it is, and arrives as its data alone. */
async function echo(walk) {
  const channel = encodeURIComponent(walk.channel());
  const address = `${walk.settings.url}/ws?token=${walk.token(walk.user())}&channel=${channel}&publish=${channel}`;
  const socket = new websockets.WebSocket(address);
  const heard = [];
  socket.onmessage = ({ data }) => heard.push(data);
  socket.onopen = () => socket.send('hello');
  check(await until(() => heard[0]), { 'publish=: text comes back as text': (data) => data === 'hello' });
  socket.close();
}

async function pings(walk) {
  const { connection } = await walk.native();
  // Two: the second one comes only to who has answered the first.
  const answered = await until(() => connection.pings >= 2, 60_000);
  check(answered, { 'ping: answered, and the connection goes on': (value) => value === true });
  await connection.close();
}

/** Does every verb once. One that throws fails, and the next one is done all the same. */
export async function everyVerb(settings) {
  const walk = new Walk(settings);
  const verbs = [
    connecting, badTokensAreRefused, subscribing, privateChannels, publishing, presence, history, recovery,
    refreshing, ordersOfTheBackEnd, revoking, errorsOfTheApi, bareForm, echo, pings,
  ];
  for (const verb of verbs) {
    const failure = await verb(walk).then(() => null, (error) => error);
    if (!check(failure, { 'a verb comes to its end': (value) => value === null })) console.error(`${verb.name}: ${failure.stack || failure}`);
  }
  await walk.end();
}
