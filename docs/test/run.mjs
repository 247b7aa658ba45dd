// Tests the documentation: `run.mjs BOOK [PAGE…]`, where BOOK is the directory with the built book.
//
// Checks that every page is in SUMMARY.md, that every link of the book and of its sources leads somewhere, that no page
// needs anything from elsewhere, and that every block of every page is true: commands are run in their order and print
// what the page shows, configurations are what `clarion checkconfig` takes, expressions what `promtool` takes, JSON can be
// read. A block that is neither
// tested nor skipped with a reason is a failure. What directives there are is in pages.mjs. Wants CLARION_BIN, the path of
// the binary.

import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chapterFaults, linkFaults, pagesOf } from './links.mjs';
import { said, stepsOf } from './pages.mjs';
import { Stage } from './stage.mjs';

const DOCS = dirname(dirname(fileURLToPath(import.meta.url)));
const ROOT = dirname(DOCS);
/** How many pages are tested at a time. */
const PAGES_AT_ONCE = 3;

/** What came of it. */
const report = {
  counts: { passed: 0, failed: 0 },
  commands: 0,
  reasons: new Map(),
  passed() {
    this.counts.passed++;
  },
  failed(place, why) {
    this.counts.failed++;
    console.error(`FAILED ${place}\n${why.trimEnd().replace(/^/gm, '    ')}\n`);
  },
  skipped(place, reason) {
    this.reasons.set(reason, [...(this.reasons.get(reason) ?? []), place]);
  },
  print() {
    for (const [reason, places] of this.reasons) console.log(`skipped: ${reason} (${places.join(', ')})`);
    console.log(`${this.commands} commands run, ${[...this.reasons.values()].flat().length} blocks skipped`);
    console.log(`docs: ${this.counts.passed} passed, ${this.counts.failed} failed`);
  },
};

async function testPage(path) {
  let steps;
  try {
    steps = await stepsOf(path);
    named(path, steps);
  } catch (error) {
    return report.failed(relative(ROOT, path), error.message);
  }
  if (steps.length === 0) return;
  const stage = new Stage(path, report);
  try {
    await stage.set();
    await stage.play(steps);
  } catch (error) {
    report.failed(relative(ROOT, path), error.stack);
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
  for (const fault of [...await chapterFaults(DOCS, pages), ...await linkFaults(ROOT, book)]) report.failed('links', fault);
  if (report.counts.failed === 0) report.passed();
  const waiting = pages.filter((page) => only.length === 0 || only.some((name) => page.endsWith(name)));
  if (waiting.length === 0) throw new Error(`no page is called ${only.join(' or ')}`);
  const work = async () => { for (let page = waiting.shift(); page; page = waiting.shift()) await testPage(page); };
  await Promise.all(Array.from({ length: PAGES_AT_ONCE }, work));
  report.print();
  process.exitCode = report.counts.failed > 0 ? 1 : 0;
}

await main();
