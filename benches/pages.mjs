// One Chromium, and a page for each way of loading.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { build } from 'esbuild';
import puppeteer from 'puppeteer-core';
import { serveFolders } from './origin.mjs';

/**
 * Starts Chromium. Without network instrumentation: reporting each packet to a debugger costs more
 * than some of the work measured.
 * @param {string} folder of its profile
 */
export const launch = (folder) =>
  puppeteer.launch({
    executablePath: execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim(),
    headless: true,
    networkEnabled: false,
    userDataDir: join(folder, 'profile'),
    protocolTimeout: 600_000,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-sync',
    ],
  });

/**
 * Bundles an entry of esbuild for the pages.
 * @param {string} folder
 * @param {import('esbuild').BuildOptions} entry
 * @param {string} outfile
 */
export const bundle = (folder, entry, outfile) =>
  build({
    ...entry,
    bundle: true,
    minify: true,
    outfile: `${folder}/built/${outfile}`,
    logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"' },
  });

/**
 * Opens the page of a way. Each has its own origin, so that they share no storage.
 * @param {import('puppeteer-core').Browser} browser
 * @param {string} folder with the bundles
 * @param {string} way a name in `ways/ways.js`
 * @param {object} options of the way
 */
export async function open(browser, folder, way, options) {
  const origin = await serveFolders(['benches/ways', `${folder}/built`, 'web', 'web/dist']);
  const page = await browser.newPage();
  page.on('pageerror', (error) => console.error(`${way}: ${error.message}`));
  await page.goto(`${origin.url}/index.html`);
  await page.waitForFunction(() => 'bench' in globalThis);
  await page.evaluate(([way, options]) => bench.start(way, options), [way, options]);
  const endWorker = async () => {
    const session = await page.createCDPSession();
    await session.send('ServiceWorker.enable');
    await session.send('ServiceWorker.stopAllWorkers');
    await session.detach();
  };
  const ask = (what, ...rest) =>
    page.evaluate(([what, rest]) => bench[what](...rest), [what, rest]);
  const close = async () => (await page.close(), origin.stop());
  return { way, page, ask, endWorker, close };
}
