// Whether the judge finds what it is for: streams that are right and wrong, by what has to be found in them.

import { check } from 'k6';
import { Findings, Place } from './lib/place.js';
import { seconds, settings } from './lib/settings.js';
import { summary } from './lib/summary.js';
import { completed } from './lib/metrics.js';
import { complete } from './lib/load.js';

export const options = { thresholds: { checks: ['rate==1.0'], ...complete(1) } };

export const handleSummary = summary('selftest', settings());

const at = (offset) => ({ offset });
const back = (offset, publications, more = {}) =>
  ({ epoch: 'e', offset, was_recovering: true, recovered: true, publications: publications.map(at), ...more });

/** What is found when a client that began at `e:0` is given `steps`, and the history ends with `end`. */
function judge(steps, end) {
  const findings = new Findings();
  const place = new Place(findings);
  place.subscribed({ epoch: 'e' });
  for (const step of steps) {
    if (typeof step === 'number') place.publication(at(step));
    else place.subscribed(step);
  }
  place.finish({ epoch: 'e', offset: end });
  const { gaps, duplicates, disorders, recovered, unrecovered } = findings;
  return [gaps, duplicates, disorders, recovered, unrecovered].join(' ');
}

//                                                           gaps, duplicates, disorders, recovered, unrecovered
const STREAMS = {
  'all in order': [[1, 2, 3], 3, '0 0 0 0 0'],
  'one missing': [[1, 3], 3, '1 0 0 0 0'],
  'the end missing': [[1], 4, '3 0 0 0 0'],
  'nothing came': [[], 2, '2 0 0 0 0'],
  'one twice': [[1, 2, 2, 3], 3, '0 1 0 0 0'],
  'an old one again': [[1, 2, 3, 1], 3, '0 1 0 0 0'],
  'two changed places': [[1, 3, 2, 4], 4, '0 0 1 0 0'],
  'late and twice': [[1, 3, 2, 2], 3, '0 1 1 0 0'],
  'caught up': [[1, back(1, [2, 3]), 4], 4, '0 0 0 1 0'],
  'caught up with nothing': [[1, back(1, [])], 1, '0 0 0 1 0'],
  'caught up with one too few': [[1, back(1, [2]), 4], 4, '1 0 0 1 0'],
  'caught up from another place': [[1, back(2, [3])], 3, '2 0 0 1 0'],
  'what was caught up with comes again': [[1, back(1, [2, 3]), 3], 3, '0 1 0 1 0'],
  'told that it is lost': [[1, { epoch: 'e', offset: 5, was_recovering: true }, 6], 6, '0 0 0 0 1'],
  'another epoch': [[1, { epoch: 'f', offset: 5, was_recovering: true }], 5, '5 0 0 0 1'],
  'begun anew without a word': [[1, { epoch: 'e', offset: 3 }, 4], 4, '2 0 0 0 0'],
  'a hole before it was told': [[1, 3, { epoch: 'e', offset: 5, was_recovering: true }], 5, '1 0 0 0 1'],
  'more holes than are remembered': [[1], 50_001, '50000 0 0 0 0'],
};

export default function () {
  for (const [name, [steps, end, expected]] of Object.entries(STREAMS)) {
    const found = judge(steps, end);
    if (!check(found, { [name]: (value) => value === expected })) console.error(`${name}: ${found}, not ${expected}`);
  }
  check(seconds, {
    'durations are read': (read) => read('90s') === 90 && read('1h30m') === 5400 && read('500ms') === 0.5,
    'nonsense is not': (read) => { try { read('5 parsecs'); return false; } catch (_) { return true; } },
  });
  completed.add(1);
}
