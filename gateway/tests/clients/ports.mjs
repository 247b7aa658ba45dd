// Ports for servers that tests start.

import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below the ports that the system gives to whoever connects somewhere: one of those may be taken before it is used. */
const FIRST = 12_000;
const COUNT = 6_000;
let next = process.pid * 97;

/** A loopback port that nobody has, and that nobody else in this process is told. */
export async function freePort() {
  for (let tries = 0; tries < COUNT; tries++) {
    const port = FIRST + (next++ % COUNT);
    const server = createServer();
    try {
      await once(server.listen(port), 'listening');
    } catch (error) {
      if (error.code === 'EADDRINUSE') continue;
      throw error;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
  throw new Error('no port is free');
}
