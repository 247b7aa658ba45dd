// The container image: what is in it, and that it serves clients with a read-only root, without root and capabilities.
// Needs podman with runc. Building has to work everywhere; where containers cannot run, those tests say NOT RUN, and why.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { connect, join as subscribe } from '../../gateway/tests/clients/sdk.mjs';
import { DRAIN_DEADLINE_MS, Gateway, beforeAll, freePort, until, within } from '../../gateway/tests/clients/support.mjs';

const ROOT = new URL('../../', import.meta.url).pathname;
const TARGET = resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target', 'image');
/** Cheaper to build than `release`, see Cargo.toml. */
const PROFILE = 'image-test';
/** What goes into the image. */
const PROGRAM = join(TARGET, `context-${PROFILE}`, 'clarion');
const SOURCE = 'https://git.example.com/clarion';
const BUILD_DEADLINE_MS = 1_800_000;
/** By which podman runs containers: crun does not run everywhere. */
const RUNTIME = process.env.CONTAINER_RUNTIME ?? 'runc';
/** Whom the image asks to be run as. */
const USER = '65532';
/** Whom somebody else may want it to be run as. */
const STRANGER = '123456:123456';

process.env.PATH += ':/usr/sbin:/sbin';

/** Runs a program to its end; its exit code is for the caller to judge. */
async function attempt(command, args, { env, deadlineMs = 60_000 } = {}) {
  const child = spawn(command, args, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (bytes) => { stdout += bytes; });
  child.stderr.on('data', (bytes) => { stderr += bytes; });
  const [code] = await within(once(child, 'close'), `the end of ${command} ${args[0]}`, deadlineMs);
  return { code, stdout, stderr };
}

async function done(command, args, options) {
  const { code, stdout, stderr } = await attempt(command, args, options);
  assert.equal(code, 0, `${command} ${args.join(' ')}:\n${stderr}${stdout}`);
  return stdout;
}

/** Podman with a storage of its own, which goes with the suite; nothing that the machine has is touched. */
class Podman {
  #globals;

  static async start(t) {
    const directory = await mkdtemp(join(tmpdir(), 'clarion-image-'));
    const podman = new Podman(directory);
    t.after(async () => {
      await podman.attempt('rm', '--all', '--force', '--time', '0');
      await rm(directory, { recursive: true, force: true });
    });
    return podman;
  }

  constructor(directory) {
    this.directory = directory;
    // Every kernel and file system can do these.
    this.storage = ['--root', `${directory}/root`, '--runroot', `${directory}/run`, '--storage-driver', 'vfs'];
    this.#globals = [...this.storage, '--runtime', RUNTIME, '--cgroup-manager', 'cgroupfs'];
  }

  attempt = (...args) => attempt('podman', [...this.#globals, ...args]);
  do = (...args) => done('podman', [...this.#globals, ...args]);

  /** How a container is run that may do nothing. The limits are lower than those that podman would raise. */
  confined = [
    '--network', 'host', '--read-only', '--read-only-tmpfs=false', '--cap-drop', 'all',
    '--security-opt', 'no-new-privileges', '--ulimit', 'nofile=20000:20000', '--ulimit', 'nproc=4096:4096',
  ];

  /** Why no container runs on this machine, or nothing. It is tried without the image, which may be what is wrong. */
  async obstacle() {
    const root = join(this.directory, 'rootfs');
    await mkdir(root, { recursive: true });
    await copyFile(PROGRAM, join(root, 'clarion'));
    const { code, stdout, stderr } = await this.attempt('run', '--rm', ...this.confined, '--user', USER, '--rootfs', root, '/clarion', '--version');
    return code === 0 ? undefined : (stderr || stdout).trim().split('\n').at(-1);
  }
}

describe('the image', () => {
  let podman;
  let obstacle;
  let image;

  beforeAll(async (t) => { podman = await Podman.start(t); });

  before(async () => {
    const env = {
      ENGINE: 'podman', ENGINE_FLAGS: podman.storage.join(' '), PROFILE, ARCHIVE: '1', SOURCE, CARGO_TARGET_DIR: resolve(TARGET, '..'),
    };
    await done('deploy/image.sh', [], { env, deadlineMs: BUILD_DEADLINE_MS });
    [image] = JSON.parse(await podman.do('image', 'inspect', 'clarion:latest'));
    obstacle = await podman.obstacle();
  }, { timeout: BUILD_DEADLINE_MS });

  after(() => obstacle && console.log(`NOT RUN: no container runs on this machine: ${obstacle}`));

  /** A test that runs the image: skipped, with the reason, where that cannot be. */
  const runs = (name, body) => test(name, async (t) => (obstacle ? t.skip(`NOT RUN: ${obstacle}`) : body(t)));

  test('says what it is, for whom it runs, and how to ask whether it lives', async () => {
    const { Config: config, Labels: labels } = image;
    assert.equal(config.User, '65532:65532');
    assert.deepEqual(config.Entrypoint, ['/clarion']);
    assert.deepEqual(config.Cmd, ['serve']);
    assert.deepEqual(Object.keys(config.ExposedPorts).sort(), ['8000/tcp', '9000/tcp']);
    assert.ok(config.Env.includes('CLARION__INTERNAL__ADDRESS=0.0.0.0'));
    assert.deepEqual(image.Healthcheck.Test, ['CMD', '/clarion', 'health', '--url', 'http://127.0.0.1:9000']);
    const commit = (await done('git', ['log', '-1', '--format=%H %ct'])).trim().split(' ');
    const created = new Date(Number(commit[1]) * 1000).toISOString().replace('.000', '');
    const label = (name) => labels[`org.opencontainers.image.${name}`];
    assert.equal(label('title'), 'Clarion');
    assert.match(label('description'), /^A real-time gateway: /);
    assert.equal(label('licenses'), 'Apache-2.0');
    assert.equal(label('version'), (await done(PROGRAM, ['--version'])).trim().split(' ')[1]);
    assert.ok([commit[0], `${commit[0]}-dirty`].includes(label('revision')));
    assert.equal(label('created'), created);
    assert.equal(new Date(image.Created).getTime(), Number(commit[1]) * 1000);
    assert.equal(label('source'), SOURCE);
  });

  test('is two files: the program, without libraries, and certificates that are not of this machine', async (t) => {
    const container = (await podman.do('create', 'clarion:latest')).trim();
    const archive = join(podman.directory, 'root.tar');
    await podman.do('export', '--output', archive, container);
    const files = (await done('tar', ['--list', '--file', archive])).split('\n').filter((name) => name && !name.endsWith('/'));
    // What an engine puts there as places for its own mounts is empty and has no rights.
    const listing = await done('tar', ['--list', '--verbose', '--file', archive]);
    const filled = listing.split('\n').filter((line) => /^-/.test(line) && Number(line.split(/\s+/)[2]) > 0).map((line) => line.split(/\s+/)[5]);
    assert.deepEqual(filled.sort(), ['clarion', 'etc/ssl/certs/ca-certificates.crt']);
    assert.deepEqual(files.filter((name) => /(^|\/)(sh|bash|busybox|ld-[^/]*|[^/]*\.so[.\d]*)$/.test(name)), []);
    await done('tar', ['--extract', '--file', archive, '--directory', podman.directory, 'clarion', 'etc']);
    const header = (await done('readelf', ['--program-headers', '--dynamic', join(podman.directory, 'clarion')]));
    assert.doesNotMatch(header, /INTERP|\(NEEDED\)/);
    const certificates = await readFile(join(podman.directory, 'etc/ssl/certs/ca-certificates.crt'), 'utf8');
    const packaged = await readdir('/usr/share/ca-certificates/mozilla');
    assert.equal(certificates.match(/BEGIN CERTIFICATE/g).length, packaged.length);
    t.diagnostic(`${(image.Size / 1e6).toFixed(1)} MB, of which ${((await stat(PROGRAM)).size / 1e6).toFixed(1)} MB are the program (profile ${PROFILE})`);
  });

  test('is written as an archive too', async () => {
    const name = (await readdir(TARGET)).find((file) => file.endsWith(`-${PROFILE}.oci.tar`));
    const { manifests } = JSON.parse(await done('tar', ['--extract', '--to-stdout', '--file', join(TARGET, name), 'index.json']));
    assert.equal(manifests.length, 1);
    assert.match(manifests[0].annotations['org.opencontainers.image.ref.name'], /^clarion:\d/);
  });

  /** The image as a gateway, confined. Ends with the test `t`. */
  async function serve(t, flags = []) {
    const [publicPort, internalPort] = [await freePort(), await freePort()];
    const [secret, apiKey] = [randomBytes(32).toString('hex'), randomBytes(16).toString('hex')];
    const file = join(podman.directory, `${internalPort}.env`); // Not in the process table.
    const environment = {
      CLARION__PUBLIC__PORT: publicPort,
      CLARION__INTERNAL__PORT: internalPort,
      CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY: secret,
      CLARION__API__KEYS: JSON.stringify([apiKey]),
      CLARION__CHANNEL__NAMESPACES: '[{"name":"open","allow_subscribe_for_client":true,"allow_publish_for_client":true}]',
      CLARION__DRAIN__DELAY: '1s',
      CLARION__DRAIN__WINDOW: '1s',
    };
    await writeFile(file, Object.entries(environment).map(([name, value]) => `${name}=${value}\n`).join(''));
    const health = `["/clarion","health","--ready","--url","http://127.0.0.1:${internalPort}"]`;
    const container = (await podman.do('run', '--detach', '--env-file', file, '--health-cmd', health, ...podman.confined, ...flags, 'clarion:latest')).trim();
    t.after(() => podman.attempt('rm', '--force', '--time', '0', container));
    // What tests know of a gateway; the process is the container's.
    const gateway = new Gateway({ publicPort, internalPort, secret, apiKey });
    const answers = (path) => fetch(gateway.internalUrl + path).then((response) => response.ok, () => false);
    await until(() => answers('/readyz'), 'readiness of the container');
    assert.equal(await answers('/livez'), true);
    const [{ State: { Pid: pid } }] = JSON.parse(await podman.do('container', 'inspect', container));
    return { container, gateway, pid, environment };
  }

  runs('serves a published SDK and the commands, healthy', async (t) => {
    const { container, gateway, environment } = await serve(t);
    await podman.do('healthcheck', 'run', container);
    const ann = await connect(t, gateway, 'ann');
    const { events } = await subscribe(ann.client, 'open:news');
    const publish = ['pub', 'open:news', '{"text":"from outside"}', '--url', gateway.internalUrl];
    await done(process.env.CLARION_BIN, publish, { env: { CLARION_API_KEY: gateway.apiKey } });
    assert.deepEqual((await events.publication.next('a publication from outside')).data, { text: 'from outside' });
    // The container's own command, by a name that has to be resolved without libraries.
    const own = ['pub', 'open:news', '{"text":"from inside"}', '--url', `http://localhost:${environment.CLARION__INTERNAL__PORT}`];
    await podman.do('exec', '--env', `CLARION_API_KEY=${gateway.apiKey}`, container, '/clarion', ...own);
    assert.deepEqual((await events.publication.next('a publication from inside')).data, { text: 'from inside' });
  });

  runs('S-63: can write nowhere, is nobody, may do nothing, and has no shell', async (t) => {
    const { container, pid } = await serve(t);
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const field = (name) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)[1].split(/\s+/);
    assert.deepEqual([...new Set([...field('Uid'), ...field('Gid')])], [USER]);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) assert.deepEqual(field(set), ['0000000000000000'], set);
    assert.deepEqual(field('NoNewPrivs'), ['1']);
    assert.deepEqual(field('Seccomp'), ['2']);
    await assert.rejects(writeFile(`/proc/${pid}/root/written`, ''), { code: 'EROFS' });
    const mounts = (await readFile(`/proc/${pid}/mountinfo`, 'utf8')).trim().split('\n').map((line) => line.split(' '));
    const root = mounts.find(([, , , , place]) => place === '/');
    assert.match(root[5], /^ro,|^ro$/);
    for (const shell of ['sh', '/bin/sh', '/bin/bash', '/busybox']) {
      const { code, stderr } = await podman.attempt('exec', container, shell, '-c', 'true');
      assert.notEqual(code, 0, shell);
      assert.match(stderr, /no such file|not found/i);
    }
  });

  runs('ends at SIGTERM with 0, after its clients were asked to come again, whoever it runs as', async (t) => {
    const { container, gateway } = await serve(t, ['--user', STRANGER]);
    const ann = await connect(t, gateway, 'ann');
    const ended = podman.do('wait', container);
    await podman.do('kill', '--signal', 'TERM', container);
    assert.equal((await ann.events.connecting.next('the first attempt')).code, 0);
    assert.equal((await ann.events.connecting.next('to be asked to come again')).code, 3001);
    assert.equal((await within(ended, 'the end of the container', DRAIN_DEADLINE_MS)).trim(), '0');
  });

  runs('without a secret it does not start, and says which is missing', async () => {
    const { code, stderr } = await podman.attempt('run', '--rm', ...podman.confined, 'clarion:latest');
    assert.equal(code, 2);
    assert.match(stderr, /client\.token\.hmac_secret_key: is missing/);
  });

  runs('refuses a TLS server that nobody vouches for, and trusts one whose authority is in its bundle', async (t) => {
    // The bundle of the image is where its TLS connections look: another one in its place changes whom they trust.
    const redis = await TlsRedis.start(t, podman.directory);
    const broker = { CLARION__BROKER__TYPE: 'redis', CLARION__BROKER__REDIS__ADDRESS: `rediss://localhost:${redis.port}` };
    const secrets = { CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY: randomBytes(32).toString('hex'), CLARION__API__KEYS: JSON.stringify([randomBytes(16).toString('hex')]) };
    const ports = { CLARION__PUBLIC__PORT: await freePort(), CLARION__INTERNAL__PORT: await freePort() };
    const variables = Object.entries({ ...broker, ...secrets, ...ports }).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
    const refused = await podman.attempt('run', '--rm', ...podman.confined, ...variables, 'clarion:latest');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /certificate/i);
    const bundle = ['--volume', `${redis.authority}:/etc/ssl/certs/ca-certificates.crt:ro`];
    const container = (await podman.do('run', '--detach', ...podman.confined, ...variables, ...bundle, 'clarion:latest')).trim();
    t.after(() => podman.attempt('rm', '--force', '--time', '0', container));
    await until(() => fetch(`http://127.0.0.1:${ports.CLARION__INTERNAL__PORT}/readyz`).then((answer) => answer.ok, () => false), 'a node behind Redis by TLS');
  });
});

/** A redis-server that speaks TLS on the loopback, with an authority of its own. */
class TlsRedis {
  static async start(t, directory) {
    const redis = new TlsRedis();
    const [key, certificate] = [join(directory, 'redis.key'), join(directory, 'redis.crt')];
    await done('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
      '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', key, '-out', certificate]);
    redis.authority = certificate;
    redis.port = await freePort();
    const child = spawn('redis-server', ['--bind', '127.0.0.1', '::1', '--port', '0', '--tls-port', `${redis.port}`, '--tls-cert-file', certificate,
      '--tls-key-file', key, '--tls-auth-clients', 'no', '--save', '', '--dir', directory], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    let output = '';
    child.stdout.on('data', (bytes) => { output += bytes; });
    await until(() => output.includes('Ready to accept connections'), 'the start of redis-server');
    return redis;
  }
}
