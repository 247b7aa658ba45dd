// Every node is replaced during a normal day, and nobody notices: nothing lost, repeated or out of order. The stage
// replaces the nodes; against a deployment of your own, roll it while this runs, and set DURATION to as long as that takes.

import { load } from './lib/load.js';

export const { options, setup, sample, crowd, publisher, handleSummary } = load('rolling', { connections: 500 }, {
  // Somebody was moved, or nothing was proved.
  judged: { clarion_recovered: ['count>0'] },
});
