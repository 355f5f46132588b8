"""Writes, for a small random decoder of each family, its config.json and the logits of
transformers, as little-endian float32 (positions x vocabulary).

    pip install torch==2.8.0 transformers==5.24.0
    python make.py

Weights are those of the generator below, which the test has too: they depend on the tensor's name
and shape only.
"""

import json
import pathlib
import struct

import numpy
import torch
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
VOCABULARY = 48
# More than a page of the cache and than two pieces of a prompt.
TOKENS = 70

SMALL = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
)

FAMILIES = {
    "llama": dict(
        model_type="llama",
        tie_word_embeddings=False,
        attention_bias=True,
        mlp_bias=True,
        rms_norm_eps=1e-5,
        rope_parameters=dict(
            rope_type="llama3",
            rope_theta=1000.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "mistral": dict(
        model_type="mistral", sliding_window=9, head_dim=12, tie_word_embeddings=False
    ),
    "qwen2": dict(
        model_type="qwen2",
        use_sliding_window=True,
        sliding_window=11,
        max_window_layers=1,
        tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e6),
    ),
    "qwen3": dict(
        model_type="qwen3",
        head_dim=16,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        hidden_act="gelu",
    ),
    "phi": dict(
        model_type="phi",
        num_key_value_heads=4,
        hidden_act="gelu_new",
        tie_word_embeddings=False,
        rope_parameters=dict(
            rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5
        ),
    ),
    "gemma": dict(model_type="gemma", head_dim=16, num_key_value_heads=1),
    "gemma2": dict(
        model_type="gemma2",
        head_dim=16,
        sliding_window=10,
        query_pre_attn_scalar=24,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": dict(
        model_type="gemma3_text",
        head_dim=16,
        sliding_window=8,
        query_pre_attn_scalar=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters=dict(
            sliding_attention=dict(rope_type="default", rope_theta=100.0),
            full_attention=dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
        ),
    ),
}


def numbers(seed, count):
    """From -1 to 1, of 16 bits each, by a linear congruential generator."""
    out = numpy.empty(count, numpy.float32)
    for i in range(count):
        pair = []
        for _ in range(2):
            seed = (seed * 1664525 + 1013904223) % 2**32
            pair.append(seed >> 24)
        out[i] = (pair[0] - 127.5 + pair[1] / 256) / 128
    return out


def fnv(name):
    """FNV-1a of 32 bits."""
    digest = 0x811C9DC5
    for byte in name.encode():
        digest = (digest ^ byte) * 0x01000193 % 2**32
    return digest


def values(name, shape, plus_one):
    """Matrices to about 1.5 / sqrt(columns), embeddings to 1, biases to 1/4, norms about 1."""
    count = int(numpy.prod(shape))
    raw = numbers(fnv(name), count)
    if len(shape) == 2:
        scale = 1.0 if "embed" in name else 1.5 / shape[1] ** 0.5
        return (raw * numpy.float32(scale)).reshape(shape)
    if name.endswith("bias"):
        return raw * numpy.float32(0.25)
    return raw * numpy.float32(0.25) + numpy.float32(0.0 if plus_one else 1.0)


def main():
    tokens = [(7 * i * i + 3 * i + 5) % VOCABULARY for i in range(TOKENS)]
    for family, own in FAMILIES.items():
        settings = SMALL | own
        kind = settings.pop("model_type")
        config = AutoConfig.for_model(kind, **settings, attn_implementation="eager")
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        state = model.state_dict()
        for name, tensor in state.items():
            # A tied head is the embedding.
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            drawn = values(name, tuple(tensor.shape), kind.startswith("gemma"))
            tensor.copy_(torch.from_numpy(drawn))
        model = model.double().eval()
        with torch.no_grad():
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
        text = json.dumps(config.to_dict(), indent=1, sort_keys=True)
        (HERE / f"{family}.json").write_text(text + "\n")
        flat = logits.to(torch.float32).flatten().tolist()
        (HERE / f"{family}.f32").write_bytes(struct.pack(f"<{len(flat)}f", *flat))
        print(family, "logits to", float(logits.abs().max()), sorted(state)[:3])


main()
