// Private models at the edge: links, and who may create them.

import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { startStack } from '../dev/stack.mjs';
import { publishSmall } from './publisher.mjs';

describe('private models', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  const keys = { old: randomBytes(32), new: randomBytes(32) };
  const keysText = (current, ...names) =>
    JSON.stringify({
      current,
      keys: Object.fromEntries(names.map((name) => [name, keys[name].toString('base64')])),
    });
  const vars = {
    PRIVATE_MODELS: 'secret, other',
    LINK_TOKEN: 'the-token',
    LINK_KEYS: keysText('old', 'old'),
  };

  before(async () => {
    stack = await startStack({ vars });
    for (const id of ['secret', 'secret-not', 'public'])
      await publishSmall(stack, { id, version: '1.0.0' });
  });
  after(() => stack?.stop());

  const download = (id, { token, query = '' } = {}) =>
    fetch(`${stack.urls.edge}/v1/models/${id}/download${query}`, {
      headers: token ? { authorization: `Bearer ${token}` } : {},
    });
  const status = async (url) => (await fetch(url)).status;
  const detail = async (url) => (await (await fetch(url)).json()).detail;

  test('no path serves a private model without a link', async () => {
    for (const path of [
      'models/secret/notes.txt',
      'models/secret/v1.0.0/notes.txt',
      'models/secret/manifest.json',
      'models/secret/notes.txt.leaves',
      'models/other/notes.txt',
      'org/Secret/resolve/main/notes.txt',
      'models/org/secret/resolve/main/notes.txt',
    ]) {
      assert.equal(await status(`${stack.urls.edge}/${path}`), 403, path);
    }
    assert.match(
      await detail(`${stack.urls.edge}/models/secret/notes.txt`),
      /secret is private, and the link has no key.*ask \/v1\/models\/secret\/download/,
    );
    assert.equal(await status(`${stack.urls.edge}/models/secret-not/notes.txt`), 200);
    assert.equal(await status(`${stack.urls.edge}/models/public/notes.txt`), 200);
  });

  test('links are created with the token only, and open the files that they name', async () => {
    for (const token of [undefined, 'the-toke', 'the-token2']) {
      const refused = await download('secret', { token });
      assert.equal(refused.status, 401);
      assert.equal(refused.headers.get('www-authenticate'), 'Bearer');
    }
    const given = await download('secret', { token: 'the-token' });
    assert.equal(given.status, 200);
    assert.match(given.headers.get('cache-control'), /no-store/);
    const expires = Number(given.headers.get('x-link-expires')) * 1000 - Date.now();
    assert.ok(expires > 3_500_000 && expires <= 3_600_000, `${expires}`);
    const urls = await given.json();
    assert.deepEqual(Object.keys(urls).sort(), ['notes', 'signature']);
    const notes = await fetch(urls.notes);
    assert.equal(await notes.text(), 'notes of secret 1.0.0');
    assert.match(notes.headers.get('cache-control'), /^private/);
    assert.equal((await (await fetch(urls.signature)).json()).id, 'secret');
    assert.equal((await fetch(urls.notes, { method: 'HEAD' })).status, 200);
    assert.equal((await fetch(urls.notes, { headers: { range: 'bytes=0-4' } })).status, 206);
    // The link is valid for this model and until it expires only.
    const query = new URL(urls.notes).search;
    assert.match(
      await detail(`${stack.urls.edge}/models/other/notes.txt${query}`),
      /the link is for \/models\/secret\//,
    );
    assert.equal(await status(urls.notes.replace(/expires=\d/, 'expires=9')), 403);
    assert.equal(await status(urls.notes.replace('/models/secret/&', '/models/&')), 403);
  });

  test('a link expires', async () => {
    const expires = Math.floor(Date.now() / 1000) - 5;
    const signature = createHmac('sha256', keys.old)
      .update(`edge-net-link-v1\nGET\nprefix\n/models/secret/\n${expires}\nold`)
      .digest('base64url');
    const query = `expires=${expires}&key=old&prefix=/models/secret/&signature=${signature}`;
    const url = `${stack.urls.edge}/models/secret/notes.txt?${query}`;
    assert.match(await detail(url), /the link expired \d+ s ago/);
    for (const lifetime of ['0', '604801', 'x', '-1'])
      assert.equal(
        (await download('secret', { token: 'the-token', query: `?lifetime=${lifetime}` })).status,
        400,
      );
    const short = await download('secret', { token: 'the-token', query: '?lifetime=60' });
    assert.ok(Number(short.headers.get('x-link-expires')) * 1000 - Date.now() <= 60_000);
  });

  test('URLs of public models need neither token nor link', async () => {
    const urls = await (await download('public')).json();
    assert.equal(await (await fetch(urls.notes)).text(), 'notes of public 1.0.0');
    assert.equal(new URL(urls.notes).search, '');
    const fromIpfs = await (await download('public', { query: '?source=ipfs' })).json();
    assert.equal(await (await fetch(fromIpfs.notes)).text(), 'notes of public 1.0.0');
    assert.equal((await download('public', { query: '?source=ftp' })).status, 400);
    assert.equal((await download('nothing')).status, 404);
    assert.equal(
      (await download('secret', { token: 'the-token', query: '?source=ipfs' })).status,
      404,
    );
  });

  test('key rotation: links of the old key are valid until it is removed', async () => {
    const { notes } = await (await download('secret', { token: 'the-token' })).json();
    const restart = async (text) => {
      vars.LINK_KEYS = text;
      await stack.stopEdge();
      await stack.startEdge();
    };
    await restart(keysText('new', 'new', 'old'));
    assert.equal(await status(notes), 200);
    const { notes: newer } = await (await download('secret', { token: 'the-token' })).json();
    assert.match(newer, /key=new/);
    await restart(keysText('new', 'new'));
    assert.match(await detail(notes), /signed with a key that is unknown here/);
    assert.equal(await status(newer), 200);
  });
});
