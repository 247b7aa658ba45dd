// A normal day: clients of both forms in rooms, publications of 1 KB, nothing lost, repeated or out of order.

import { load } from './lib/load.js';

export const { options, setup, sample, crowd, publisher, handleSummary } = load('average', {}, {
  times: { clarion_connect_ms: ['p(95)<500'], clarion_delivery_ms: ['p(99)<100'] },
});
