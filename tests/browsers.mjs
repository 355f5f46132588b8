// Installed browsers, driven over WebDriver BiDi or the DevTools protocol, for tests that run in
// several browsers.

import { execFileSync } from 'node:child_process';
import puppeteer from 'puppeteer-core';

const PROGRAMS = { chromium: 'chromium', firefox: 'firefox-esr firefox' };

/**
 * Starts a browser with an empty profile.
 * @param {'chromium' | 'firefox'} name
 * @param {Record<string, unknown>} [prefs] of Firefox
 * @returns {Promise<{version: string, open(url: string): Promise<import('puppeteer-core').Page>,
 *   close(): Promise<void>}>}
 */
export async function startBrowser(name, prefs) {
  const executablePath = execFileSync('sh', ['-c', `command -v ${PROGRAMS[name]} || true`], {
    encoding: 'utf8',
  }).split('\n')[0];
  const browser = await puppeteer.launch({
    browser: name === 'firefox' ? 'firefox' : 'chrome',
    executablePath,
    headless: true,
    args: name === 'firefox' ? [] : ['--no-sandbox', '--disable-gpu'],
    extraPrefsFirefox: prefs,
    protocolTimeout: 60_000,
  });
  return {
    version: await browser.version(),
    async open(url) {
      const page = await browser.newPage();
      await page.goto(url);
      return page;
    },
    close: () => browser.close(),
  };
}
