// Tokens as a back end signs them (RFC 7515, HS256).

import crypto from 'k6/crypto';
import encoding from 'k6/encoding';

/** How long they are good, in seconds, if the claims do not say. */
const LIFETIME = 7200;

const now = () => Math.floor(Date.now() / 1000);
const encode = (part) => encoding.b64encode(JSON.stringify(part), 'rawurl');

/** A token with these claims; `sub` names the user, `channel` makes it one for a subscription. */
export function sign(secret, claims) {
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ exp: now() + LIFETIME, ...claims })}`;
  return `${signed}.${crypto.hmac('sha256', secret, signed, 'base64rawurl')}`;
}

/** Tokens that must be refused, by what is wrong with them. */
export function badTokens(secret) {
  const unsigned = `${encode({ alg: 'none', typ: 'JWT' })}.${encode({ sub: 'eve', exp: now() + LIFETIME })}.`;
  return {
    expired: sign(secret, { sub: 'eve', exp: now() - 3600 }),
    'wrong signature': sign(`${secret} not`, { sub: 'eve' }),
    unsigned,
    'no token at all': 'garbage',
  };
}
