// Everybody loses the connection at once and comes back, with jitter or, with JITTER=off, all in the same moment. The
// stage kills every node and starts it again; elsewhere the clients cut themselves off when a third of the time is over.

import { load } from './lib/load.js';
import { pause } from './lib/connection.js';

async function cutOnce(crowd, course) {
  if (course.settings.stageUrl) return;
  while (course.phase === 'calm') await pause(50);
  for (const follower of crowd.followers) follower.cut();
}

// While no node is there a back end tries again until it is acknowledged.
const defaults = { duration: '1m', patience: '60s' };

export const { options, setup, sample, crowd, publisher, handleSummary } = load('spike_reconnect', defaults, {
  during: cutOnce,
  judged: { clarion_recovered: ['count>0'] },
  times: { clarion_return_ms: ['p(95)<15000'] },
});
