// Publishing for tests: small models with the real tool, altered and re-signed manifests.

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
} from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KEY } from '../dev/stack.mjs';

/** Faults of the bucket that another source compensates. The offset is in the second segment. */
export const BUCKET_FAULTS = [
  { mode: 'corrupt', offset: 5_000_000 },
  { mode: 'down' },
  { mode: 'html' },
  { mode: 'ignore-range' },
  { mode: 'lie-range' },
  { mode: 'truncate' },
  { mode: 'cut' },
  { mode: 'error' },
  { mode: 'redirect' },
].map((fault) => (fault.mode === 'down' ? fault : { ...fault, match: 'model\\.onnx$' }));

/** Faults under which the source still delivers the correct bytes in the end. */
export const HINDRANCES = [{ mode: 'limit' }, { mode: 'flap' }].map((fault) => ({
  ...fault,
  match: 'model\\.onnx$',
}));

/** Sets a fault of dev/faults.mjs. */
export async function setFault(url, fault) {
  const response = await fetch(url, { method: 'PUT', body: JSON.stringify(fault) });
  if (!response.ok) throw new Error(await response.text());
}

/** Writes an object into the bucket through its real API. */
export async function putObject(stack, name, body) {
  const { origin } = new URL(stack.urls.gcs);
  const bucket = `${origin}/upload/storage/v1/b/edge-net-models/o`;
  const url = `${bucket}?uploadType=media&name=${encodeURIComponent(name)}`;
  const response = await fetch(url, { method: 'POST', body });
  if (!response.ok) throw new Error(`${name}: ${response.status} ${await response.text()}`);
}

/**
 * Publishes a model of one file.
 * @param {string} filename
 * @param {string | Uint8Array} content
 * @param {{id: string, version?: string}} model  and whatever else `stack.publish` takes
 * @returns {Promise<any>} its manifest
 */
export async function publishFile(stack, filename, content, { id, version = '1.0.0', ...more }) {
  const dir = await mkdtemp(join(tmpdir(), 'edge-net-model-'));
  try {
    await writeFile(join(dir, filename), content);
    await stack.publish({ dir, id, version, type: 'embedding', name: id, ...more });
  } finally {
    await rm(dir, { recursive: true });
  }
  return (await fetch(`${stack.urls.gcs}/${id}/v${version}/manifest.json`)).json();
}

/** Publishes a model of one small file, notes.txt. */
export const publishSmall = (stack, { text, ...model }) =>
  publishFile(stack, 'notes.txt', text ?? `notes of ${model.id} ${model.version}`, model);

/** RFC 8785 for the values in test manifests, which have no exotic numbers. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${members.join(',')}}`;
}

/**
 * Signs a manifest again, by the development key, or by a new key for another key id.
 * @param {any} manifest
 * @param {string} [keyId]
 */
export async function resign({ signature: _, ...manifest }, keyId = KEY.id) {
  const pem = await readFile(KEY.pem, 'utf8');
  const privateKey =
    keyId === KEY.id
      ? createPrivateKey(pem.slice(pem.indexOf('-----BEGIN')))
      : generateKeyPairSync('ed25519').privateKey;
  const publicKey = Buffer.from(
    createPublicKey(privateKey).export({ format: 'jwk' }).x,
    'base64url',
  ).toString('base64');
  const signature = sign(null, Buffer.from(canonical(manifest)), privateKey).toString('base64');
  return { ...manifest, signature: { keyId, publicKey, signature } };
}

/**
 * The same signature with S + L for its scalar S: it verifies unless S is checked to be reduced.
 */
export function nonCanonical(manifest) {
  const order = (1n << 252n) + 27742317777372353535851937790883648493n;
  const bytes = Buffer.from(manifest.signature.signature, 'base64');
  const scalar = BigInt(`0x${Buffer.from(bytes.subarray(32)).reverse().toString('hex')}`) + order;
  const written = Buffer.from(scalar.toString(16).padStart(64, '0'), 'hex').reverse();
  const signature = Buffer.concat([bytes.subarray(0, 32), written]).toString('base64');
  return { ...manifest, signature: { ...manifest.signature, signature } };
}

/** SHA-256 in hexadecimal. */
export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
