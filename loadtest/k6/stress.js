// Twice as many clients as may be connected. A gateway that is full says so and goes on: who is in loses nothing, who is
// not is told when to come again, and nobody is told anything that is not documented.

import { check } from 'k6';
import { load } from './lib/load.js';
import { pause, tokenOf } from './lib/connection.js';
import { shake } from './lib/handshake.js';

/** What a node that is full may answer; docs/overload.md. */
const DOCUMENTED = ['rate', 'connections_max', 'memory', 'files'];

async function ask(course, settings) {
  const token = tokenOf(settings, 'k6-asks');
  for (; !course.hasEnded; await pause(500)) {
    const response = await shake(settings, token);
    if (response.status === 101) continue; // There was room.
    check(response, {
      'a refusal is a 503 with Retry-After': ({ status, headers }) => status === 503 && Number(headers['Retry-After']) > 0,
      'a refusal has a documented code': (answer) => DOCUMENTED.includes(answer.json('code')),
    });
  }
}

export const { options, setup, sample, crowd, publisher, also, handleSummary } = load('stress', { connections: 1000 }, {
  mayBeRefused: true,
  also: ask,
  judged: { clarion_refused: ['count>0'] },
});
