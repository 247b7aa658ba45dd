// A real browser, and its windows as the tests use them.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { chromium } from 'playwright-core';
import { Inbox, requireProgram } from './support.mjs';

const FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };
/** How long a fact may take. */
const DEADLINE_MS = 15_000;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

let browser;

/** Starts the browser, which ends with the test or suite `t`. */
export async function launch(t) {
  const executablePath = await requireProgram(CHROMIUM, 'chromium');
  browser = await chromium.launch({ executablePath, args: FLAGS });
  t.after(() => browser.close());
}

/** A window of its own (context, storage); `complaints` collects what its console and
 * its scripts complain of, `frames` what its WebSockets receive. `onSocket` sits in the line of its bare WebSockets. */
export async function openWindow(t, url, { onSocket, ...options } = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  t.after(() => context.close());
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  if (onSocket) await page.routeWebSocket(/\/ws\?/, onSocket);
  const frames = new Inbox();
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => frames.push(payload)));
  await page.goto(url);
  return { page, complaints, frames };
}

/** Asks until the answer is `expected`; the last one that was not is in the failure. */
export async function eventually(ask, expected) {
  const end = Date.now() + DEADLINE_MS;
  while (!isDeepStrictEqual(await ask(), expected) && Date.now() < end) await pause(20);
  assert.deepEqual(await ask(), expected);
}
