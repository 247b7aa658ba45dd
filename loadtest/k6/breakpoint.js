// Publications come faster and faster until the delay is too long: the knee. The rate at which it happened is the result;
// it is no failure. Delays are those of ten connections of k6 itself, so this finds the knee of the two together.

import { Gauge } from 'k6/metrics';
import { load } from './lib/load.js';

const offered = new Gauge('clarion_offered_per_second');
const SLO_MS = Number(__ENV.SLO_MS || 200);
/** How many more in a second, each second. */
const STEP = Number(__ENV.STEP || 5);

function rising(seconds, { rate }) {
  const now = rate + STEP * seconds;
  offered.add(now);
  return now;
}

const { options, ...rest } = load('breakpoint', { connections: 200, duration: '10m' }, {
  rate: rising,
});

// Whoever is interrupted comes to no end: nothing but the knee is judged, and what was seen until then.
for (const metric of ['clarion_completed', 'checks']) delete options.thresholds[metric];
options.thresholds.clarion_delivery_ms = [{ threshold: `p(99)<${SLO_MS}`, abortOnFail: true, delayAbortEval: '10s' }];

export { options };
export const { setup, sample, crowd, publisher, handleSummary } = rest;
