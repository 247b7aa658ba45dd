// Hours of a normal day, with clients that come and go: what grows without end is a leak.

import { load } from './lib/load.js';
import { pause } from './lib/connection.js';

/** Clients of a hundred that lose their connection in a minute. */
const CHURN = Number(__ENV.CHURN || 1);

async function churn(crowd, course) {
  const everyMs = 60_000 / ((crowd.followers.length * CHURN) / 100);
  for (let next = Date.now() + everyMs; !course.hasEnded; await pause(100)) {
    if (Date.now() < next) continue;
    next += everyMs;
    crowd.followers[Math.floor(Math.random() * crowd.followers.length)].cut();
  }
}

export const { options, setup, sample, crowd, publisher, handleSummary } = load('soak', { duration: '30m' }, {
  during: churn,
});
