// One socket, in either form: commands with their replies, pushes, and how it ended.

import websockets from './websockets.cjs';
import { sign } from './token.js';

/** How long a reply may take, in milliseconds. */
const PATIENCE_MS = 15_000;
const NATIVE_PATH = '/connection/websocket';
const BARE_PATH = '/ws';

/** Resolves after this time. */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Why a connection is not there: `code` is that of its close frame, 1006 if there was none. */
export class Closed extends Error {
  constructor(code, reason) {
    super(`closed with ${code}: ${reason}`);
    this.code = code;
    this.reason = reason;
  }
}

/** An error that the gateway answers a command with. */
export class Refused extends Error {
  constructor({ code, message }) {
    super(`${code} ${message}`);
    this.code = code;
  }
}

/** k6 before 1.6 tells the close code in the text of an error alone: `websocket: close 3001: shutdown`. */
function closeOf(event, error) {
  const [, code, reason] = /close (\d{4})(?: \([^)]*\))?(?:: (.*))?$/.exec(error) || [];
  if (code) return new Closed(Number(code), reason || '');
  if (event.code) return new Closed(event.code, event.reason || '');
  return error ? new Closed(1006, error) : new Closed(1000, '');
}

class Connection {
  #socket;
  #replies = new Map();
  #lastId = 0;
  #hasOpened = false;
  /** How many pings of the gateway were answered. */
  pings = 0;
  /** Resolves with a `Closed` when the socket has ended, or never was. */
  closed;

  /** Connects to `address`. Each push is given to `onPush` in the order of arrival, before any promise is resolved. */
  constructor(address, onPush) {
    this.onPush = onPush;
    this.#socket = new websockets.WebSocket(address);
    this.#socket.binaryType = 'arraybuffer';
    this.#socket.onmessage = ({ data }) => this.#take(data);
    this.#socket.onopen = () => { this.#hasOpened = true; this.opened(); };
    this.closed = new Promise((resolve) => {
      let error = '';
      this.#socket.onerror = (event) => { error = `${event.error || error}`; };
      this.#socket.onclose = (event) => {
        const closed = closeOf(event, error);
        this.#fail(closed);
        resolve(closed);
      };
    });
  }

  /** Whether the handshake succeeded. */
  get hasOpened() {
    return this.#hasOpened;
  }

  /** Called when the handshake has succeeded. */
  opened() {}

  /** Sends a command; its result, or a `Refused` or `Closed`. `onResult` hears it before any push that comes after it. */
  command(name, body, onResult = () => {}) {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => this.#settle(id, { failure: new Error(`no reply to ${name}`) }), PATIENCE_MS);
      this.#replies.set(id, { name, onResult, resolve, reject, late });
      this.send({ id, [name]: body });
    });
  }

  /** Sends what is not answered. */
  send(message) {
    this.#socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** Ends the connection; 1000 says that it will not come back, a code of 4000 or more that it was lost. */
  close(code = 1000) {
    this.#socket.close(code);
    return this.closed;
  }

  #take(frame) {
    for (const line of frame.split('\n')) {
      if (line === '{}') this.#pong();
      else if (line) this.#dispatch(JSON.parse(line));
    }
  }

  #pong() {
    this.pings += 1;
    this.send('{}');
  }

  #dispatch(message) {
    if (message.push) this.onPush(message.push);
    else this.#settle(message.id, message);
  }

  #settle(id, { error, failure, ...results }) {
    const waiting = this.#replies.get(id);
    if (!waiting) return;
    this.#replies.delete(id);
    clearTimeout(waiting.late);
    if (failure || error) return waiting.reject(failure || new Refused(error));
    waiting.onResult(results[waiting.name]);
    waiting.resolve(results[waiting.name]);
  }

  #fail(failure) {
    for (const id of [...this.#replies.keys()]) this.#settle(id, { failure });
  }
}

/** The native protocol: the client speaks first. `connected` resolves with the result of `connect`. */
export class Native extends Connection {
  #connect;

  constructor(url, token, onPush) {
    super(url + NATIVE_PATH, onPush);
    this.#connect = () => this.command('connect', { token });
    this.connected = new Promise((resolve, reject) => {
      this.closed.then(reject);
      this.opened = () => this.#connect().then(resolve, reject);
    });
    this.connected.catch(() => {}); // Who waits for it hears of it.
  }
}

/** The bare form: the address says it all, and the gateway speaks first. `connected` resolves with its connect push. */
export class Bare extends Connection {
  /** `parameters` are `[name, value]` pairs of the address; `onConnect` hears the push before any later one. */
  constructor(url, parameters, onPush, onConnect = () => {}) {
    const query = parameters.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
    let resolveConnected;
    super(`${url}${BARE_PATH}?${query}`, (push) => {
      if (!push.connect) return onPush(push);
      onConnect(push.connect);
      resolveConnected(push.connect);
    });
    this.connected = new Promise((resolve, reject) => {
      resolveConnected = resolve;
      this.closed.then(reject);
    });
    this.connected.catch(() => {}); // Who waits for it hears of it.
  }
}

/** A connection token of this user for `settings`. */
export const tokenOf = (settings, user, claims = {}) => sign(settings.secret, { sub: user, ...claims });
