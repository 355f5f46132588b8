"""Writes vectors.txt: blocks of random bytes and their values by the PyPI package gguf 0.19.0.

    pip install gguf==0.19.0
    python vectors.py > vectors.txt

A line is a type's name, the bytes of two blocks (of 8 for types without blocks) and the bits of
their values as 32-bit words, in hexadecimal.
"""

import gguf
import numpy as np

random = np.random.default_rng(20240229)

# Where the binary16 fields of a block begin.
HALVES = {
    "F16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}

for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
             "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]:
    dtype = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[dtype]
    blocks = random.integers(0, 256, (2 if elements > 1 else 8, size), dtype=np.uint8)
    for at in HALVES.get(name, []):
        # Finite numbers of either sign, of every exponent.
        blocks[:, at + 1] = blocks[:, at + 1] % 0x7C + 128 * (blocks[:, at + 1] % 2)
    if elements == 1:
        blocks[:, -1] &= 0xBF
    values = gguf.quants.dequantize(blocks.reshape(1, -1), dtype).astype("<f4")
    print(name, blocks.tobytes().hex(), values.reshape(-1).view("<u4").astype(">u4").tobytes().hex())
