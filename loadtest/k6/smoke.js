// Every verb once, in both forms, beside a few clients that are cut off and have to miss nothing.

import { load } from './lib/load.js';
import { pause } from './lib/connection.js';
import { everyVerb } from './lib/verbs.js';

async function cutOnce(crowd, course) {
  while (course.phase === 'calm') await pause(50);
  for (const follower of crowd.followers) follower.cut();
}

const defaults = { connections: 10, duration: '10s', channels: 2, rate: 10, payloadBytes: 100 };

export const { options, setup, sample, crowd, publisher, also, handleSummary } = load('smoke', defaults, {
  during: cutOnce,
  also: (course, settings) => everyVerb(settings),
  judged: { clarion_recovered: ['count>0'] },
});
