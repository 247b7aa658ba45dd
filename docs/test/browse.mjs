// Opens a page in Chromium until an expression is true in it: browse.mjs URL EXPRESSION [PICTURE]

import { createRequire } from 'node:module';
import { join } from 'node:path';

const { chromium } = createRequire(join(process.env.CLIENTS, 'package.json'))('playwright-core');
const FLAGS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update'];
const DEADLINE_MS = 20_000;

const [url, expression, picture] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
try {
  const page = await browser.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await page.goto(url);
  await page.waitForFunction(expression, undefined, { timeout: DEADLINE_MS }).catch(async () => {
    throw new Error(`never true: ${expression}\n${complaints.join('\n')}\n${await page.innerText('body')}`);
  });
  if (picture) await page.screenshot({ path: picture });
} finally {
  await browser.close();
}
