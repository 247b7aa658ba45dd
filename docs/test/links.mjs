// Whether every page has its chapter, and every link of the book and of its sources leads somewhere.

import { access, readFile, readdir } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';

async function filesUnder(directory, ending) {
  const found = [];
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) found.push(...await filesUnder(path, ending));
    else if (entry.name.endsWith(ending)) found.push(path);
  }
  return found.sort();
}

/** Every page of the book, as files. */
export const pagesOf = async (docs) => (await filesUnder(docs, '.md')).filter((path) => path !== join(docs, 'SUMMARY.md'));

/** Pages that are not in SUMMARY.md. (mdbook itself fails where it names one that is not there, see book.toml.) */
export async function chapterFaults(docs, pages) {
  const summary = await readFile(join(docs, 'SUMMARY.md'), 'utf8');
  const chapters = new Set([...summary.matchAll(/\]\(([^)]+)\)/g)].map(([, path]) => resolve(docs, path)));
  return pages.filter((page) => !chapters.has(page)).map((page) => `${relative(docs, page)} is not in SUMMARY.md`);
}

/** Links that lead nowhere, in the book at `book` and in Markdown under `root`; things that the book would fetch from elsewhere. */
export async function linkFaults(root, book) {
  const sources = [...await filesUnder(join(root, 'docs'), '.md'), join(root, 'loadtest/README.md')];
  return [...await bookFaults(book), ...(await Promise.all(sources.map((path) => sourceFaults(root, path)))).flat()];
}

async function bookFaults(book) {
  const pages = new Map();
  for (const path of await filesUnder(book, '.html')) {
    const text = (await readFile(path, 'utf8')).replace(/<!--[^]*?-->/g, '');
    pages.set(path, { text, anchors: new Set([...text.matchAll(/\s(?:id|name)="([^"]+)"/g)].map(([, id]) => id)) });
  }
  if (pages.size === 0) return [`${book} has no pages`];
  const faults = [];
  for (const [path, { text }] of pages) {
    for (const [, tag, attributes] of text.matchAll(/<(a|img|script|link|iframe|source)\s([^>]*)>/g)) {
      const target = /(?:^|\s)(?:href|src)="([^"]*)"/.exec(attributes)?.[1];
      if (target === undefined) continue;
      const fault = await targetFault(pages, book, path, tag, decode(target));
      if (fault) faults.push(`${relative(book, path)}: ${target} ${fault}`);
    }
  }
  for (const path of await filesUnder(book, '.css')) {
    for (const [, target] of (await readFile(path, 'utf8')).matchAll(/(?:url\(|@import )["']?((?:https?:)?\/\/[^"')]+)/g)) {
      faults.push(`${relative(book, path)}: ${target} comes from elsewhere`);
    }
  }
  return faults;
}

const decode = (text) => text.replaceAll('&amp;', '&').replaceAll('&#x27;', "'").replaceAll('&quot;', '"');

async function targetFault(pages, book, from, tag, target) {
  if (/^(?:[a-z]+:)?\/\//.test(target)) return tag === 'a' ? undefined : 'comes from elsewhere';
  if (/^(?:mailto|data|javascript):/.test(target)) return undefined;
  const [path, anchor] = target.split('#');
  const bare = decodeURIComponent(path.split('?')[0]);
  const file = bare === '' ? from : bare.startsWith('/') ? join(book, bare) : resolve(dirname(from), bare);
  if (relative(book, file).startsWith('..')) return 'leads out of the book';
  const page = pages.get(file) ?? pages.get(join(file, 'index.html'));
  if (!page) return await exists(file) ? undefined : 'is not there';
  return anchor && !page.anchors.has(decodeURIComponent(anchor)) ? 'has no such anchor' : undefined;
}

const exists = (path) => access(path).then(() => true, () => false);

/** The same in a source, where it is read without the book: files and the headings in them. */
async function sourceFaults(root, path) {
  const text = withoutCode(await readFile(path, 'utf8'));
  const faults = [];
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [name, anchor] = target.split('#');
    const file = name === '' ? path : resolve(dirname(path), name);
    if (!await exists(file)) faults.push(`${relative(root, path)}: ${target} is not there`);
    else if (anchor && file.endsWith('.md') && !headings(await readFile(file, 'utf8')).has(anchor)) {
      faults.push(`${relative(root, path)}: ${target} has no such heading`);
    }
  }
  return faults;
}

const withoutCode = (text) => text.replace(/^( *)```[^]*?^\1```/gm, '').replace(/`[^`\n]*`/g, '');

function headings(text) {
  const titles = [...text.replace(/^```[^]*?^```/gm, '').matchAll(/^#+ (.*)$/gm)].map(([, title]) => title);
  return new Set(titles.map((title) => title.toLowerCase().replace(/[`*]/g, '').replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replace(/\s/g, '-')));
}
