// The demo page.

import { register } from './edge-net.js';

const MODEL = 'minilm-l6-v2-q8';
const BASE = `/models/${MODEL}/`;

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);
const megabytes = (bytes) =>
  `${(bytes / 1e6).toLocaleString('en', { maximumFractionDigits: 1 })} MB`;
const size = (bytes) => (bytes < 1e5 ? `${bytes.toLocaleString('en')} bytes` : megabytes(bytes));

/** Adds a line to the log. @param {string} text @param {boolean} [bad] */
function log(text, bad = false) {
  const line = document.createElement('li');
  line.textContent = text;
  line.className = bad ? 'bad' : '';
  $('log').append(line);
  $('log').scrollTop = $('log').scrollHeight;
}

/** Runs `action` on a click. The button is disabled meanwhile; errors go to the log. */
function onClick(id, action) {
  $(id).addEventListener('click', async () => {
    $(id).disabled = true;
    try {
      await action();
    } catch (error) {
      log(error.message, true);
    } finally {
      $(id).disabled = false;
    }
  });
}

/** The options, which `make serve` serves as /dev.json. Your own site has constants instead. */
async function options() {
  const response = await fetch('/dev.json').catch(() => undefined);
  if (response?.ok) {
    const served = await response.json();
    try {
      localStorage.setItem('dev.json', JSON.stringify(served));
    } catch {} // Without storage, the page does not work offline.
    return served;
  }
  const remembered = localStorage.getItem('dev.json');
  if (!remembered)
    throw new Error(
      'There is no /dev.json. Start this page with `make serve`, or put your options into demo.js.',
    );
  return JSON.parse(remembered);
}

const configured = await options().catch((error) => {
  $('mode').textContent = 'not configured';
  log(error.message, true);
  throw error;
});
const { edge, gcs, ipfs, keys, gcsFault } = configured;
const edgeNet = await register({ edge, gcs, ipfs, keys }).catch((error) => {
  $('mode').textContent = 'nothing can be verified here';
  log(error.message, true);
  throw error;
});
globalThis.edgeNet = edgeNet;
const showMode = () => {
  $('mode').textContent =
    edgeNet.mode === 'service-worker'
      ? 'verified by the service worker'
      : 'verified in this page (no service worker)';
};
edgeNet.addEventListener('mode', showMode);
showMode();

const showOnline = () => {
  $('online').textContent = navigator.onLine ? 'online' : 'offline';
  $('online').classList.toggle('bad', !navigator.onLine);
};
addEventListener('online', showOnline);
addEventListener('offline', showOnline);
showOnline();

// The model and its files.
async function showModel() {
  const manifest = await edgeNet.manifest(MODEL);
  const kept = new Map((await edgeNet.list()).map((row) => [row.cid, row.cachedBytes]));
  $('model-title').textContent = `${manifest.name} ${manifest.version}`;
  const license = manifest.license ?? 'no licence given';
  const signed = `signed by “${manifest.signature.keyId}” on ${manifest.timestamp.slice(0, 10)}`;
  $('model-about').textContent = `${manifest.id}, ${license}, ${signed}`;
  const rows = Object.values(manifest.artifacts).map((artifact) => {
    const row = document.createElement('li');
    const cid = document.createElement('button');
    cid.textContent = `${artifact.cid.slice(0, 9)}…${artifact.cid.slice(-5)}`;
    cid.title = `Copy the CID ${artifact.cid}`;
    cid.addEventListener('click', () =>
      navigator.clipboard.writeText(artifact.cid).then(() => log(`copied ${artifact.cid}`)),
    );
    const cached = kept.get(artifact.cid);
    const state = document.createElement('span');
    state.textContent = cached
      ? `${size(artifact.size)}, ${cached >= artifact.size ? 'stored' : `${size(cached)} stored`}`
      : size(artifact.size);
    row.append(artifact.filename, state, cid);
    return row;
  });
  $('files').replaceChildren(...rows);
  showSegments(manifest.artifacts.model.size);
}

/** One cell for each segment of 4 MiB. */
function showSegments(bytes) {
  const count = Math.ceil(bytes / 4_194_304);
  if ($('progress').childElementCount === count) return;
  $('progress').replaceChildren(
    ...Array.from({ length: count }, () => document.createElement('i')),
  );
}

let verified = 0;
edgeNet.addEventListener('segment', ({ detail }) => {
  if (detail.model !== MODEL || detail.file !== 'model.onnx') return;
  showSegments(detail.size);
  const cell = $('progress').children[detail.segment];
  cell.dataset.from = detail.origin.includes('ipfs') ? 'ipfs' : detail.origin;
  cell.textContent = '✓';
  const via =
    detail.source === detail.origin ? detail.origin : `${detail.source} ← ${detail.origin}`;
  cell.title = `segment ${detail.segment}: ${via}, verified`;
  verified += detail.end - detail.start;
  const share = Math.round((100 * verified) / detail.size);
  $('progress').setAttribute('aria-valuenow', String(Math.min(100, share)));
  const rate = detail.ms > 0 ? `, ${megabytes(verified / (detail.ms / 1000))}/s` : '';
  $('status').textContent =
    `${megabytes(Math.min(verified, detail.size))} of ${megabytes(detail.size)} verified${rate}`;
  log(`segment ${detail.segment + 1} of ${detail.segments}: ${via}, verified`);
});
edgeNet.addEventListener('refused', ({ detail }) => {
  const what =
    detail.segment === undefined
      ? detail.reason
      : `segment ${detail.segment + 1}: ${detail.source}: ${detail.reason}; trying another source`;
  log(what, true);
});
edgeNet.addEventListener('unstored', ({ detail }) => log(detail.message, true));
edgeNet.addEventListener('failed', ({ detail }) => log(`${detail.file}: ${detail.message}`, true));

function startBar() {
  verified = 0;
  for (const cell of $('progress').children) {
    delete cell.dataset.from;
    cell.textContent = '';
  }
}

onClick('download', async () => {
  startBar();
  $('status').textContent = 'fetching the manifest…';
  const started = performance.now();
  const response = await edgeNet.fetch(`${BASE}model.onnx`);
  const bytes = await response.arrayBuffer();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  log(`model.onnx: ${size(bytes.byteLength)} in ${seconds} s, every leaf verified`);
  await showModel();
});

// The embedding.
/** @type {Promise<any> | undefined} */
let embedder;
onClick('compare', async () => {
  startBar();
  const { createEmbedder, similarity } = await import('./embedding.js');
  const started = performance.now();
  const verifiedFetch = edgeNet.mode === 'service-worker' ? undefined : edgeNet.fetch.bind(edgeNet);
  embedder ??= createEmbedder({ base: BASE, fetch: verifiedFetch });
  embedder.catch(() => (embedder = undefined));
  const { embed } = await embedder;
  const opened = performance.now();
  const a = await embed($('sentence-a').value);
  const b = await embed($('sentence-b').value);
  const cosine = similarity(a, b);
  $('similarity').textContent = cosine.toFixed(3);
  $('meter').value = Math.max(0, cosine);
  const open = `model open after ${Math.round(opened - started)} ms`;
  const embedded = `${Math.round(performance.now() - opened)} ms`;
  $('timing').textContent = `${open}, two embeddings of ${a.length} numbers in ${embedded}`;
  await showModel();
});

// The faults of the bucket.
async function setFault(fault, text) {
  await fetch(gcsFault, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(fault),
  });
  $('fault').textContent = text;
  log(text);
}
onClick('corrupt', () =>
  setFault({ mode: 'corrupt', offset: 9_000_000 }, 'The bucket now flips a byte in segment 3.'),
);
onClick('cut', () => setFault({ mode: 'down' }, 'The bucket no longer answers.'));
onClick('repair', () => setFault({ mode: 'none' }, 'The bucket works again.'));
onClick('forget', async () => {
  await edgeNet.remove(MODEL);
  embedder = undefined;
  startBar();
  $('status').textContent = '';
  log('the stored copy was deleted');
  await showModel();
});

for (const id of ['download', 'compare']) $(id).disabled = false;
await showModel().catch((error) => log(error.message, true));
