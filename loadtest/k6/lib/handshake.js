// A WebSocket handshake as plain HTTP: k6 tells the status of a refused one nowhere else.

import http from 'k6/http';

const HEADERS = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', // That of RFC 6455: it is a formality.
};

const PARAMS = { headers: HEADERS, timeout: '10s', tags: { name: 'handshake' } };

/** The answer to a handshake of the bare form with this token. The status of one that is accepted is 101. */
export async function shake({ url }, token) {
  const address = `${url.replace(/^ws/, 'http')}/ws?token=${encodeURIComponent(token)}`;
  try {
    return await http.asyncRequest('GET', address, null, PARAMS);
  } catch (failure) {
    // k6 has no answer for what is no HTTP any more.
    if (`${failure}`.includes('101')) return { status: 101, headers: {}, json: () => '' };
    throw failure;
  }
}
