// A page while it is tested: its directory, its ports, its shell, and what stands in for what readers have.

import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../gateway/tests/clients/ports.mjs';
import { matches, said, sessionOf } from './pages.mjs';
import { Shell } from './shell.mjs';

const TEST = dirname(fileURLToPath(import.meta.url));
const ROOT = dirname(dirname(TEST));
const CLIENTS = join(ROOT, 'gateway/tests/clients');
/** How long what goes on running may take to print what the page shows. */
const DEADLINE_MS = 15_000;
/** The ports that pages speak of, by the variable that has what stands in for them. */
const PORTS = new Map([['PUBLIC_PORT', '8000'], ['INTERNAL_PORT', '9000'], ['REDIS_PORT', '6379'], ['PAGE_PORT', '3000']]);
/** Blocks that are not code: what a page quotes, or sketches. */
const QUOTES = new Set(['', 'text']);

/** What a page says, as a pattern, what stands in for it, and how to say it again. */
function standIns(directory, ports) {
  const ofPorts = [...PORTS].map(([name, port]) => [new RegExp(`\\b${port}\\b`, 'g'), ports[name], port]);
  const ofPaths = [['/run/secrets/', 'secrets/'], ['/etc/clarion/', 'etc/']]
    .map(([there, here]) => [new RegExp(there, 'g'), join(directory, here), there]);
  return [...ofPorts, ...ofPaths];
}

/** See above. Tells `report` what `passed`, what `failed` and why, and what was `skipped`; counts `commands`. */
export class Stage {
  #report;
  #path;
  #page;
  #directory;
  #shell;
  #standIns;
  #left = [];

  constructor(path, report) {
    this.#path = path;
    this.#page = relative(ROOT, path);
    this.#report = report;
  }

  async set() {
    this.#directory = await realpath(await mkdtemp(join(tmpdir(), 'clarion-docs-')));
    for (const name of ['secrets', 'etc']) await mkdir(join(this.#directory, name));
    await symlink(join(CLIENTS, 'node_modules'), join(this.#directory, 'node_modules'));
    const ports = {};
    for (const name of PORTS.keys()) ports[name] = `${await freePort()}`;
    this.#standIns = standIns(this.#directory, ports);
    const environment = { PATH: `${TEST}:${process.env.PATH}:/usr/sbin:/sbin`, DOCS_TEST: TEST, CLIENTS, ROOT, ...ports };
    this.#shell = await Shell.start(this.#directory, environment, join(TEST, 'prelude.sh'));
    await this.#before(join(TEST, `${basename(dirname(this.#path))}.sh`));
  }

  /** What all pages of a directory need is in a script that has its name. */
  async #before(script) {
    const { code, printed } = await this.#shell.run(`[ ! -e ${quoted(script)} ] || . ${quoted(script)}`);
    if (code !== 0) throw new Error(`${script} ended with ${code}:\n${printed}`);
  }

  async strike() {
    await this.#shell?.end();
    if (this.#directory) await rm(this.#directory, { recursive: true, force: true });
  }

  /** What the page says, with what stands in for it here. */
  #here(text) {
    return this.#standIns.reduce((text, [there, here]) => text.replace(there, here), text);
  }

  /** What was printed, as the page would say it. */
  #there(text) {
    return this.#standIns.reduce((text, [, here, there]) => text.replaceAll(here, there), text);
  }

  async #test(step) {
    if (step.language === undefined) return this.#prepare(step);
    const reason = said(step, 'skip');
    if (reason) return this.#report.skipped(`${this.#page}:${step.line}`, reason);
    const name = said(step, 'file');
    if (name) await this.#write(name, step);
    switch (step.language) {
      case 'console': return this.#session(step);
      case 'sh':
      case 'bash': return this.#script(step);
      case 'yaml': return this.#configuration(step);
      case 'json': return this.#json(step);
      case 'promql': return this.#expression(step);
      default:
        if (QUOTES.has(step.language) || name) return this.#report.passed();
        throw new Error(`a block of ${step.language} that nobody tests: give it a name, and run it`);
    }
  }

  async #prepare(step) {
    const { code, printed } = await this.#shell.run(this.#here(step.text));
    if (code === 0) return this.#report.passed();
    const failed = await readFile(join(this.#directory, '.failed'), 'utf8').catch(() => '');
    throw new Error(`what the page needs ended with ${code}: ${failed}${printed}`);
  }

  async #write(name, step) {
    const path = join(this.#directory, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, this.#here(step.text));
  }

  async #session(step) {
    const commands = sessionOf(step.text);
    const until = said(step, 'background');
    for (const [index, { command, expected }] of commands.entries()) {
      this.#report.commands++;
      const isLast = index === commands.length - 1;
      if (isLast && until !== undefined) return this.#leave(step, command, expected, until);
      const { code, printed } = await this.#shell.run(this.#here(command));
      const wanted = isLast ? Number(said(step, 'exit') ?? 0) : 0;
      if (code !== wanted) throw new Error(`${command}\nended with ${code}, not ${wanted}:\n${printed}`);
      if (expected.length > 0) this.#expect(command, printed, expected);
    }
    this.#report.passed();
  }

  /** Runs a block, but for its lines that need a cluster. */
  async #script(step) {
    const text = step.text.replace(/^kubectl .*\n/gm, '');
    if (text !== step.text) this.#report.skipped(`${this.#page}:${step.line}`, 'kubectl needs a cluster');
    if (text.trim() === '') return;
    this.#report.commands++;
    const until = said(step, 'background');
    if (until !== undefined) return this.#leave(step, text, [], until);
    const { code, printed } = await this.#shell.run(this.#here(text));
    const wanted = Number(said(step, 'exit') ?? 0);
    if (code !== wanted) throw new Error(`ended with ${code}, not ${wanted}:\n${printed}`);
    this.#report.passed();
  }

  async #leave(step, command, expected, until) {
    const running = await this.#shell.leave(this.#here(command));
    const condition = /^until (.*)$/.exec(until)?.[1];
    if (!condition) throw new Error('background until what?');
    const { code } = await this.#shell.run(this.#here(`until_true eval ${quoted(condition)}`));
    if (code !== 0) throw new Error(`${command}\nnever came to the point where ${condition}:\n${await running.printed()}`);
    if (expected.length > 0) this.#left.push({ step, command, expected: [...expected, '…'], running });
    else this.#report.passed();
  }

  /** Looks at what went on running, at the end of the page. */
  async #settle() {
    for (const { step, command, expected, running } of this.#left) {
      await this.#attempt(step, async () => {
        const end = Date.now() + DEADLINE_MS;
        while (!matches(this.#there(await running.printed()), expected) && Date.now() < end) await pause(50);
        this.#expect(command, await running.printed(), expected);
        this.#report.passed();
      });
    }
  }

  #expect(command, printed, expected) {
    const shown = this.#there(printed);
    if (!matches(shown, expected)) throw new Error(`${command}\nprinted\n${shown}\nand not\n${expected.join('\n')}`);
  }

  async #configuration(step) {
    const text = said(step, 'values') === undefined ? step.text : configOfValues(step.text);
    await writeFile(join(this.#directory, 'checked.yaml'), this.#here(text));
    const { code, printed } = await this.#shell.run('checkconfig_of_page checked.yaml');
    if (code !== 0) throw new Error(`clarion checkconfig says\n${printed}`);
    this.#report.passed();
  }

  async #expression(step) {
    // JSON is YAML.
    const rules = { groups: [{ name: 'page', rules: [{ record: 'page', expr: step.text }] }] };
    await writeFile(join(this.#directory, 'rules.yaml'), JSON.stringify(rules));
    const { code, printed } = await this.#shell.run('promtool check rules rules.yaml');
    if (code !== 0) throw new Error(`promtool says\n${printed}`);
    this.#report.passed();
  }

  #json(step) {
    // Either one value, or one in each line.
    try {
      JSON.parse(step.text);
    } catch {
      step.text.trim().split('\n').forEach((line) => JSON.parse(line));
    }
    this.#report.passed();
  }

  async #attempt(step, test) {
    try {
      await test();
      return true;
    } catch (error) {
      const node = await readFile(join(this.#directory, 'gateway.log'), 'utf8').catch(() => '');
      const last = node.split('\n').slice(-20).join('\n');
      this.#report.failed(`${this.#page}:${step.line}`, last ? `${error.message}\nThe node said last:\n${last}` : error.message);
      return false;
    }
  }

  async play(steps) {
    for (const step of steps) {
      // What follows builds on it.
      if (!await this.#attempt(step, () => this.#test(step)) && step.language !== 'json' && step.language !== 'yaml') return;
    }
    await this.#settle();
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
