// What every test file needs: a gateway of its own, tokens for it, and waiting for facts.
// The tests know the gateway by its command line, its configuration file and its sockets only.

import { spawn } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { access, constants, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from './ports.mjs';

export { freePort };

/** How long a fact may take before the test fails. Nothing waits this long when all is well. */
const DEADLINE_MS = 15_000;
/** A drain may spread its closes over 25 s by default. */
export const DRAIN_DEADLINE_MS = 40_000;

/** Resolves as `promise`, or fails naming `what` did not happen in time. */
export async function within(promise, what, deadlineMs = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${deadlineMs} ms`)), deadlineMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks `probe` until it answers something true, and returns that. */
export async function until(probe, what) {
  const end = Date.now() + DEADLINE_MS;
  while (Date.now() < end) {
    const answer = await probe();
    if (answer) return answer;
    await pause(20);
  }
  throw new Error(`${what}: not within ${DEADLINE_MS} ms`);
}

/** A queue between callbacks and tests: `push` from an event, `await next()` in order. */
export class Inbox {
  #items = [];
  #waiting = [];

  push = (item) => {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(item);
    else this.#items.push(item);
  };

  /** The oldest item not yet taken; `what` names it in the failure. */
  next(what = 'the next item', deadlineMs = DEADLINE_MS) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), what, deadlineMs);
  }

  get isEmpty() {
    return this.#items.length === 0;
  }
}

/** A TCP line to a loopback port that can be cut and mended. Ends with the test or suite `t` that laid it. */
export class Line {
  #sockets = new Set();
  #isCut = false;
  #server;

  static async to(t, port) {
    const line = new Line();
    line.#server = createServer((near) => line.#forward(near, port)).listen(0, '127.0.0.1');
    await once(line.#server, 'listening');
    t.after(() => { line.cut(); line.#server.close(); });
    return line;
  }

  /** Where to connect instead of the port. */
  get host() {
    return `127.0.0.1:${this.#server.address().port}`;
  }

  /** Breaks off what is connected and whatever tries to, until `mend`. */
  cut() {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#isCut = false;
  }

  #forward(near, port) {
    if (this.#isCut) return near.destroy();
    const far = createConnection({ host: '127.0.0.1', port });
    for (const [socket, other] of [[near, far], [far, near]]) {
      this.#sockets.add(socket);
      socket.on('error', () => {}); // Its close says enough.
      socket.on('close', () => { this.#sockets.delete(socket); other.destroy(); });
      socket.pipe(other);
    }
  }
}

/** The path of `program`, or a failure that says what to install. */
export async function requireProgram(program, debianPackage) {
  const candidates = program.includes('/')
    ? [program]
    : process.env.PATH.split(delimiter).map((directory) => join(directory, program));
  for (const candidate of candidates) {
    const found = await access(candidate, constants.X_OK).then(() => true, () => false);
    if (found) return candidate;
  }
  throw new Error(`${program} is missing: install the Debian package ${debianPackage} (./install.sh does)`);
}

/** Runs a program to its end and returns its standard output; a failure carries what it said. */
export async function run(command, args, env = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (bytes) => { stdout += bytes; });
  child.stderr.on('data', (bytes) => { stderr += bytes; });
  const [code] = await within(once(child, 'close'), `the end of ${command}`);
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${stderr || stdout}`);
  return stdout;
}

/** Serves `routes` (path → `[content type, text]`, or a function giving that) on a free loopback port. */
export async function servePages(t, routes) {
  const server = createHttpServer((request, response) => {
    const route = routes[new URL(request.url, 'http://page').pathname];
    const [type, text] = (typeof route === 'function' ? route() : route) ?? ['text/plain', ''];
    response.writeHead(route ? 200 : 204, { 'content-type': type }).end(text);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}`;
}

/** Runs `setUp(t)` once before the tests of a suite; what it hands to `t.after` runs once after them. */
export function beforeAll(setUp) {
  const ends = [];
  before(() => setUp({ after: (end) => ends.push(end) }));
  after(async () => {
    for (const end of ends.reverse()) await end();
  });
}

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** One gateway process. Ends with the test or suite `t` that started it. */
export class Gateway {
  #child;
  #output = '';
  #launch;

  /** `clarion serve` with permissive test settings; `overrides(config)` may change any of them. */
  static async serve(t, overrides = () => {}) {
    const { publicPort, internalPort, secret, apiKey } = await identityOfGateway();
    const config = {
      public: { address: '127.0.0.1', port: publicPort },
      internal: { address: '127.0.0.1', port: internalPort },
      client: { allowed_origins: [], token: { hmac_secret_key: secret } },
      api: { keys: [apiKey] },
      drain: { delay: '0s', window: '0s' },
      channel: {
        without_namespace: { allow_user_limited_channels: true },
        namespaces: [
          { name: 'open', allow_subscribe_for_client: true, allow_publish_for_client: true },
          { name: 'read', allow_subscribe_for_client: true },
          { name: 'shut' },
        ],
      },
    };
    overrides(config);
    const directory = await mkdtemp(join(tmpdir(), 'clarion-'));
    t.after(() => rm(directory, { recursive: true }));
    const file = join(directory, 'clarion.yaml');
    await writeFile(file, JSON.stringify(config, null, 2)); // JSON is YAML.
    return Gateway.#startFor(t, { arguments: ['serve', '--config', file], publicPort, internalPort, secret, apiKey });
  }

  /** `clarion serve` with an existing file, which lacks ports and secrets: those come from the environment. */
  static async serveFile(t, file) {
    const { publicPort, internalPort, secret, apiKey } = await identityOfGateway();
    const environment = {
      CLARION__PUBLIC__PORT: `${publicPort}`,
      CLARION__INTERNAL__PORT: `${internalPort}`,
      CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY: secret,
      CLARION__API__KEYS: JSON.stringify([apiKey]),
      CLARION__DRAIN__DELAY: '0s',
      CLARION__DRAIN__WINDOW: '0s',
    };
    return Gateway.#startFor(t, { arguments: ['serve', '--config', file], environment, publicPort, internalPort, secret, apiKey });
  }

  /** `clarion dev` on a free port, everything on that one. Its secrets are its own. */
  static async dev(t, environment = {}) {
    const port = await freePort();
    return Gateway.#startFor(t, { arguments: ['dev', '--port', `${port}`], environment, publicPort: port, internalPort: port });
  }

  static async #startFor(t, launch) {
    const gateway = new Gateway(launch);
    t.after(() => gateway.stop('SIGKILL'));
    await gateway.start();
    return gateway;
  }

  constructor(launch) {
    this.#launch = launch;
    this.secret = launch.secret;
    this.apiKey = launch.apiKey;
    this.host = `127.0.0.1:${launch.publicPort}`;
    this.nativeUrl = `ws://${this.host}/connection/websocket`;
    this.internalUrl = `http://127.0.0.1:${launch.internalPort}`;
  }

  /** Starts the process, again after `stop`, and returns when it is ready. */
  async start() {
    const binary = process.env.CLARION_BIN;
    if (!binary) throw new Error('CLARION_BIN is not set: give the path of the clarion binary');
    const child = spawn(binary, this.#launch.arguments, {
      env: { ...process.env, ...this.#launch.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    running.add(child);
    child.once('close', () => running.delete(child));
    const failed = once(child, 'close').then(([code, signal]) => {
      throw new Error(`clarion ended (${signal ?? code}) before it was ready:\n${this.#output}`);
    });
    failed.catch(() => {}); // It ends some day; only before readiness is that a failure.
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes) => { this.#output += bytes; });
    }
    await Promise.race([failed, until(() => this.#isReady(), 'readiness of clarion')]);
  }

  async #isReady() {
    return fetch(`${this.internalUrl}/readyz`).then((response) => response.ok, () => false);
  }

  /** Sends `signal` to this process alone and waits for its end. */
  async stop(signal) {
    if (!running.has(this.#child)) return;
    const ended = once(this.#child, 'close');
    this.#child.kill(signal);
    await within(ended, `the end of clarion after ${signal}`, DRAIN_DEADLINE_MS);
  }

  /** The line that it printed with `label` in it, once it did. */
  printed(label) {
    return until(() => this.#output.split('\n').slice(0, -1).find((line) => line.includes(label)), `a line with ${label}`);
  }

  /** Calls the server API and returns the result; an error of the API is a failure. */
  async api(method, body = {}) {
    const response = await fetch(`${this.internalUrl}/api/${method}`, {
      method: 'POST',
      headers: { 'X-API-Key': this.apiKey, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method}: HTTP ${response.status}`);
    const { result, error } = await response.json();
    if (error) throw new Error(`${method}: ${error.code} ${error.message}`);
    return result;
  }

  /** A connection token for `user`; `claims` are added to `sub` and `exp`. */
  token(user, claims = {}) {
    return signToken(this.secret, { sub: user, exp: Math.floor(Date.now() / 1000) + 600, ...claims });
  }

  /** The address of the bare form: `parameters` as `[name, value]` pairs, encoded. */
  bareUrl(parameters) {
    return `ws://${this.host}/ws?${new URLSearchParams(parameters)}`;
  }
}

async function identityOfGateway() {
  return {
    publicPort: await freePort(),
    internalPort: await freePort(),
    secret: randomBytes(32).toString('hex'),
    apiKey: randomBytes(16).toString('hex'),
  };
}

function signToken(secret, claims) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}
