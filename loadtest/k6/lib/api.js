// The back end: the server API over HTTP, and a publisher at a steady rate.

import http from 'k6/http';
import { pause } from './connection.js';
import * as metrics from './metrics.js';

/** Publications under way at a time; a gateway that answers slower than that is not sent more. */
const IN_FLIGHT_MAX = 500;

/** Between two attempts of a publisher with patience. */
const AGAIN_MS = 200;

function request(settings, method, attempt = 0) {
  const url = settings.apiUrls[attempt % settings.apiUrls.length];
  const headers = { 'X-API-Key': settings.apiKey, 'Content-Type': 'application/json' };
  return [`${url}/api/${method}`, { headers, tags: { name: method }, timeout: '10s' }];
}

/** Calls a method; the body of the answer: `{result}` or `{error}`. Fails if there is no answer or it is not 200. */
export async function call(settings, method, body = {}, attempt = 0) {
  const [url, params] = request(settings, method, attempt);
  const response = await http.asyncRequest('POST', url, JSON.stringify(body), params);
  if (response.status !== 200) throw new Error(`${method}: HTTP ${response.status} ${response.error}`);
  return JSON.parse(response.body); // `json()` of k6 forgets the order of keys.
}

/** The result of a method; its error is a failure. */
export async function api(settings, method, body, attempt) {
  const { result, error } = await call(settings, method, body, attempt);
  if (error) throw new Error(`${method}: ${error.code} ${error.message}`);
  return result;
}

/** Where the history of a channel ends now. */
export const topOf = (settings, channel) => api(settings, 'history', { channel, limit: 0 });

/**
 * Publishes with a key that makes a retry harmless, and tries once more, on another node where one is known; with
 * `settings.patienceMs` again and again for so long.
 */
export async function publish(settings, channel, key, padding = '') {
  const begunAt = Date.now();
  const publication = { channel, data: { at: begunAt, padding }, idempotency_key: key };
  for (let attempt = 0; ; attempt += 1) {
    try {
      await api(settings, 'publish', publication, attempt);
      metrics.publishMs.add(Date.now() - begunAt);
      metrics.published.add(1);
      return;
    } catch (failure) {
      if (attempt === 0) continue;
      if (Date.now() - begunAt >= settings.patienceMs) return notPublished(failure);
      await pause(AGAIN_MS);
    }
  }
}

function notPublished(failure) {
  console.error(`not published: ${failure.message}`);
  metrics.publishErrors.add(1);
}

/** Publishes to `channels` in turn, `rate(secondsSinceStart)` times a second, until `ended()`. */
export async function publishSteadily(settings, channels, rate, ended) {
  const padding = 'x'.repeat(Math.max(0, settings.payloadBytes - 40));
  const run = `${Date.now()}`;
  const underWay = new Set();
  const startedAt = Date.now();
  for (let due = startedAt, count = 0; !ended(); count += 1) {
    // Against a clock of its own: a slow answer does not slow down what comes after it.
    due += 1000 / rate((due - startedAt) / 1000);
    if (due > Date.now()) await pause(due - Date.now());
    while (underWay.size >= IN_FLIGHT_MAX) await Promise.race(underWay);
    const publication = publish(settings, channels[count % channels.length], `${run}-${count}`, padding);
    underWay.add(publication);
    publication.then(() => underWay.delete(publication));
  }
  await Promise.all(underWay);
}
