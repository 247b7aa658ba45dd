// One channel, many subscribers: how long until the last of them has a publication.

import { lastReceiverMs } from './lib/metrics.js';
import { load } from './lib/load.js';

/** How many publications are remembered at a time: one that somebody misses is never complete. */
const REMEMBERED = 1000;

/** Counts who of a crowd has got each publication. The last one says how long it took. */
function lastReceiver(crowd) {
  const heard = new Map();
  return ({ offset, data }) => {
    const count = (heard.get(offset) || 0) + 1;
    heard.set(offset, count);
    heard.delete(offset - REMEMBERED);
    if (count < crowd.followers.length) return;
    heard.delete(offset);
    lastReceiverMs.add(Date.now() - data.at);
  };
}

const defaults = { connections: 500, channels: 1, rate: 4, payloadBytes: 100 };

export const { options, setup, sample, crowd, publisher, handleSummary } = load('fanout', defaults, {
  hears: lastReceiver,
  times: { clarion_last_receiver_ms: ['p(99)<500'] },
});
