// A client that stays: it follows one channel, comes back when it is sent away or cut off, and recovers.

import { Bare, Native, Refused, tokenOf } from './connection.js';
import { Place } from './place.js';
import * as metrics from './metrics.js';

const DELAY_MIN_MS = 500;
const DELAY_MAX_MS = 20_000;
/** Closes after which a client must not come back. */
const isFinal = (code) => (code >= 3500 && code < 4000) || code >= 4500;

/** Errors that say: try again later. */
const TEMPORARY = [100, 111];

/** The back-off of the SDKs; without jitter everybody comes back in the same moment. */
export function delayMs(failures, jitter) {
  const reach = Math.min(DELAY_MIN_MS * 2 ** failures, DELAY_MAX_MS);
  return Math.min(DELAY_MIN_MS + (jitter ? Math.random() * reach : 0), DELAY_MAX_MS);
}

let hasWarned = false;

/** Counts how a connection ended; the first handshake that fails in a VU is told in words as well. */
function count(connection, { code, reason }) {
  if (connection.hasOpened) return metrics.closed.add(1, { code: `${code}` });
  metrics.refused.add(1);
  if (!hasWarned) console.warn(`a handshake failed: ${reason}`);
  hasWarned = true;
}

/** One client of a crowd. */
export class Follower {
  isLive = false;
  #settings;
  #user;
  #isBare;
  #onPublication;
  #connection = null;
  #hasEnded = false;
  #lostAt = 0;
  /** Ends the wait before the next attempt. */
  #wake = () => {};

  /** Follows `channel` and reports to `findings`; `onPublication` hears each publication as well. */
  constructor(settings, { user, channel, isBare, findings, onPublication = () => {} }) {
    this.#settings = settings;
    this.#user = user;
    this.#isBare = isBare;
    this.#onPublication = onPublication;
    this.channel = channel;
    this.place = new Place(findings);
  }

  /** Connects and comes back, until it is stopped or told to stay away. */
  async run() {
    for (let failures = 0; !this.#hasEnded; ) {
      const { wasLive, code } = await this.#session();
      if (this.#hasEnded) return;
      if (isFinal(code)) throw new Error(`${this.#user} was told to stay away: ${code}`);
      failures = wasLive ? 0 : failures + 1;
      await this.#wait(delayMs(failures, this.#settings.jitter));
    }
  }

  /** Loses its connection, as in a tunnel; it will come back. */
  cut() {
    if (this.#connection) this.#connection.close(4000);
  }

  /** Leaves for good. */
  async stop() {
    this.#hasEnded = true;
    this.#wake();
    if (this.#connection) await this.#connection.close();
  }

  #wait(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => { clearTimeout(timer); resolve(); };
    });
  }

  async #session() {
    const begunAt = Date.now();
    const connection = this.#isBare ? this.#bare() : this.#native();
    this.#connection = connection;
    const wasLive = await this.#begin(connection, begunAt);
    const closed = await connection.closed;
    this.#connection = null;
    this.isLive = false;
    if (wasLive) this.#lostAt = Date.now();
    if (!this.#hasEnded) count(connection, closed);
    return { wasLive, code: closed.code };
  }

  /** Whether it has come so far that publications arrive. What is refused for good is an error. */
  async #begin(connection, begunAt) {
    try {
      const { subs = {} } = await connection.connected;
      metrics.connectMs.add(Date.now() - begunAt);
      if (this.#isBare) this.#mustBeIn(subs);
      else await this.#subscribe(connection);
    } catch (failure) {
      connection.close(4000);
      const isRefused = failure instanceof Refused && !TEMPORARY.includes(failure.code);
      if (isRefused) throw new Error(`${this.#user} is refused in ${this.channel}: ${failure.message}`);
      return false;
    }
    this.isLive = true;
    if (this.#lostAt) metrics.returnMs.add(Date.now() - this.#lostAt);
    return true;
  }

  #mustBeIn(subs) {
    const { error } = subs[this.channel];
    if (error) throw new Refused(error);
  }

  #native() {
    return new Native(this.#settings.url, tokenOf(this.#settings, this.#user), (push) => this.#take(push));
  }

  async #subscribe(connection) {
    const begunAt = Date.now();
    const { epoch, offset } = this.place;
    const since = this.#recovers ? { recover: true, epoch, offset } : {};
    const onResult = (result) => this.#subscribed(result);
    await connection.command('subscribe', { channel: this.channel, ...since }, onResult);
    metrics.subscribeMs.add(Date.now() - begunAt);
  }

  #bare() {
    const since = this.#recovers ? [['since', `${this.channel}@${this.place.epoch}:${this.place.offset}`]] : [];
    const token = tokenOf(this.#settings, this.#user);
    const parameters = [['token', token], ['channel', this.channel], ...since];
    const onConnect = ({ subs }) => { if (!subs[this.channel].error) this.#subscribed(subs[this.channel]); };
    return new Bare(this.#settings.url, parameters, (push) => this.#take(push), onConnect);
  }

  get #recovers() {
    return this.place.isKnown && !this.#settings.plants.includes('forget');
  }

  #subscribed(result) {
    this.place.subscribed(result);
    for (const publication of result.publications || []) this.#onPublication(publication, this);
  }

  #take(push) {
    if (push.pub) {
      this.#onPublication(push.pub, this);
      this.place.publication(push.pub);
    } else if (push.unsubscribe && push.unsubscribe.code >= 2500) {
      this.cut(); // It missed something, and begins anew from its place.
    }
  }
}
