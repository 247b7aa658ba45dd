// Clients with bad tokens by the hundred: each is refused with the documented status, and those who are in notice nothing.

import { check } from 'k6';
import { load } from './lib/load.js';
import { pause } from './lib/connection.js';
import { badTokens } from './lib/token.js';
import { shake } from './lib/handshake.js';

/** Handshakes with bad tokens in a second. */
const STORM_RATE = Number(__ENV.STORM_RATE || 200);
/** A door that lets in no more handshakes for now may answer before any token is looked at. */
const REFUSED = [401, 503];

async function attack(course, settings) {
  const tokens = Object.values(badTokens(settings.secret));
  const underWay = new Set();
  for (let count = 0, due = Date.now(); !course.hasEnded; due += 1000 / STORM_RATE) {
    if (due > Date.now()) await pause(due - Date.now());
    if (course.phase === 'calm') continue;
    while (underWay.size >= STORM_RATE) await Promise.race(underWay);
    const attempt = shake(settings, tokens[count++ % tokens.length]).then(({ status }) => {
      check(status, { 'a bad token is refused': (value) => REFUSED.includes(value) });
    });
    underWay.add(attempt);
    attempt.then(() => underWay.delete(attempt));
  }
  await Promise.all(underWay);
}

export const { options, setup, sample, crowd, publisher, also, handleSummary } = load('auth_storm',
  { connections: 200, duration: '1m' }, { also: attack });
