// A model alone in workerd, in an instance of the deployed module: the cost of one run without a
// request.

import module from '../../worker-inference/build/inference.wasm';
import instantiate from '../../worker-inference/build/instance.js';

const PIECE = 262_144;
let model;

async function load(base) {
  const read = async (name) => new Uint8Array(await (await fetch(`${base}/${name}`)).arrayBuffer());
  const began = performance.now();
  const { Model } = instantiate(module, () => Promise.reject(new Error('a model fetches nothing')));
  const instantiated = performance.now() - began;
  for (let i = 0; i < 9; i++) instantiate(module);
  const more = (performance.now() - began - instantiated) / 9;
  const graph = await read('model.onnx');
  const from = performance.now();
  model = new Model(graph.length);
  for (const name of [
    'config.json',
    'sentence_bert_config.json',
    'modules.json',
    '1_Pooling/config.json',
    'tokenizer.json',
  ])
    model.file(name, await read(name));
  for (let at = 0; at < graph.length; at += PIECE) model.push(graph.subarray(at, at + PIECE));
  model.finish();
  return { instantiated, more, loaded: performance.now() - from };
}

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === '/load')
      return Response.json({
        ...(await load(`${env.GCS_BASE}/${searchParams.get('model')}`)),
        memory: model.memory(),
      });
    if (pathname !== '/embed') return new Response();
    const tokens = await request.json();
    const began = performance.now();
    const embedding = model.embed(Uint32Array.from(tokens), Uint32Array.of(tokens.length));
    return Response.json({
      took: performance.now() - began,
      embedding: [...embedding],
      memory: model.memory(),
    });
  },
};
