// Tests the documentation: `run.mjs BOOK [PAGE…]`, where BOOK is the directory with the built book.
//
// Checks that every page is in SUMMARY.md, that every link of the book and of its sources leads somewhere, that no page
// needs anything from elsewhere, and that every block of every page is true: commands are run in their order and print
// what the page shows, configurations are what `clarion checkconfig` takes, JSON can be read. A block that is neither
// tested nor skipped with a reason is a failure. What directives there are is in pages.mjs. Wants CLARION_BIN, the path of
// the binary.

import { once } from 'node:events';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { chapterFaults, linkFaults, pagesOf } from './links.mjs';
import { matches, said, sessionOf, stepsOf } from './pages.mjs';
import { Shell } from './shell.mjs';

const TEST = dirname(fileURLToPath(import.meta.url));
const DOCS = dirname(TEST);
const ROOT = dirname(DOCS);
const CLIENTS = join(ROOT, 'gateway/tests/clients');
/** How long what goes on running may take to print what the page shows. */
const DEADLINE_MS = 15_000;
/** How many pages are tested at a time. */
const PAGES_AT_ONCE = 3;
/** Blocks that are not code: what a page quotes, or sketches. */
const QUOTES = new Set(['', 'text']);

const count = { passed: 0, failed: 0, commands: 0 };
const skipped = new Map();

function passed() {
  count.passed++;
}

function failed(place, why) {
  count.failed++;
  console.error(`FAILED ${place}\n${why.trimEnd().replace(/^/gm, '    ')}\n`);
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** A page while it is tested: its directory, its ports, its shell, and what stands in for what readers have. */
class Stage {
  #standIns;
  #left = [];

  static async set(path) {
    const stage = new Stage();
    stage.page = relative(ROOT, path);
    stage.directory = await realpath(await mkdtemp(join(tmpdir(), 'clarion-docs-')));
    const [publicPort, internalPort, redisPort, pagePort] = [await freePort(), await freePort(), await freePort(), await freePort()];
    stage.#standIns = [
      [/\b8000\b/g, `${publicPort}`, '8000'], [/\b9000\b/g, `${internalPort}`, '9000'],
      [/\b6379\b/g, `${redisPort}`, '6379'], [/\b3000\b/g, `${pagePort}`, '3000'],
      [/\/run\/secrets\//g, `${stage.directory}/secrets/`, '/run/secrets/'],
      [/\/etc\/clarion\//g, `${stage.directory}/etc/`, '/etc/clarion/'],
    ];
    for (const name of ['secrets', 'etc']) await mkdir(join(stage.directory, name));
    await symlink(join(CLIENTS, 'node_modules'), join(stage.directory, 'node_modules'));
    stage.shell = await Shell.start(stage.directory, {
      PATH: `${TEST}:${process.env.PATH}:/usr/sbin:/sbin`, DOCS_TEST: TEST, CLIENTS, ROOT, NO_COLOR: '1',
      PUBLIC_PORT: publicPort, INTERNAL_PORT: internalPort, REDIS_PORT: redisPort, PAGE_PORT: pagePort,
    }, join(TEST, 'prelude.sh'));
    return stage;
  }

  async strike() {
    await this.shell.end();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** What the page says, with what stands in for it here. */
  here(text) {
    return this.#standIns.reduce((text, [there, here]) => text.replace(there, here), text);
  }

  /** What was printed, as the page would say it. */
  there(text) {
    return this.#standIns.reduce((text, [, here, there]) => text.replaceAll(here, there), text);
  }

  async test(step, previous) {
    if (step.language === undefined) return this.#prepare(step);
    const reason = said(step, 'skip');
    if (reason) {
      const at = `${this.page}:${step.line}`;
      skipped.set(reason, [...(skipped.get(reason) ?? []), at]);
      return;
    }
    const name = said(step, 'file');
    if (name) await this.#write(name, step);
    if (said(step, 'output') !== undefined) return this.#compare(step, previous);
    switch (step.language) {
      case 'console': return this.#session(step);
      case 'sh': return this.#script(step);
      case 'yaml': return this.#configuration(step);
      case 'json': return this.#json(step);
      default:
        if (QUOTES.has(step.language) || name) return passed();
        throw new Error(`a block of ${step.language} that nobody tests: give it a name, and run it`);
    }
  }

  async #prepare(step) {
    const { code, printed } = await this.shell.run(this.here(step.text));
    if (code !== 0) throw new Error(`what the page needs ended with ${code}:\n${printed}`);
    passed();
  }

  async #write(name, step) {
    const path = join(this.directory, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, this.here(step.text));
    step.file = name;
  }

  async #session(step) {
    const commands = sessionOf(step.text);
    const until = said(step, 'background');
    for (const [index, { command, expected }] of commands.entries()) {
      count.commands++;
      const isLast = index === commands.length - 1;
      if (isLast && until !== undefined) return this.#leave(step, command, expected, until);
      const { code, printed } = await this.shell.run(this.here(command));
      const wanted = isLast ? Number(said(step, 'exit') ?? 0) : 0;
      if (code !== wanted) throw new Error(`${command}\nended with ${code}, not ${wanted}:\n${printed}`);
      if (expected.length > 0) this.#expect(command, printed, expected);
    }
    passed();
  }

  async #script(step) {
    count.commands++;
    const until = said(step, 'background');
    if (until !== undefined) return this.#leave(step, step.text, [], until);
    const { code, printed } = await this.shell.run(this.here(step.text));
    step.printed = printed;
    const wanted = Number(said(step, 'exit') ?? 0);
    if (code !== wanted) throw new Error(`ended with ${code}, not ${wanted}:\n${printed}`);
    passed();
  }

  async #leave(step, command, expected, until) {
    const running = await this.shell.leave(this.here(command));
    step.running = running;
    const condition = /^until (.*)$/.exec(until)?.[1];
    if (!condition) throw new Error('background until what?');
    const { code } = await this.shell.run(this.here(`until_true eval ${quoted(condition)}`));
    if (code !== 0) throw new Error(`${command}\nnever came to the point where ${condition}:\n${await running.printed()}`);
    if (expected.length > 0) this.#left.push({ step, command, expected: [...expected, '…'], running });
    else passed();
  }

  /** Looks at what went on running, at the end of the page. */
  async settle() {
    for (const { step, command, expected, running } of this.#left) {
      await this.#attempt(step, async () => {
        const end = Date.now() + DEADLINE_MS;
        while (!matches(this.there(await running.printed()), expected) && Date.now() < end) await pause(50);
        this.#expect(command, await running.printed(), expected);
        passed();
      });
    }
  }

  async #compare(step, previous) {
    if (previous?.printed === undefined) throw new Error('output of what?');
    this.#expect(previous.text, previous.printed, step.text.trimEnd().split('\n'));
    passed();
  }

  #expect(command, printed, expected) {
    const shown = this.there(printed);
    if (!matches(shown, expected)) throw new Error(`${command}\nprinted\n${shown}\nand not\n${expected.join('\n')}`);
  }

  async #configuration(step) {
    const text = said(step, 'values') === undefined ? step.text : configOfValues(step.text);
    await writeFile(join(this.directory, 'checked.yaml'), this.here(text));
    const { code, printed } = await this.shell.run('checkconfig_of_page checked.yaml');
    if (code !== 0) throw new Error(`clarion checkconfig says\n${printed}`);
    passed();
  }

  #json(step) {
    // Either one value, or one in each line.
    try {
      JSON.parse(step.text);
    } catch {
      step.text.trim().split('\n').forEach((line) => JSON.parse(line));
    }
    passed();
  }

  async #attempt(step, test) {
    try {
      await test();
      return true;
    } catch (error) {
      failed(`${this.page}:${step.line}`, error.message);
      return false;
    }
  }

  async play(steps) {
    let previous;
    for (const step of steps) {
      // What follows builds on it.
      if (!await this.#attempt(step, () => this.test(step, previous)) && step.language !== 'json' && step.language !== 'yaml') return;
      previous = step;
    }
    await this.settle();
  }
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** What stands under `config:` in values of the chart. */
function configOfValues(text) {
  const lines = text.split('\n');
  const start = lines.indexOf('config:');
  if (start < 0) throw new Error('there is no `config:`');
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => /^\S/.test(line));
  return `${rest.slice(0, end < 0 ? undefined : end).map((line) => line.slice(2)).join('\n')}\n`;
}

async function testPage(path) {
  let steps;
  try {
    steps = await stepsOf(path);
    named(path, steps);
  } catch (error) {
    return failed(relative(ROOT, path), error.message);
  }
  if (steps.length === 0) return;
  const stage = await Stage.set(path);
  try {
    await stage.play(steps);
  } catch (error) {
    failed(relative(ROOT, path), error.stack);
  } finally {
    await stage.strike();
  }
}

/** Whoever writes a program to a file must run it. */
function named(path, steps) {
  const run = steps.filter((step) => [undefined, 'sh', 'console'].includes(step.language)).map((step) => step.text).join('\n');
  for (const step of steps) {
    const name = said(step, 'file');
    if (name && !run.includes(name)) throw new Error(`line ${step.line}: nobody uses ${name}`);
  }
}

async function main() {
  const [book, ...only] = process.argv.slice(2);
  if (!book || !process.env.CLARION_BIN) throw new Error('usage: CLARION_BIN=… run.mjs BOOK [PAGE…]');
  const pages = await pagesOf(DOCS);
  for (const fault of [...await chapterFaults(DOCS, pages), ...await linkFaults(ROOT, book)]) failed('links', fault);
  if (count.failed === 0) passed();
  const waiting = pages.filter((page) => only.length === 0 || only.some((name) => page.endsWith(name)));
  if (waiting.length === 0) throw new Error(`no page is called ${only.join(' or ')}`);
  const work = async () => { for (let page = waiting.shift(); page; page = waiting.shift()) await testPage(page); };
  await Promise.all(Array.from({ length: PAGES_AT_ONCE }, work));
  for (const [reason, places] of skipped) console.log(`skipped: ${reason} (${places.join(', ')})`);
  console.log(`${count.commands} commands run, ${[...skipped.values()].flat().length} blocks skipped`);
  console.log(`docs: ${count.passed} passed, ${count.failed} failed`);
  process.exitCode = count.failed > 0 ? 1 : 0;
}

await main();
