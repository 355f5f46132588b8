// Who asks, and with which options. A service worker answers all pages of a site, and pages of
// other releases of the site pin other keys. So the options are those of the page that asks: it
// gives them when it registers, and again when a worker that was stopped and started asks for them.

/**
 * An `EdgeNet` of a page.
 * @typedef {object} Asker
 * @property {string} id
 * @property {string} proof  what a response to it carries; no request does, so no server has it
 * @property {number} at     when it was made, in milliseconds since the Unix epoch
 * @property {import('../../web/edge-net.js').Options} options
 * @property {string} [client]
 */

/** The wait for a page to give its options, in milliseconds; it may still be loading. */
const PATIENCE = 3_000;
/** The same for the page of an `EdgeNet`, which has them for sure, and may be busy. */
const LONG_PATIENCE = 10_000;
/** The wait for the answers of more pages after the first, in milliseconds. */
const GRACE = 100;
/** Askers in memory, before those of closed pages are dropped. */
const REMEMBERED = 64;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {Asker[]} askers @returns {Asker | undefined} */
const newest = (askers) =>
  askers.reduce((last, next) => (last && last.at > next.at ? last : next), undefined);

export class Askers {
  /** @type {Map<string, Asker>} */
  #known = new Map();
  /** Clients that gave no options: they are not asked again. */
  #silent = new Set();
  /** @type {Set<() => void>} */
  #waiting = new Set();
  #fixed;

  /** @param {import('../../web/edge-net.js').Options} [fixed] options of the app's own worker */
  constructor(fixed) {
    this.#fixed = fixed;
  }

  /**
   * Remembers an asker. One that has no options gets those of the worker, or of the page that
   * registered last.
   * @param {Omit<Asker, 'options'> & {options?: Asker['options']}} asker
   * @returns {Promise<Asker>}
   */
  async add({ id, proof, at, options, client }) {
    options = this.#fixed ?? options ?? (await this.#oneOf(undefined, client)).options;
    const asker = { id, proof, at, options, client };
    this.#known.set(id, asker);
    for (const look of this.#waiting) look();
    if (this.#known.size > REMEMBERED) this.#dropClosed();
    return asker;
  }

  async #dropClosed() {
    const open = await self.clients.matchAll({ type: 'all', includeUncontrolled: true });
    const ids = new Set(open.map(({ id }) => id));
    for (const [id, { client }] of this.#known) if (!ids.has(client)) this.#known.delete(id);
    for (const client of this.#silent) if (!ids.has(client)) this.#silent.delete(client);
  }

  /**
   * The asker of a request or a message: the one with this id, else the newest of this client, else
   * the newest of all, as for a worker that a page made.
   * @param {string | null | undefined} id
   * @param {string} [client]
   * @returns {Promise<Partial<Asker>>}
   */
  async of(id, client) {
    if (!id && this.#fixed) return { options: this.#fixed };
    return this.#oneOf(id ?? undefined, client);
  }

  /** The options of all askers. */
  async #oneOf(id, client) {
    const exact = () =>
      id
        ? this.#known.get(id)
        : newest([...this.#known.values()].filter((asker) => asker.client === client));
    if (exact()) return exact();
    await this.#question(id, client, exact);
    const found = exact() ?? (id ? undefined : newest([...this.#known.values()]));
    if (found) return found;
    throw new Error(
      'edge-net: no page has given its options to the service worker, so no key is pinned; ' +
        'call register() of edge-net.js in the page before it loads a model, and keep it open',
    );
  }

  /** Asks pages for their options, until `found`. */
  async #question(id, client, found) {
    const own = client && (await self.clients.get(client));
    const page = own?.type === 'window' && !this.#silent.has(client);
    // A worker that a page made cannot be asked.
    if (!id && !page && this.#known.size > 0) return;
    const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
    for (const each of pages) this.#questionPage(each);
    const enough = () => (id || page ? found() : this.#known.size > 0);
    await this.#wait(enough, id ? LONG_PATIENCE : PATIENCE);
    if (id || found()) return;
    if (page) this.#silent.add(client);
    else await sleep(GRACE);
  }

  #questionPage(page) {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => {
      port1.close();
      if (data?.id && data.options) this.add({ ...data, client: page.id });
    };
    page.postMessage({ edgeNet: 'options' }, [port2]);
  }

  /** Waits until `enough`, which each new asker may make true, but not longer than `ms`. */
  #wait(enough, ms) {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(undefined);
      };
      const look = () => enough() && end();
      const timer = setTimeout(end, ms);
      this.#waiting.add(look);
      look();
    });
  }
}
