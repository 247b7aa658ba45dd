// What the loads have in common: a crowd that follows, a few connections whose delays are measured, and a publisher.

import { check } from 'k6';
import exec from 'k6/execution';
import { publishSteadily } from './api.js';
import { pause } from './connection.js';
import { Crowd } from './crowd.js';
import { settings as read } from './settings.js';
import { Course } from './stage.js';
import { summary } from './summary.js';
import * as metrics from './metrics.js';

/** Delays are measured on so few connections, in a VU of their own: k6 is late where it has many to serve. */
const SAMPLES_MAX = 10;
/** How long a run may take beyond its duration: clients are waited for, at the start and at the end. */
const SLACK_SECONDS = 180;

/** No publication lost, repeated or out of order, and something to judge: counts, which do not depend on the machine. */
const FAITHFUL = {
  clarion_gap: ['count==0'],
  clarion_dup: ['count==0'],
  clarion_out_of_order: ['count==0'],
  clarion_unrecovered: ['count==0'],
  clarion_publish_error: ['count==0'],
  clarion_delivered: ['count>0'],
  checks: ['rate==1.0'],
};

/** Closes that are told apart in the summary: the network, and what the gateway says. */
const CODES = [1006, 1012, 3001, 3005, 3008, 3010, 3012, 4000];

/** Nothing is asked of these; k6 tells parts of a metric apart only where there is a threshold. */
const TOLD = {
  'clarion_delivery_ms{phase:calm}': ['p(99)>=0'],
  'clarion_delivery_ms{phase:event}': ['p(99)>=0'],
  ...Object.fromEntries(CODES.map((code) => [`clarion_closed{code:${code}}`, ['count>=0']])),
};

/** How many times an iteration has to come to its end: a check that was never reached has not failed, to k6. */
export const complete = (count) => ({ clarion_completed: [`count==${count}`] });

/** A scenario in which each of `vus` VUs runs `name` once. */
function once(name, vus, settings) {
  const maxDuration = `${settings.durationSeconds + SLACK_SECONDS}s`;
  return { executor: 'per-vu-iterations', exec: name, vus, iterations: 1, maxDuration, gracefulStop: '10s' };
}

/**
 * Everything that a load script exports.
 *
 * - `defaults`: those of its settings.
 * - `times`: thresholds of time, which decide with `TIMES=judge`; `judged`: thresholds that always do.
 * - `rate(seconds, settings)`: how often is published then.
 * - `hears(crowd)`: what hears the publications of a crowd. Those of the sampled connections are timed.
 * - `during(crowd, course)`: what a VU does beside following, until the course has ended.
 * - `also(course, settings)`: what one more VU does.
 * - `mayBeRefused`: not everybody has to be connected at the end.
 */
export function load(name, defaults, { times = {}, judged = {}, rate, hears, during, also, mayBeRefused } = {}) {
  const settings = read(defaults);
  if (!settings.secret || !settings.apiKey) throw new Error('set SECRET, which signs tokens, and API_KEY');
  const samples = Math.min(SAMPLES_MAX, settings.connections);
  const vus = Math.ceil((settings.connections - samples) / settings.perVu);
  const scenarios = { sample: once('sample', 1, settings), publisher: once('publisher', 1, settings) };
  if (vus > 0) scenarios.crowd = once('crowd', vus, settings);
  if (also) scenarios.also = once('also', 1, settings);

  /** Follows with the clients from `first` to `last`, until the end. */
  async function follow(start, first, last, hearing) {
    const course = new Course(settings, start);
    const crowd = new Crowd(settings, course.channels, { hears: hearing(course), mayBeRefused });
    const watching = course.watch(() => crowd.report());
    for (let index = first; index < last && !course.hasEnded; index += 1) {
      crowd.add(index);
      await pause((1000 / settings.ramp) * (vus + 1));
    }
    if (during) await during(crowd, course);
    await watching;
    const isComplete = await crowd.settle();
    check(crowd, {
      'everybody has everything': () => isComplete,
      'nobody was told to stay away': ({ failures }) => failures === 0,
    });
    await crowd.stop();
    metrics.completed.add(1);
  }

  /** Does `what` beside a course, to its end. */
  async function beside(start, what) {
    const course = new Course(settings, start);
    const watching = course.watch();
    await what(course);
    await watching;
    metrics.completed.add(1);
  }

  return {
    options: {
      scenarios,
      thresholds: {
        ...FAITHFUL,
        ...TOLD,
        ...complete(Object.values(scenarios).reduce((sum, scenario) => sum + scenario.vus, 0)),
        ...judged,
        ...(__ENV.TIMES === 'judge' ? times : {}),
      },
      summaryTrendStats: ['min', 'med', 'p(95)', 'p(99)', 'max', 'count'],
    },
    setup: () => ({ startedAt: Date.now(), run: Date.now().toString(36) }),
    sample: (start) => follow(start, 0, samples, timed),
    crowd: (start) => {
      const first = samples + exec.scenario.iterationInTest * settings.perVu;
      return follow(start, first, Math.min(first + settings.perVu, settings.connections), () => hears);
    },
    publisher: (start) => beside(start, (course) => {
      const pace = rate ? (seconds) => rate(seconds, settings) : () => settings.rate;
      return publishSteadily(settings, course.channels, pace, () => course.hasEnded);
    }),
    also: (start) => beside(start, (course) => also(course, settings)),
    handleSummary: summary(name, settings),
  };
}

/** Measures how long each live publication took; one that was recovered is older for a reason. */
const timed = (course) => () => ({ data }, { isLive }) => {
  if (isLive) metrics.deliveryMs.add(Date.now() - data.at, { phase: course.phase });
};
