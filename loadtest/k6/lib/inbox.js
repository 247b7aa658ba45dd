// Pushes to wait for: what has arrived and was not asked for yet stays.

import { pause } from './connection.js';

/** How long a fact may take before it counts as missing. Nothing waits this long when all is well. */
const PATIENCE_MS = 15_000;

/** Asks `probe` until it answers something true, and answers with that; `undefined` when it never does. */
export async function until(probe, patienceMs = PATIENCE_MS) {
  for (const end = Date.now() + patienceMs; Date.now() < end; await pause(20)) {
    const answer = await probe();
    if (answer) return answer;
  }
  return undefined;
}

/** Give `put` to a connection, as what hears its pushes. */
export class Inbox {
  constructor() {
    this.pushes = [];
    this.put = (push) => this.pushes.push(push);
  }

  /** Takes the oldest push for which `isWanted(push)`; `{}` when none comes. */
  async take(isWanted) {
    const index = await until(() => 1 + this.pushes.findIndex(isWanted));
    return index ? this.pushes.splice(index - 1, 1)[0] : {};
  }

  /** The next publication in this channel. */
  async publication(channel) {
    const { pub = {} } = await this.take((push) => push.channel === channel && push.pub);
    return pub;
  }
}
