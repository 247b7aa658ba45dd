// Some subscribers stop reading; the others notice nothing. k6 reads whatever comes and cannot be made to stop, so
// those who do not read are sockets of the stage, which joins them when a third of the time is over.

import { load } from './lib/load.js';

const defaults = { connections: 200, duration: '1m', channels: 1, rate: 10, payloadBytes: 4096 };

export const { options, setup, sample, crowd, publisher, handleSummary } = load('slow_consumer', defaults);
