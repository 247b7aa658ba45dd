// The compose file, without containers: read by Docker's own loader, checked by the programs it starts, and played with
// those programs on loopback addresses of their own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { WebSocket, connect, join as subscribe } from '../../gateway/tests/clients/sdk.mjs';
import { DRAIN_DEADLINE_MS, Gateway, beforeAll, freePort, run, until, within } from '../../gateway/tests/clients/support.mjs';

process.env.PATH += ':/usr/sbin:/sbin';

const DEPLOY = new URL('../', import.meta.url).pathname;
const LOADER = new URL('.tools/compose', import.meta.url).pathname;
const SECRETS = {
  CLARION_TOKEN_SECRET: randomBytes(32).toString('hex'),
  CLARION_API_KEY: randomBytes(16).toString('hex'),
  REDIS_PASSWORD: randomBytes(16).toString('hex'),
  GRAFANA_PASSWORD: randomBytes(8).toString('hex'),
};
const NODES = ['clarion-1', 'clarion-2', 'clarion-3'];

const text = (file) => readFile(join(DEPLOY, file), 'utf8');
const load = async (environment = SECRETS, file = join(DEPLOY, 'compose.yaml')) => JSON.parse(await run(LOADER, [file], environment));

async function temporaryDirectory(t) {
  const directory = await mkdtemp(join(tmpdir(), 'clarion-compose-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

describe('the compose file', () => {
  test('is one, with three nodes that differ in their name alone', async () => {
    const { services } = await load();
    assert.deepEqual(Object.keys(services).sort(), [...NODES, 'grafana', 'haproxy', 'prometheus', 'redis'].sort());
    const [first, ...others] = NODES.map((name) => {
      const { hostname, ...rest } = services[name];
      assert.equal(hostname, name);
      return rest;
    });
    for (const other of others) assert.deepEqual(other, first);
  });

  test('confines the nodes, and shows the world the port of clients alone', async () => {
    const { services } = await load();
    for (const name of NODES) {
      const { read_only, cap_drop, security_opt, ports } = services[name];
      assert.deepEqual([read_only, cap_drop, security_opt, ports], [true, ['ALL'], ['no-new-privileges:true'], undefined]);
    }
    const published = Object.values(services).flatMap(({ ports = [] }) => ports.map(({ host_ip, published }) => `${host_ip ?? ''}:${published}`));
    assert.deepEqual(published.sort(), ['127.0.0.1:3000', '127.0.0.1:9000', '127.0.0.1:9090', ':8000']);
  });

  for (const secret of Object.keys(SECRETS)) {
    test(`asks for ${secret}`, async () => {
      await assert.rejects(load({ ...SECRETS, [secret]: '' }), new RegExp(`required variable ${secret} is missing a value: set ${secret}, the `));
    });
  }

  test('with a typo is refused', async (t) => {
    const file = join(await temporaryDirectory(t), 'compose.yaml');
    await writeFile(file, (await text('compose.yaml')).replace('read_only:', 'readonly:'));
    await assert.rejects(load(SECRETS, file), /readonly/);
  });

  test('mounts files that are there', async () => {
    const { services } = await load();
    const sources = Object.values(services).flatMap(({ volumes = [] }) => volumes.filter(({ type }) => type === 'bind').map(({ source }) => source));
    assert.ok(sources.length >= 6);
    for (const source of sources) await access(source);
  });

  test('gives every node a configuration that is good', async () => {
    const { services } = await load();
    for (const name of NODES) await run(process.env.CLARION_BIN, ['checkconfig'], services[name].environment);
  });
});

test('the configuration of HAProxy has no error and no warning', async (t) => {
  const file = join(await temporaryDirectory(t), 'haproxy.cfg');
  // Names resolve in the network of the containers only: not to know them here is no fault.
  await writeFile(file, (await text('compose/haproxy.cfg')).replace(/clarion-\d:/g, '127.0.0.1:'));
  const output = await run('sh', ['-c', 'haproxy -c -f "$0" 2>&1', file]);
  assert.doesNotMatch(output, /WARNING|ALERT/);
});

test('the configuration of Prometheus is good, and Grafana is told where it is', async (t) => {
  const directory = await temporaryDirectory(t);
  const config = await text('compose/prometheus.yaml');
  await writeFile(join(directory, 'prometheus.yml'), config);
  await writeFile(join(directory, 'rules.yaml'), await text('monitoring/rules.yaml'));
  await run('promtool', ['check', 'config', join(directory, 'prometheus.yml')]);
  for (const name of NODES) assert.ok(config.includes(`${name}:9000`));
  assert.match(await text('compose/grafana/datasources.yaml'), /url: http:\/\/prometheus:9090$/m);
  const { services: { grafana } } = await load();
  const [, place] = /path: (.*)$/m.exec(await text('compose/grafana/dashboards.yaml'));
  assert.ok(grafana.volumes.some(({ target }) => target.startsWith(`${place}/`) && target === grafana.environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH));
});

/** What the compose file starts, as processes: each service has a loopback address of its own instead of its name. */
class Play {
  static async start(t) {
    const play = new Play();
    play.directory = await temporaryDirectory(t);
    play.services = (await load()).services;
    const network = `127.${randomInt(1, 255)}.${randomInt(0, 256)}`;
    play.addresses = Object.fromEntries(['haproxy', 'redis', 'prometheus', ...NODES].map((name, index) => [name, `${network}.${index + 1}`]));
    [play.publicPort, play.internalPort, play.redisPort, play.prometheusPort] = [await freePort(), await freePort(), await freePort(), await freePort()];
    await play.#redis(t);
    play.nodes = [];
    for (const name of NODES) play.nodes.push(await play.#node(t, name));
    await play.#haproxy(t);
    play.gateway = new Gateway({ publicPort: 0, internalPort: 0, secret: SECRETS.CLARION_TOKEN_SECRET, apiKey: SECRETS.CLARION_API_KEY });
    play.gateway.host = `${play.addresses.haproxy}:${play.publicPort}`;
    play.gateway.nativeUrl = `ws://${play.gateway.host}/connection/websocket`;
    play.gateway.internalUrl = `http://${play.addresses.haproxy}:${play.internalPort}`;
    return play;
  }

  /** Starts a program in a group of its own, which ends with the suite. */
  run(t, command, args, environment = {}) {
    const child = spawn(command, args, { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'], detached: true, cwd: this.directory });
    child.output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => { child.output += bytes; });
    child.ended = once(child, 'close');
    t.after(async () => {
      if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, 'SIGKILL');
      await child.ended;
    });
    return child;
  }

  async #ready(child, what, isReady) {
    await until(async () => {
      if (child.exitCode !== null) throw new Error(`${what} ended:\n${child.output}`);
      return isReady();
    }, `the start of ${what}`);
  }

  /** By the command of the compose file. */
  async #redis(t) {
    const { command: [shell, flag, script], environment, healthcheck } = this.services.redis;
    const line = `${script.replaceAll('$$', '$')} --bind ${this.addresses.redis} --port ${this.redisPort} --dir ${this.directory}`;
    const child = this.run(t, shell, [flag, line], environment);
    const [, ...check] = healthcheck.test;
    const place = ['-h', this.addresses.redis, '-p', `${this.redisPort}`];
    await this.#ready(child, 'redis', () => run(check[0], [...place, ...check.slice(1)], environment).then((answer) => answer.includes('PONG'), () => false));
  }

  async #node(t, name) {
    const address = this.addresses[name];
    const environment = {
      ...this.services[name].environment,
      CLARION__NODE__NAME: this.services[name].hostname,
      CLARION__NODE__INTERNAL_ADDRESS: `${address}:${this.internalPort}`,
      CLARION__PUBLIC__ADDRESS: address,
      CLARION__PUBLIC__PORT: `${this.publicPort}`,
      CLARION__INTERNAL__ADDRESS: address,
      CLARION__INTERNAL__PORT: `${this.internalPort}`,
      CLARION__DRAIN__WINDOW: '1s',
    };
    environment.CLARION__BROKER__REDIS__ADDRESS = environment.CLARION__BROKER__REDIS__ADDRESS.replace('redis:6379', `${this.addresses.redis}:${this.redisPort}`);
    const child = this.run(t, process.env.CLARION_BIN, ['serve'], environment);
    child.url = `http://${address}:${this.internalPort}`;
    await this.#ready(child, name, () => fetch(`${child.url}/readyz`).then((answer) => answer.ok, () => false));
    return child;
  }

  /** The configuration of the compose file, with addresses instead of names. */
  async #haproxy(t) {
    const config = this.#relocated(await text('compose/haproxy.cfg'))
      .replace(/bind :(\d+)/g, `bind ${this.addresses.haproxy}:$1`)
      .replaceAll('maxconn 20000', 'maxconn 500'); // As many open files as everybody may have.
    await writeFile(join(this.directory, 'haproxy.cfg'), config);
    const child = this.haproxy = this.run(t, 'haproxy', ['-db', '-f', 'haproxy.cfg']);
    // 503 is its own answer, as long as it knows of no node that is ready.
    await this.#ready(child, 'haproxy', () => fetch(`http://${this.addresses.haproxy}:${this.internalPort}/api/info`).then(({ status }) => status < 500, () => false));
  }

  #relocated(config) {
    return config.replace(/\b(clarion-\d):/g, (_, name) => `${this.addresses[name]}:`)
      .replace(/\b8000\b/g, this.publicPort).replace(/\b9000\b/g, this.internalPort);
  }

  async prometheus(t) {
    const config = this.#relocated(await text('compose/prometheus.yaml')).replace('scrape_interval: 5s', 'scrape_interval: 1s');
    await writeFile(join(this.directory, 'prometheus.yml'), config);
    await writeFile(join(this.directory, 'rules.yaml'), await text('monitoring/rules.yaml'));
    const address = `${this.addresses.prometheus}:${this.prometheusPort}`;
    const child = this.run(t, 'prometheus', ['--config.file=prometheus.yml', `--web.listen-address=${address}`, `--storage.tsdb.path=${this.directory}/tsdb`]);
    const ask = async (query) => {
      const answer = await fetch(`http://${address}/api/v1/query?${new URLSearchParams({ query })}`);
      return (await answer.json()).data.result.map(({ metric, value }) => [metric.instance, value[1]]).sort();
    };
    await this.#ready(child, 'prometheus', () => fetch(`http://${address}/-/ready`).then((answer) => answer.ok, () => false));
    return ask;
  }

  /** How many clients each node has. */
  connections() {
    return Promise.all(this.nodes.map(async ({ url, exitCode }) => {
      if (exitCode !== null) return 'ended';
      const metrics = await fetch(`${url}/metrics`).then((answer) => answer.text());
      return [...metrics.matchAll(/^clarion_connections\{.*\} (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
    }));
  }
}

describe('what the compose file starts', () => {
  let play;
  beforeAll(async (t) => { play = await Play.start(t); });

  test('delivers through HAProxy, spreads the clients, and lets a node go without losing anything', async (t) => {
    const { gateway } = play;
    const clients = [];
    for (const user of ['ann', 'bob', 'carol', 'dave', 'eve', 'frank']) {
      const client = await connect(t, gateway, user);
      clients.push({ ...client, chat: await subscribe(client.client, 'chat:lobby') });
    }
    assert.deepEqual(await play.connections(), [2, 2, 2]);
    const publish = (number) => gateway.api('publish', { channel: 'chat:lobby', data: number });
    const heardBy = ({ chat }) => chat.events.publication.next('a publication').then(({ data }) => data);
    await publish(1);
    for (const client of clients) assert.equal(await heardBy(client), 1);

    const [leaving] = play.nodes;
    leaving.kill('SIGTERM');
    let published = 1;
    while (leaving.exitCode === null) {
      await publish(published += 1);
      await pause(50); // Publications, and not as many as can be.
    }
    await within(leaving.ended, 'the end of a node', DRAIN_DEADLINE_MS);
    assert.equal(leaving.exitCode, 0);
    await until(async () => `${await play.connections()}` === 'ended,3,3', 'everybody at the nodes that are left');
    await publish(published += 1);
    const expected = Array.from({ length: published - 1 }, (_, index) => index + 2);
    for (const client of clients) {
      const heard = [];
      while (heard.length < expected.length) heard.push(await heardBy(client));
      assert.deepEqual(heard, expected);
    }
  });

  test('writes no token into the log of HAProxy', async () => {
    const token = await run(process.env.CLARION_BIN, ['gentoken', '--user', '42'], play.services['clarion-2'].environment);
    const socket = new WebSocket(play.gateway.bareUrl([['token', token.trim()], ['channels', 'chat:lobby']]));
    await within(new Promise((resolve) => { socket.onmessage = resolve; }), 'the connect push');
    socket.close();
    await until(() => play.haproxy.output.includes('GET /ws '), 'a line in the log');
    assert.doesNotMatch(play.haproxy.output, /token|eyJ/);
  });

  test('keeps from the port of the API what is of one node', async () => {
    const status = async (path) => (await fetch(play.gateway.internalUrl + path)).status;
    for (const path of ['/metrics', '/readyz', '/livez', '/', '/apix']) assert.equal(await status(path), 404, path);
    assert.equal(await status('/api/info'), 405); // A node says that: it wants POST.
  });

  test('is watched by Prometheus, every node of it', async (t) => {
    const ask = await play.prometheus(t);
    const up = NODES.slice(1).map((name) => [`${play.addresses[name]}:${play.internalPort}`, '1']);
    await until(async () => `${(await ask('up{job="clarion"} == 1'))}` === `${up}`, 'the nodes that are left');
    assert.equal((await ask('clarion_broker_up == 1')).length, up.length);
  });
});
