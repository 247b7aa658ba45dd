// The official JavaScript SDK as the tests use it: clients and subscriptions whose events wait to be read.

import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { Inbox } from './support.mjs';

export { WebSocket };

/** An SDK client that ends with the test; every event of it waits in `events[name]`. */
export function clientOf(t, gateway, { url = gateway.nativeUrl, ...options } = {}) {
  const client = new Centrifuge(url, {
    websocket: WebSocket,
    minReconnectDelay: 20,
    maxReconnectDelay: 100,
    ...options,
  });
  t.after(() => client.disconnect());
  const names = [
    'connecting', 'connected', 'disconnected', 'error',
    // Of the subscriptions that the server makes.
    'subscribing', 'subscribed', 'publication', 'join', 'leave', 'unsubscribed',
  ];
  return { client, events: inboxes(client, names) };
}

/** An inbox for each of the events of `emitter`. */
export function inboxes(emitter, names) {
  return Object.fromEntries(names.map((name) => {
    const inbox = new Inbox();
    emitter.on(name, inbox.push);
    return [name, inbox];
  }));
}

/** A client of `user` that has connected; `claims` are added to its token. */
export async function connect(t, gateway, user, claims, options) {
  const { client, events } = clientOf(t, gateway, { token: gateway.token(user, claims), ...options });
  client.connect();
  const { client: id } = await events.connected.next('connected');
  return { client, events, id };
}

/** A subscription that is on its way. */
export function subscribe(client, channel, options) {
  const subscription = client.newSubscription(channel, options);
  const events = inboxes(subscription, ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error']);
  subscription.subscribe();
  return { subscription, events };
}

/** A subscription that is made, with its `context`. */
export async function join(client, channel, options) {
  const joined = subscribe(client, channel, options);
  const context = await joined.events.subscribed.next(`subscribed to ${channel}`);
  return { ...joined, context };
}

/** Whether an error has the code that is `expected`. */
export const code = (expected) => (error) => error.code === expected;

/** Seconds since 1970, `seconds` from now, as tokens have them. */
export const after = (seconds) => Date.now() / 1000 + seconds;

/** A WebSocket class, and an inbox with every message of the gateway that has the field `name`. */
export function listening(name) {
  const heard = new Inbox();
  class Listening extends WebSocket {
    constructor(...args) {
      super(...args);
      this.on('message', (frame) => String(frame).split('\n')
        .map((line) => JSON.parse(line)).filter((message) => name in message).forEach(heard.push));
    }
  }
  return { websocket: Listening, heard };
}
