"""Makes llama3.json: python make.py CONVERT, where CONVERT is convert_hf_to_gguf.py of the
llama.cpp in llama-cpp-python 0.3.16. The factors of Llama 3.2 are those of its
LlamaModel.generate_extra_tensors, which this script runs on its own."""

import ast
import json
import math
import os
import sys
import textwrap

import numpy as np

text = open(sys.argv[1]).read()
model = next(
    node for node in ast.parse(text).body if getattr(node, "name", "") == "LlamaModel"
)
method = next(
    node for node in model.body if getattr(node, "name", "") == "generate_extra_tensors"
)
source = textwrap.dedent(ast.get_source_segment(text, method))
source = source.replace("Iterable[tuple[str, Tensor]]", "object")


class Torch:
    """What the method uses of torch."""

    float32 = np.float32

    @staticmethod
    def arange(*numbers, dtype):
        return np.arange(*numbers, dtype=dtype)

    @staticmethod
    def tensor(numbers, dtype):
        return np.array(numbers, dtype=dtype)


class Gguf:
    """What the method uses of gguf."""

    class MODEL_TENSOR:
        ROPE_FREQS = 0


class Model:
    hparams = None

    @staticmethod
    def find_hparam(keys, optional=False):
        return next((Model.hparams[key] for key in keys if key in Model.hparams), None)

    @staticmethod
    def format_tensor_name(*_):
        return "rope_freqs"


scope = {"torch": Torch, "gguf": Gguf, "math": math}
exec("from __future__ import annotations\n" + source, scope)
folder = os.path.dirname(os.path.abspath(__file__))
Model.hparams = json.load(open(f"{folder}/../configs/llama.json"))
((_, factors),) = scope["generate_extra_tensors"](Model)
with open(f"{folder}/llama3.json", "w") as file:
    json.dump([float(factor) for factor in factors], file)
    file.write("\n")
