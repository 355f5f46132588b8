// Embeddings at the edge: the inference worker in workerd, bound to the edge.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { startIsolate } from '../dev/isolate.mjs';
import { DEMO, KEYS, startStack } from '../dev/stack.mjs';
import { documents, judgements, sentences } from './lee.mjs';
import { publishSmall, setFault } from './publisher.mjs';
import { SEED, random } from './ranges.mjs';
import { assertEmbeds, references } from './reference-embedding.mjs';

/** The name of the inference worker in dev/workers.mjs. */
const INFERENCE = 'edge-net-inference-dev';
/** Cloudflare's memory limit of an isolate, in bytes. */
const LIMIT = 128_000_000;
/** The number of requests of random length. */
const REQUESTS = Number(process.env.REQUESTS ?? 2000);

const TEXTS = [
  'The quick brown fox jumps over the lazy dog.',
  'a',
  'Grüße aus Köln, señor! Ça va?',
  'e\u0301te\u0301 o\u0308de a\u030a a\u0301\u0323\u0308', // combining marks
  '我喜欢读书。東京タワー 한국어',
  'emoji 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 and so on',
  'tab\tnewline\nnull\u0000bell\u0007 bom\ufeff nbsp\u00a0 zero\u200bwidth soft\u00adhyphen',
  'مرحبا بالعالم שלום',
  'x'.repeat(5000),
  '[CLS] [SEP] [MASK] ##ing',
  'lone \ufffd replacement, İstanbul, ﬁne, Ⅷ, ½',
  ' \u2003 spaces   everywhere ',
];

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

/** Spearman's rank correlation. */
function spearman(a, b) {
  const ranks = (values) => {
    const order = values.map((value, i) => [value, i]).sort(([x], [y]) => x - y);
    const ranks = [];
    for (let from = 0; from < order.length;) {
      let to = from;
      while (to < order.length && order[to][0] === order[from][0]) to++;
      // Ties share their rank.
      for (let i = from; i < to; i++) ranks[order[i][1]] = (from + to - 1) / 2;
      from = to;
    }
    return ranks.map((rank) => rank - (values.length - 1) / 2);
  };
  return cosine(ranks(a), ranks(b));
}

/**
 * Publishes the demo's files as another model; `change` gets their folder and changes them first.
 */
async function publishChanged(
  stack,
  id,
  change = () => {},
  { version = '1.0.0', type = 'embedding' } = {},
) {
  const dir = await mkdtemp(join(tmpdir(), 'edge-net-model-'));
  try {
    await cp(DEMO.dir, dir, { recursive: true });
    await change(dir);
    await stack.publish({ dir, id, version, type, name: id });
  } finally {
    await rm(dir, { recursive: true });
  }
}

const ask = async (base, body, { headers = {}, ...init } = {}) => {
  const response = await fetch(`${base}/v1/embeddings`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) };
};

/** Asserts that a response is a problem document and an OpenAI error. */
function assertProblem(answer, status, detail, members = {}) {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.headers.get('content-type'), 'application/problem+json');
  const problem = answer.json();
  assert.equal(problem.status, status);
  assert.match(problem.detail, detail);
  assert.equal(problem.error.message, problem.detail);
  for (const [name, value] of Object.entries(members))
    assert.equal(problem.error[name], value, name);
}

describe('embeddings at the edge', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {OpenAI} */
  let client;
  let renewedAt;
  const embed = (body, init) => ask(stack.urls.edge, { model: DEMO.id, ...body }, init);
  const embeddingsOf = async (body) => {
    const answer = await embed(body);
    assert.equal(answer.status, 200, answer.text);
    return answer.json().data.map(({ embedding }) => embedding);
  };

  before(async () => {
    // Without the segment cache, requests to the bucket count the loads of a model.
    stack = await startStack({
      vars: {
        SEGMENT_CACHE: 'off',
        PRIVATE_MODELS: 'secret',
        LINK_TOKEN: 'the-token',
        LINK_KEYS: JSON.stringify({
          current: 'k',
          keys: { k: Buffer.alloc(32, 7).toString('base64') },
        }),
      },
    });
    await stack.publish();
    client = new OpenAI({ baseURL: `${stack.urls.edge}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  after(() => stack?.stop());

  test('a model is loaded once for all waiting requests', async () => {
    await setFault(stack.urls.gcsFault, {
      mode: 'slow',
      rate: Number.MAX_SAFE_INTEGER,
      match: 'model\\.onnx$',
    });
    const answers = await Promise.all(Array.from({ length: 12 }, () => embed({ input: TEXTS[0] })));
    for (const { status, text } of answers) assert.equal(status, 200, text);
    const { hits } = await (await fetch(stack.urls.gcsFault)).json();
    assert.equal(hits, 6, 'segments of the model');
    await setFault(stack.urls.gcsFault, { mode: 'none' });
  });

  test('a second version is published here, and noticed by a later test', async () => {
    await publishChanged(stack, 'renewed');
    const [first] = await embeddingsOf({ model: 'renewed', input: 'some text' });
    assert.ok(
      cosine(first, (await embeddingsOf({ input: 'some text' }))[0]) > 0.9999,
      'it pools as the demo does',
    );
    const pooling = {
      word_embedding_dimension: 384,
      pooling_mode_cls_token: true,
      pooling_mode_mean_tokens: false,
    };
    await publishChanged(
      stack,
      'renewed',
      (dir) => writeFile(join(dir, '1_Pooling/config.json'), JSON.stringify(pooling)),
      { version: '1.1.0' },
    );
    renewedAt = Date.now();
  });

  test('npm openai, unmodified', async () => {
    const expected = await references(TEXTS);
    const { object, model, data, usage } = await client.embeddings.create({
      model: DEMO.id,
      input: TEXTS,
    });
    assert.equal(object, 'list');
    assert.equal(model, DEMO.id);
    assert.equal(data.length, TEXTS.length);
    data.forEach(({ embedding, index, object }, i) => {
      assert.deepEqual([object, index], ['embedding', i]);
      assert.ok(cosine(embedding, expected[i].embedding) >= 0.9999, TEXTS[i]);
    });
    const tokens = expected.reduce((sum, { tokens }) => sum + tokens.length, 0);
    assert.deepEqual(usage, { prompt_tokens: tokens, total_tokens: tokens });
    await assert.rejects(
      client.embeddings.create({ model: 'no-such-model', input: 'text' }),
      (error) => {
        assert.ok(error instanceof OpenAI.NotFoundError);
        assert.deepEqual(
          [error.code, error.param, error.type],
          ['model_not_found', 'model', 'invalid_request_error'],
        );
        assert.match(error.message, /no manifest of no-such-model/);
        return true;
      },
    );
  });

  test('PyPI openai, unmodified', async () => {
    const child = promisify(execFile)(
      '.tools/venv/bin/python',
      ['tests/openai_client.py', `${stack.urls.edge}/v1`, DEMO.id],
      { maxBuffer: 1 << 26 },
    );
    child.child.stdin.end(JSON.stringify(TEXTS));
    const { embeddings, indices, short, usage, error } = JSON.parse((await child).stdout);
    const expected = await embeddingsOf({ input: TEXTS });
    assert.deepEqual(
      indices,
      TEXTS.map((_, i) => i),
    );
    embeddings.forEach((embedding, i) => assertEmbeds(embedding, expected[i]));
    assert.equal(short.length, 64);
    assert.ok(usage.prompt_tokens > TEXTS.length);
    assert.deepEqual(
      { ...error, message: '' },
      { status: 404, code: 'model_not_found', param: 'model', message: '' },
    );
    assert.match(error.message, /no manifest of no-such-model/);
  });

  test('the forms of input, and tokens by the reference tokenizer', async () => {
    const expected = await references(TEXTS);
    const tokens = expected.map(({ tokens }) => tokens);
    const byTexts = await embeddingsOf({ input: TEXTS });
    assert.deepEqual(await embeddingsOf({ input: tokens }), byTexts);
    for (const at of [0, 4, 6]) {
      assert.deepEqual(await embeddingsOf({ input: TEXTS[at] }), [byTexts[at]], TEXTS[at]);
      assert.deepEqual(await embeddingsOf({ input: tokens[at] }), [byTexts[at]], TEXTS[at]);
    }
    // Taken as they are: without special tokens the embedding differs.
    assert.notDeepEqual(await embeddingsOf({ input: tokens[0].slice(1, -1) }), [byTexts[0]]);
    byTexts.forEach((embedding, i) =>
      assert.ok(cosine(embedding, expected[i].embedding) >= 0.9999, TEXTS[i]),
    );
  });

  test('base64 has the same numbers', async () => {
    const [floats] = await embeddingsOf({ input: TEXTS[0] });
    const [encoded] = await embeddingsOf({ input: TEXTS[0], encoding_format: 'base64' });
    const bytes = Buffer.from(encoded, 'base64');
    assert.deepEqual(
      Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i)),
      floats.map(Math.fround),
    );
  });

  test('dimensions: the first components, scaled to length 1', async () => {
    const [all] = await embeddingsOf({ input: TEXTS[0] });
    assert.equal(all.length, 384);
    for (const dimensions of [1, 64, 383, 384]) {
      const [short] = await embeddingsOf({ input: TEXTS[0], dimensions });
      const length = Math.sqrt(dot(all.slice(0, dimensions), all.slice(0, dimensions)));
      assertEmbeds(
        short,
        all.slice(0, dimensions).map((value) => value / (dimensions === 384 ? 1 : length)),
      );
    }
    assertProblem(
      await embed({ input: 'text', dimensions: 385 }),
      400,
      /have 384 dimensions, not 385/,
      { param: 'dimensions' },
    );
  });

  test('a private model embeds for who has the token or a link', async () => {
    await publishChanged(stack, 'secret');
    const authorization = 'Bearer the-token';
    const ask = (headers, query = '') =>
      fetch(`${stack.urls.edge}/v1/embeddings${query}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ model: 'secret', input: 'text' }),
      });
    const isRefused = async (headers, query) => {
      const answer = await ask(headers, query);
      assert.equal(answer.status, 403);
      const { error } = await answer.json();
      assert.deepEqual([error.param, error.code], ['model', 'model_not_allowed']);
      assert.match(error.message, /secret is private: send Authorization/);
    };
    await isRefused({});
    await isRefused({ 'x-model-links': '{}' });
    assert.equal((await ask({ authorization })).status, 200);
    // Loaded, it is as private as before.
    await isRefused({});
    await isRefused({ authorization: 'Bearer none' });
    await isRefused({ 'x-model-links': '{"secret":"expires=9"}' });
    const download = `${stack.urls.edge}/v1/models/secret/download`;
    const { model } = await (await fetch(download, { headers: { authorization } })).json();
    assert.equal((await ask({}, new URL(model).search)).status, 200);
    await isRefused({}, new URL(model).search.replace(/.$/, ''));
  });

  test('null is as if not given', async () => {
    const [expected] = await embeddingsOf({ input: TEXTS[0] });
    const nulls = { encoding_format: null, dimensions: null, user: null };
    assert.deepEqual(await embeddingsOf({ input: TEXTS[0], ...nulls }), [expected]);
  });

  for (const [what, body, status, detail, members] of [
    ['no JSON', '{', 400, /not JSON/, { param: null, type: 'invalid_request_error' }],
    ['no model', { input: 'text' }, 400, /model is missing/, { param: 'model' }],
    ['no input', { model: DEMO.id }, 400, /input is missing/, { param: 'input' }],
    ['an empty text', { model: DEMO.id, input: '' }, 400, /input must be/, { param: 'input' }],
    [
      'texts and tokens',
      { model: DEMO.id, input: ['text', 1] },
      400,
      /input 1: it must be a string/,
      { param: 'input' },
    ],
    [
      'another format',
      { model: DEMO.id, input: 'text', encoding_format: 'hex' },
      400,
      /"float" or "base64"/,
      { param: 'encoding_format' },
    ],
    [
      'no dimensions',
      { model: DEMO.id, input: 'text', dimensions: 0 },
      400,
      /at least 1/,
      { param: 'dimensions' },
    ],
    [
      'too many tokens',
      { model: DEMO.id, input: ['text', 'word '.repeat(300)] },
      400,
      /input 1: .*302 tokens.*at most 256/,
      { param: 'input' },
    ],
    [
      'too many tokens, as such',
      { model: DEMO.id, input: Array.from({ length: 257 }, () => 1000) },
      400,
      /257 tokens.*at most 256/,
      { param: 'input' },
    ],
    [
      'tokens of another tokenizer', // " the is of" by OpenAI's
      { model: DEMO.id, input: [[101, 7592, 102], [279, 374, 315]] },
      400,
      /input 1: .*token 279 \("\[unused274\]"\).*another tokenizer; send the text/,
      { param: 'input' },
    ],
    [
      'an empty text among others',
      { model: DEMO.id, input: ['a', 'b', ''] },
      400,
      /input 2: it must be a string/,
      { param: 'input' },
    ],
    [
      'a token that there is not',
      { model: DEMO.id, input: [101, 30522, 102] },
      400,
      /token 30522.*30522/,
      { param: 'input' },
    ],
    [
      'too many inputs',
      { model: DEMO.id, input: Array.from({ length: 257 }, () => 'a') },
      400,
      /257 inputs; 256/,
      { param: 'input' },
    ],
    [
      'too many tokens of all inputs',
      { model: DEMO.id, input: Array.from({ length: 70 }, () => 'word '.repeat(250)) },
      400,
      /more than 16384 tokens/,
      { param: 'input' },
    ],
    [
      'too many bytes',
      { model: DEMO.id, input: 'a'.repeat(1 << 20) },
      413,
      /at most 1048576 bytes/,
      {},
    ],
    [
      'a model that there is not',
      { model: 'nobodys', input: 'text' },
      404,
      /no manifest of nobodys/,
      { param: 'model', code: 'model_not_found' },
    ],
    [
      'no id',
      { model: '../../secret', input: 'text' },
      404,
      /there is no model/,
      { param: 'model', code: 'model_not_found' },
    ],
  ]) {
    test(`${what}: ${status}`, async () =>
      assertProblem(await ask(stack.urls.edge, body), status, detail, members));
  }

  test('models without embeddings', async () => {
    await publishSmall(stack, { id: 'notes', version: '1.0.0' });
    assertProblem(
      await embed({ model: 'notes', input: 'text' }),
      400,
      /notes does not embed text: it has no ONNX file/,
      { code: 'model_not_supported' },
    );
    await publishChanged(stack, 'seer', () => {}, { type: 'vision' });
    assertProblem(await embed({ model: 'seer', input: 'text' }), 400, /its type is "vision"/, {
      code: 'model_not_supported',
    });
  });

  test('methods, media types, preflights', async () => {
    const get = await fetch(`${stack.urls.edge}/v1/embeddings`);
    assert.equal(get.status, 405);
    assert.equal(get.headers.get('allow'), 'POST, OPTIONS');
    assert.match((await get.json()).error.message, /use POST/);
    assertProblem(
      await embed({ input: 'text' }, { headers: { 'content-type': 'text/plain' } }),
      415,
      /application\/json/,
    );
    const preflight = await fetch(`${stack.urls.edge}/v1/embeddings`, { method: 'OPTIONS' });
    assert.equal(preflight.headers.get('access-control-allow-methods'), 'POST, OPTIONS');
    assert.equal(preflight.headers.get('access-control-allow-headers'), '*, Authorization');
    const answer = await embed({ input: 'text' });
    assert.equal(answer.headers.get('access-control-allow-origin'), '*');
    assert.equal(answer.headers.get('cache-control'), 'no-store');
  });

  test('/v1/models marks models with embeddings', async () => {
    await stack.publish({ ...DEMO, registry: stack.urls.edge });
    const models = await (await fetch(`${stack.urls.edge}/v1/models?q=minilm`)).json();
    assert.equal(models.find(({ id }) => id === DEMO.id).embeddings, true);
    const notes = await publishSmall(stack, { id: 'minilm-notes', version: '1.0.0' });
    await fetch(`${stack.urls.edge}/v1/models`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(notes),
    });
    const listed = await (await fetch(`${stack.urls.edge}/v1/models?q=minilm`)).json();
    assert.equal(listed.find(({ id }) => id === 'minilm-notes').embeddings, undefined);
  });

  test(
    '1,000 sentences have the embeddings of native onnxruntime',
    { timeout: 300_000 },
    async (context) => {
      const texts = sentences.slice(0, 1000);
      assert.equal(texts.length, 1000);
      const expected = await references(texts);
      const found = [];
      for (let from = 0; from < texts.length; from += 100)
        found.push(
          ...(
            await client.embeddings.create({ model: DEMO.id, input: texts.slice(from, from + 100) })
          ).data,
        );
      const cosines = found.map(({ embedding }, i) => cosine(embedding, expected[i].embedding));
      const least = Math.min(...cosines);
      context.diagnostic(`the least cosine is ${least}`);
      assert.ok(least >= 0.9999, `${least}: ${texts[cosines.indexOf(least)]}`);
    },
  );

  test(
    'similarities of fifty documents agree with native onnxruntime and with human judgements',
    { timeout: 120_000 },
    async (context) => {
      const ours = await embeddingsOf({ input: documents });
      const theirs = (await references(documents)).map(({ embedding }) => embedding);
      assert.equal(judgements.length, (documents.length * (documents.length - 1)) / 2);
      const people = judgements.map(([, , likeness]) => likeness);
      const correlation = (embeddings) =>
        spearman(
          judgements.map(([one, other]) => cosine(embeddings[one], embeddings[other])),
          people,
        );
      const [by, reference] = [correlation(ours), correlation(theirs)];
      context.diagnostic(
        `Spearman with people: ours ${by.toFixed(4)}, onnxruntime ${reference.toFixed(4)}`,
      );
      assert.ok(reference > 0.5, `${reference}`);
      assert.ok(Math.abs(by - reference) <= 0.005);
    },
  );

  describe('unusable models', () => {
    /** A field of a Protocol Buffers message: a varint, or bytes. */
    const field = (number, value) => {
      const varint = (n) =>
        n < 128n ? [Number(n)] : [Number(n % 128n) + 128, ...varint(n / 128n)];
      if (typeof value === 'bigint')
        return Buffer.from([...varint(BigInt(number * 8)), ...varint(value)]);
      const bytes = Buffer.from(value);
      return Buffer.concat([
        Buffer.from([...varint(BigInt(number * 8 + 2)), ...varint(BigInt(bytes.length))]),
        bytes,
      ]);
    };
    const message = (...fields) => Buffer.concat(fields);
    /** An ONNX model whose graph has these fields. */
    const onnx = (...graph) =>
      message(
        field(1, 8n),
        field(8, field(2, 14n)),
        field(7, message(field(2, 'graph'), ...graph)),
      );
    /** A tensor of 32-bit floats without values; below, one of 64-bit integers with values. */
    const floats = (name, dims) =>
      field(5, message(...dims.map((dim) => field(1, dim)), field(2, 1n), field(8, name)));
    const integers = (name, values) =>
      field(
        5,
        message(
          field(1, BigInt(values.length)),
          field(2, 7n),
          ...values.map((value) => field(7, value)),
          field(8, name),
        ),
      );
    const value = (name, type) =>
      message(
        field(1, name),
        field(
          2,
          field(
            1,
            message(
              field(1, type),
              field(2, message(field(1, field(2, 'batch')), field(1, field(2, 'sequence')))),
            ),
          ),
        ),
      );
    const inputs = message(
      field(11, value('input_ids', 7n)),
      field(11, value('attention_mask', 7n)),
    );
    const output = field(12, value('last_hidden_state', 1n));
    const node = (op, from, to) =>
      field(
        1,
        message(...from.map((name) => field(1, name)), field(2, to), field(3, to), field(4, op)),
      );

    const noise = random(SEED);
    /** @type {[string, (model: Buffer) => Buffer][]} */
    const graphs = [
      ['is cut off', (model) => model.subarray(0, model.length >> 1)],
      ['is random bytes', () => Buffer.from(Array.from({ length: 1 << 20 }, () => noise() * 256))],
      ['is empty JSON', () => Buffer.from('{}')],
      [
        'has an operator that there is not',
        (model) => Buffer.from(model.toString('latin1').replaceAll('Softmax', 'Softmux'), 'latin1'),
      ],
      [
        'has spoilt bytes in its graph',
        (model) =>
          Buffer.concat([model.subarray(0, 1000), Buffer.alloc(5000, 0xff), model.subarray(6000)]),
      ],
      [
        'has a tensor of huge dimensions',
        () =>
          onnx(
            inputs,
            floats('weights', [1n << 40n, 1n << 40n]),
            node('Gather', ['weights', 'input_ids'], 'last_hidden_state'),
            output,
          ),
      ],
      [
        'has a tensor of negative dimensions',
        () =>
          onnx(
            inputs,
            floats('weights', [(1n << 64n) - 1n, 4n]),
            node('Gather', ['weights', 'input_ids'], 'last_hidden_state'),
            output,
          ),
      ],
      [
        'wants more memory than an instance may have',
        () =>
          onnx(
            inputs,
            integers('shape', [30n, 1_000_000n, 4n]),
            node('ConstantOfShape', ['shape'], 'last_hidden_state'),
            output,
          ),
      ],
      [
        'wants more memory than there is',
        () =>
          onnx(
            inputs,
            integers('shape', [1n << 20n, 1n << 20n, 4n]),
            node('ConstantOfShape', ['shape'], 'last_hidden_state'),
            output,
          ),
      ],
      [
        'refers to itself',
        () =>
          onnx(
            inputs,
            node('Add', ['last_hidden_state', 'input_ids'], 'last_hidden_state'),
            output,
          ),
      ],
      ['has no graph', () => message(field(1, 8n))],
    ];

    const good = async () =>
      assertEmbeds(
        (await embeddingsOf({ input: TEXTS[0] }))[0],
        (await references([TEXTS[0]]))[0].embedding,
      );

    for (const [n, [what, spoil]] of graphs.entries()) {
      test(
        `the ONNX file ${what}: an error names it, and other models work`,
        { timeout: 60_000 },
        async (context) => {
          const id = `spoilt-${n}`;
          await publishChanged(stack, id, async (dir) => {
            await writeFile(
              join(dir, 'model.onnx'),
              spoil(await readFile(join(dir, 'model.onnx'))),
            );
          });
          const answer = await embed({ model: id, input: 'text' });
          context.diagnostic(answer.json().detail.slice(0, 300));
          assertProblem(answer, 422, new RegExp(`${id} 1\\.0\\.0`), {
            param: 'model',
            code: 'model_not_usable',
          });
          await good();
          // The failure is remembered: the model is not fetched again for each request.
          assertProblem(await embed({ model: id, input: 'text' }), 422, new RegExp(id));
        },
      );
    }

    for (const [what, file, text] of [
      ['a malformed tokenizer', 'tokenizer.json', '{"version":"1.0","model":{}}'],
      ['an unknown pooling', '1_Pooling/config.json', '{"pooling_mode_lasttoken":true}'],
      ['settings that are not JSON', 'sentence_bert_config.json', '{'],
    ]) {
      test(`${what}`, async () => {
        const id = `spoilt-${file.toLowerCase().replaceAll(/[^a-z]/g, '-')}`;
        await publishChanged(stack, id, (dir) => writeFile(join(dir, file), text));
        assertProblem(await embed({ model: id, input: 'text' }), 422, new RegExp(`${file}`), {
          code: 'model_not_usable',
        });
        await good();
      });
    }

    test('a tokenizer with more tokens than the model', async () => {
      await publishChanged(stack, 'wide', async (dir) => {
        const tokenizer = JSON.parse(await readFile(join(dir, 'tokenizer.json')));
        tokenizer.model.vocab.zebra = 4_000_000;
        await writeFile(join(dir, 'tokenizer.json'), JSON.stringify(tokenizer));
      });
      for (const input of ['a zebra', [101, 4_000_000, 102], [101, 30522, 102]]) {
        const answer = await embed({ model: 'wide', input });
        assert.ok([400, 422, 500].includes(answer.status), answer.text);
        assertProblem(answer, answer.status, /token|model/);
      }
      await good();
    });
  });

  test('a new version is noticed', { timeout: 120_000 }, async () => {
    const input = 'some text';
    const [mean] = await embeddingsOf({ input });
    const renewed = async () => cosine((await embeddingsOf({ model: 'renewed', input }))[0], mean);
    // The edge caches the newest manifest for a minute; this asks every ten seconds.
    await sleep(Math.max(0, renewedAt + 71_000 - Date.now()));
    await renewed(); // the first request starts the lookup
    assert.ok((await renewed()) < 0.99, 'the second one pools otherwise');
  });
});

describe('limits', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  before(async () => {
    stack = await startStack({
      inference: {
        MAX_REQUESTS: '3',
        MAX_INPUTS: '2',
        MAX_INPUT_TOKENS: '100',
        MAX_TOKENS: '150',
        MAX_BODY_BYTES: '4000',
      },
    });
    await stack.publish();
    assert.equal((await ask(stack.urls.edge, { model: DEMO.id, input: 'text' })).status, 200);
  });
  after(() => stack?.stop());
  const words = (count) => 'word '.repeat(count);

  test('are the configured ones', async () => {
    const embed = (input) => ask(stack.urls.edge, { model: DEMO.id, input });
    assertProblem(await embed(['a', 'b', 'c']), 400, /3 inputs; 2/);
    assertProblem(await embed(words(99)), 400, /101 tokens; 100/);
    assertProblem(await embed([words(80), words(80)]), 400, /more than 150 tokens/);
    assertProblem(await embed('a'.repeat(4000)), 413, /4000 bytes/);
  });

  test('a request above the limit gets an error at once, with Retry-After', async () => {
    const answers = await Promise.all(
      Array.from({ length: 24 }, () =>
        ask(stack.urls.edge, { model: DEMO.id, input: [words(90), words(40)] }),
      ),
    );
    const refused = answers.filter(({ status }) => status === 429);
    assert.ok(refused.length > 0 && refused.length < answers.length, `${refused.length}`);
    for (const answer of refused) {
      assertProblem(answer, 429, /3 requests are in progress here/, {
        type: 'rate_limit_error',
        code: 'rate_limit_exceeded',
      });
      assert.equal(answer.headers.get('retry-after'), '1');
    }
    assert.ok(answers.every(({ status }) => status === 200 || status === 429));
    assert.equal((await ask(stack.urls.edge, { model: DEMO.id, input: 'text' })).status, 200);
  });

  test('the places of disconnected clients are freed', async () => {
    for (let i = 0; i < 10; i++) {
      const leave = new AbortController();
      const asked = ask(
        stack.urls.edge,
        { model: DEMO.id, input: [words(90), words(40)] },
        { signal: leave.signal },
      ).catch(() => {});
      setTimeout(() => leave.abort(), 5);
      await asked;
    }
    await sleep(1000);
    const answers = await Promise.all(
      Array.from({ length: 3 }, () => ask(stack.urls.edge, { model: DEMO.id, input: 'text' })),
    );
    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 200, 200],
    );
  });
});

test('an edge without the inference worker says so', async () => {
  const stack = await startStack({ inference: null });
  try {
    assertProblem(
      await ask(stack.urls.edge, { model: DEMO.id, input: 'text' }),
      501,
      /no worker is bound as INFERENCE/,
      { type: 'server_error' },
    );
  } finally {
    await stack.stop();
  }
});

test('an unconfigured inference worker: the edge reports the failure', async () => {
  const stack = await startStack({ inference: { MAX_REQUESTS: 'many' } });
  try {
    assertProblem(
      await ask(stack.urls.edge, { model: DEMO.id, input: 'text' }),
      502,
      /the inference worker failed; its log has the reason/,
      { type: 'server_error' },
    );
  } finally {
    await stack.stop();
  }
});

describe('the memory of the isolate', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startIsolate>>} */
  let edge;
  let data;
  before(async () => {
    stack = await startStack();
    data = await mkdtemp(join(tmpdir(), 'edge-net-isolate-'));
    for (const id of ['one', 'two', 'three']) await publishChanged(stack, id);
    edge = await startIsolate({
      variables: { GCS_BASE: stack.urls.gcs, IPFS_GATEWAYS: '', PINNED_KEYS: JSON.stringify(KEYS) },
      inference: {},
      data,
    });
  });
  after(async () => {
    await edge?.stop();
    await stack?.stop();
    if (data) await rm(data, { recursive: true, force: true });
  });

  test(
    'two models stay; of three the one that was used least recently goes, with its memory',
    { timeout: 120_000 },
    async (context) => {
      const embed = async (model) =>
        assert.equal((await ask(edge.url, { model, input: TEXTS[0] })).status, 200);
      await embed('one');
      const inspector = await edge.inspect(INFERENCE);
      const one = (await inspector.kept()).wasm;
      await embed('two');
      const two = (await inspector.kept()).wasm;
      assert.ok(two > one + 23_000_000, 'both are there');
      for (let round = 0; round < 3; round++)
        for (const id of ['three', 'one', 'two']) await embed(id);
      const { wasm: after, all } = await inspector.kept();
      inspector.close();
      const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
      context.diagnostic(
        `WASM memory with one model ${mb(one)}, with two ${mb(two)}, ` +
          `after nine more loads ${mb(after)}; the isolate ${mb(all)}`,
      );
      assert.ok(after <= two * 1.02, 'an unloaded model frees its memory');
      assert.ok(all < LIMIT);
    },
  );

  test(
    `${REQUESTS} requests of random length: it stays flat, and nothing fails`,
    { timeout: 1_800_000 },
    async (context) => {
      const next = random(SEED);
      const vocabulary = sentences.join(' ').split(' ');
      // Mostly short texts, sometimes one of the greatest length.
      const text = () => {
        const length = next() < 0.005 ? 140 : Math.ceil(2 ** (next() * 4));
        const from = Math.floor(next() * (vocabulary.length - length));
        return vocabulary.slice(from, from + length).join(' ');
      };
      const inspector = await edge.inspect(INFERENCE);
      const seen = [];
      // The memory of the longest requests is allocated first.
      const most = Array.from({ length: 4 }, () =>
        ask(edge.url, {
          model: 'one',
          input: Array.from({ length: 8 }, () => 'word '.repeat(254)),
        }),
      );
      for (const { status, text } of await Promise.all(most)) assert.equal(status, 200, text);
      let left = REQUESTS;
      let tokens = 0;
      const began = performance.now();
      const reader = async () => {
        while (left-- > 0) {
          if (left % Math.ceil(REQUESTS / 10) === 0) seen.push(await inspector.kept());
          const answer = await ask(edge.url, {
            model: 'one',
            input: text(),
            encoding_format: 'base64',
          });
          assert.equal(answer.status, 200, answer.text);
          tokens += answer.json().usage.total_tokens;
        }
      };
      await Promise.all(Array.from({ length: 4 }, reader));
      const seconds = (performance.now() - began) / 1000;
      inspector.close();
      const all = seen.map(({ all }) => all);
      context.diagnostic(
        `${(REQUESTS / seconds).toFixed(0)} a second, ` +
          `${(tokens / REQUESTS).toFixed(1)} tokens each; ` +
          `the isolate had ${(Math.min(...all) / 1e6).toFixed(1)} ` +
          `to ${(Math.max(...all) / 1e6).toFixed(1)} MB`,
      );
      const settled = seen.slice(3);
      assert.ok(settled.length > 3);
      assert.ok(
        Math.max(...settled.map(({ wasm }) => wasm)) <= settled[0].wasm + (1 << 20),
        'WASM memory does not grow, but for a few pages of what is left between allocations',
      );
      assert.ok(Math.max(...settled.map(({ all }) => all)) <= settled[0].all + 4_000_000);
      assert.ok(Math.max(...all) < LIMIT);
    },
  );
});
