// Chromium for the tests: a page of the stack with `edgeNet` registered, and functions that query
// it.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * Starts Chromium with an empty profile, or with the given profile of an earlier browser.
 * @param {string} [profile]
 * @returns {Promise<{context: import('playwright-core').BrowserContext, profile: string, kill():
 *   void, close(): Promise<void>}>}
 */
export async function startChromium(profile = mkdtempSync(join(tmpdir(), 'edge-net-chromium-'))) {
  const executablePath = execFileSync('sh', ['-c', 'command -v chromium'], {
    encoding: 'utf8',
  }).trim();
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: ARGS,
  });
  return {
    context,
    profile,
    /** Kills all processes of this browser at once, as a power cut would. */
    kill() {
      for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
        try {
          if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`--user-data-dir=${profile}`))
            process.kill(Number(pid), 'SIGKILL');
        } catch {} // it has exited
      }
    },
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

/**
 * Opens a blank page of the stack's origin and registers there.
 * @param {import('playwright-core').BrowserContext} context
 * @param {{page: string}} urls
 * @param {object} [options] over those of /dev.json
 */
export async function openPage(context, urls, options = {}) {
  const page = await context.newPage();
  await page.goto(`${urls.page}blank.html`);
  await register(page, options);
  return page;
}

/** Registers in an open page. @param {import('playwright-core').Page} page */
export function register(page, options = {}) {
  return page.evaluate(async (options) => {
    const { register } = await import('/edge-net.js');
    const configured = { ...(await (await fetch('/dev.json')).json()), ...options };
    const { edge, gcs, ipfs, sources, keys, path, budget, lanes } = configured;
    window.edgeNet = await register({ edge, gcs, ipfs, sources, keys, path, budget, lanes });
    window.heard = [];
    for (const type of ['progress', 'segment', 'refused', 'complete', 'failed']) {
      window.edgeNet.addEventListener(type, ({ detail }) => window.heard.push({ type, ...detail }));
    }
    return window.edgeNet.mode;
  }, options);
}

/**
 * Fetches in the page with plain fetch().
 * @returns {Promise<{status?: number, headers?: Record<string, string>, length?: number, sha256?:
 *   string, error?: string}>}
 */
export function fetchInPage(page, url, headers = {}) {
  return page.evaluate(
    async ({ url, headers }) => {
      try {
        const response = await fetch(url, { headers });
        const bytes = await response.arrayBuffer();
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
        const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
        return {
          status: response.status,
          headers: Object.fromEntries(response.headers),
          length: bytes.byteLength,
          sha256,
        };
      } catch (error) {
        return { error: String(error) };
      }
    },
    { url, headers },
  );
}

/**
 * Runs in a page: resolves when all events that the worker has sent so far have arrived. The worker
 * sends a `request` event for each request on the same channel; when it arrives, the earlier ones
 * have too. This request names no file, so it has no other effect.
 */
export async function hasHeard() {
  const channel = new BroadcastChannel('edge-net');
  let told = false;
  channel.onmessage = ({ data }) => (told ||= data.type === 'request');
  // Repeated, since the first may be sent before this channel is known.
  for (let asked = 0; !told; asked++) {
    if (asked === 1000) throw new Error('the worker is not heard');
    await fetch('/models/');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  channel.close();
}

/** The events since the last call. @returns {Promise<Array<Record<string, any>>>} */
export async function heard(page) {
  await page.evaluate(hasHeard);
  return page.evaluate(() => window.heard.splice(0));
}

/** Deletes all stored bytes and manifests of the origin. */
export function forgetEverything(page) {
  return page.evaluate(async () => {
    for (const registration of await navigator.serviceWorker.getRegistrations())
      await registration.unregister();
    for (const name of await caches.keys()) await caches.delete(name);
    for (const { name } of await indexedDB.databases()) {
      await new Promise((resolve) =>
        Object.assign(indexedDB.deleteDatabase(name), { onsuccess: resolve, onblocked: resolve }),
      );
    }
  });
}
