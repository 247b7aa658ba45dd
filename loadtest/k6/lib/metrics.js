// What is counted and timed, under one spelling. Times are those of k6 itself, scheduling included: see the README.

import { Counter, Trend } from 'k6/metrics';

/** From the first byte of the handshake to the reply to `connect`. */
export const connectMs = new Trend('clarion_connect_ms', true);
/** From `subscribe` to its reply. */
export const subscribeMs = new Trend('clarion_subscribe_ms', true);
/** From the publisher's clock in the payload to the subscriber: one machine, or clocks that agree. */
export const deliveryMs = new Trend('clarion_delivery_ms', true);
/** From one publication to its last receiver among the connections of one VU. */
export const lastReceiverMs = new Trend('clarion_last_receiver_ms', true);
/** One call of the publish API. */
export const publishMs = new Trend('clarion_publish_ms', true);
/** From a lost connection until the client is subscribed again and has what it missed. */
export const returnMs = new Trend('clarion_return_ms', true);

/** Publications that a client should have got, did not get, and was not told of. */
export const gaps = new Counter('clarion_gap');
/** Publications that a client got twice. */
export const duplicates = new Counter('clarion_dup');
/** Publications that came after later ones. */
export const disorders = new Counter('clarion_out_of_order');
/** Subscriptions that caught up with everything after a cut. */
export const recovered = new Counter('clarion_recovered');
/** Subscriptions that were told that they cannot catch up. */
export const unrecovered = new Counter('clarion_unrecovered');
/** Connections that ended, by `code`. */
export const closed = new Counter('clarion_closed');
/** Handshakes that were refused or failed. */
export const refused = new Counter('clarion_refused');
/** Publications that arrived. */
export const delivered = new Counter('clarion_delivered');
/** Publications that were acknowledged to the publisher. */
export const published = new Counter('clarion_published');
/** Publications that failed, the retry included. */
export const publishErrors = new Counter('clarion_publish_error');
/** Iterations that came to their end: one that threw has checked nothing after that. */
export const completed = new Counter('clarion_completed');
