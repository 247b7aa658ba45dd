// A WebSocket handshake as plain HTTP: k6 tells the status of a refused one nowhere else.

const HEADERS = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', // That of RFC 6455: it is a formality.
};

export const handshake = {
  /** The address of the bare form with this token. */
  url: ({ url }, token) => `${url.replace(/^ws/, 'http')}/ws?token=${encodeURIComponent(token)}`,
  params: { headers: HEADERS, timeout: '10s', tags: { name: 'handshake' } },
};
