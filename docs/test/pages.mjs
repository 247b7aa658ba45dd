// What there is to test in a page: its fenced blocks, with the directives in comments before them.
//
//   <!-- test: skip REASON -->          not run, and why
//   <!-- test: file NAME -->            the block is written to NAME; YAML is checked as configuration all the same
//   <!-- test: exit CODE -->            the last command of the block ends with CODE
//   <!-- test: background until COMMAND -->  the block goes on running; the page goes on once COMMAND succeeds
//   <!-- test: values -->               values of the chart: what is under `config:` is checked as configuration
//   <!-- test: run
//   COMMANDS -->                        commands that no reader sees: what the page needs, or a closer look
//
// Several directives may precede a block.

import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

const DIRECTIVE = /^<!-- test: ([^]*?)-->$/;
const FENCE = /^( *)(`{3,})\s*([\w-]*)/;

/** The steps of a page in their order: `{line, language, text, directives}`, of which hidden commands have no language. */
export async function stepsOf(path) {
  const lines = (await readFile(path, 'utf8')).split('\n');
  const steps = [];
  let directives = [];
  for (let at = 0; at < lines.length; at++) {
    const line = at + 1;
    if (/^ *<!-- test:/.test(lines[at])) {
      const start = at;
      while (!lines[at].endsWith('-->')) {
        if (++at === lines.length) throw new Error(`${path}:${line}: a comment that does not end`);
      }
      const directive = directiveOf(lines.slice(start, at + 1).join('\n').trim(), `${path}:${line}`);
      if (directive.name === 'run') steps.push({ line, text: directive.words, directives: [] });
      else directives.push(directive);
      continue;
    }
    const fence = FENCE.exec(lines[at]);
    if (!fence) continue;
    const [, indent, marks, language] = fence;
    const start = at + 1;
    do at++; while (at < lines.length && lines[at].trim() !== marks);
    const text = lines.slice(start, at).map((text) => text.slice(indent.length)).join('\n') + '\n';
    steps.push({ line, language, text: await withIncluded(text, dirname(path)), directives });
    directives = [];
  }
  if (directives.length > 0) throw new Error(`${path}: a directive without a block: ${directives[0].name}`);
  return steps;
}

/** What mdbook makes of a block that consists of a file. */
function withIncluded(text, directory) {
  const [, file] = /^\{\{#include (.*)\}\}\n$/.exec(text) ?? [];
  return file ? readFile(resolve(directory, file), 'utf8') : text;
}

function directiveOf(comment, place) {
  const [, content] = DIRECTIVE.exec(comment) ?? [];
  const [, name, words] = /^(skip|file|exit|background|values|run)\b\s*([^]*?)\s*$/.exec(content ?? '') ?? [];
  if (!name) throw new Error(`${place}: not a directive: ${comment}`);
  if (name === 'skip' && !words) throw new Error(`${place}: skipped without a reason`);
  return { name, words };
}

/** What the directive `name` of `step` says; `undefined` if there is none. */
export const said = (step, name) => step.directives.find((directive) => directive.name === name)?.words;

/** The commands of a block with what each should print: `$ ` begins one, a `\` at the end of a line goes on with it. */
export function sessionOf(text) {
  const commands = [];
  let goesOn = false;
  for (const line of text.trimEnd().split('\n')) {
    const last = commands.at(-1);
    if (goesOn) last.command += `\n${line}`;
    else if (line.startsWith('$ ')) commands.push({ command: line.slice(2), expected: [] });
    else if (last) last.expected.push(line);
    else throw new Error('a console block begins with `$ `');
    goesOn = (goesOn || line.startsWith('$ ')) && line.endsWith('\\');
  }
  return commands;
}

/** Whether `printed` is what `expected` shows: `…` in a line stands for anything, alone in a line for any lines. */
export function matches(printed, expected) {
  const escape = (text) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&').replaceAll('…', '.*');
  const lines = expected.map((line) => (line.trim() === '…' ? '(?:.*\n)*' : `${escape(line.trimEnd())} *\n`));
  return new RegExp(`^${lines.join('')}$`).test(printed.trimEnd() + '\n');
}
