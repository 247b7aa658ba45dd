// Many followers in one VU: few VUs with many sockets each take half the memory of many VUs with one.

import { pause } from './connection.js';
import { Follower } from './follower.js';
import { Findings } from './place.js';
import { topOf } from './api.js';
import * as metrics from './metrics.js';

/** How long the last publications may take to arrive once the publisher has stopped. */
const PATIENCE_MS = 20_000;
const LOOK_AGAIN_MS = 100;

/** What the followers of one VU have in common. */
export class Crowd {
  followers = [];
  findings = new Findings();
  #counted = new Findings();
  #runs = [];
  #failures = 0;

  /** `hears(crowd)` gives what hears each publication and who got it; `mayBeRefused`: not everybody has to be there. */
  constructor(settings, channels, { hears = () => undefined, mayBeRefused = false } = {}) {
    this.settings = settings;
    this.channels = channels;
    this.mayBeRefused = mayBeRefused;
    this.onPublication = hears(this);
  }

  /** Adds one more; every fourth speaks the bare form. */
  add(index) {
    const follower = new Follower(this.settings, {
      user: `k6-${index}`,
      channel: this.channels[index % this.channels.length],
      isBare: index % 4 === 3,
      findings: this.findings,
      onPublication: this.onPublication,
    });
    plant(this.settings, follower, this.followers.length);
    this.followers.push(follower);
    this.#runs.push(follower.run().catch((failure) => { this.#failures += 1; console.error(failure.message); }));
  }

  /** How many are subscribed now. */
  get live() {
    return this.followers.filter(({ isLive }) => isLive).length;
  }

  /** How many ended although they should have stayed. */
  get failures() {
    return this.#failures;
  }

  /** Adds what was found since the last time to the metrics of k6. A sample for each publication would cost more. */
  report() {
    for (const [name, metric] of Object.entries(COUNTED)) {
      const since = this.findings[name] - this.#counted[name];
      this.#counted[name] = this.findings[name];
      if (since > 0) metric.add(since);
    }
  }

  /** Waits until everybody is there and has what the histories end with, but not for ever; answers whether it is so. */
  async settle() {
    const tops = {};
    for (const channel of new Set(this.followers.map(({ channel }) => channel))) {
      tops[channel] = await topOf(this.settings, channel);
    }
    const has = ({ channel, place, isLive }) =>
      (isLive ? place.offset >= (tops[channel].offset || 0) : this.mayBeRefused);
    const end = Date.now() + PATIENCE_MS;
    while (!this.followers.every(has) && Date.now() < end) await pause(LOOK_AGAIN_MS);
    const isComplete = this.followers.every(has);
    for (const { channel, place } of this.followers) {
      if (place.isKnown || !this.mayBeRefused) place.finish(tops[channel]);
    }
    return isComplete;
  }

  /** Everybody leaves. */
  async stop() {
    for (const follower of this.followers) follower.stop();
    await Promise.all(this.#runs);
    this.report();
  }
}

const COUNTED = {
  gaps: metrics.gaps,
  duplicates: metrics.duplicates,
  disorders: metrics.disorders,
  recovered: metrics.recovered,
  unrecovered: metrics.unrecovered,
  delivered: metrics.delivered,
};

/** Which publication a planted fault is about: any but the first, which only says where the client is. */
const PLANTED = 3;

/** Has one client do wrong on purpose: a judge that finds nothing proves nothing. */
function plant({ plant: fault }, { place }, index) {
  if (index !== 0 || !['drop', 'repeat', 'swap'].includes(fault)) return;
  const faithful = place.publication.bind(place);
  let held = null;
  place.publication = (publication) => {
    if (publication.offset === PLANTED && fault === 'drop') return;
    if (publication.offset === PLANTED && fault === 'swap') { held = publication; return; }
    faithful(publication);
    if (publication.offset === PLANTED && fault === 'repeat') faithful(publication);
    if (held) { faithful(held); held = null; }
  };
}
