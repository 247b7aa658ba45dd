// Many followers in one VU: few VUs with many sockets each take half the memory of many VUs with one.

import { pause } from './connection.js';
import { Follower } from './follower.js';
import { Findings } from './place.js';
import { topOf } from './api.js';
import * as metrics from './metrics.js';

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
    plant(this.settings, follower, index);
    this.followers.push(follower);
    this.#runs.push(follower.run().catch((failure) => this.#failed(failure)));
  }

  /** The others of a VU will have failed for the same reason. */
  #failed({ message }) {
    this.#failures += 1;
    if (this.#failures === 1) console.error(message);
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
    const end = Date.now() + this.settings.settleMs;
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

/** What the first clients can be told to do wrong on purpose: a judge that finds nothing proves nothing. */
const PLANTS = ['drop', 'repeat', 'swap'];
/** With which publication. */
const PLANTED = 3;

function plant({ plants }, { place }, index) {
  const fault = plants.includes(PLANTS[index]) ? PLANTS[index] : null;
  if (!fault) return;
  const faithful = place.publication.bind(place);
  let held = null;
  place.publication = (publication) => {
    const isIt = publication.offset === PLANTED;
    if (isIt && fault === 'swap') held = publication;
    else if (!isIt || fault === 'repeat') faithful(publication);
    if (isIt && fault === 'repeat') faithful(publication);
    if (!isIt && held) held = faithful(held) || null;
  };
}
