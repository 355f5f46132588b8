"""Embeddings by onnxruntime and the reference tokenizer: mean of the tokens, scaled to length 1.

Reads a JSON array of texts, or of arrays of token ids, and prints an array of {tokens, embedding}.
"""

import json
import sys

import numpy
import onnxruntime
import tokenizers

(folder,) = sys.argv[1:]
tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.no_padding()
tokenizer.no_truncation()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"]
)


def embed(text):
    tokens = tokenizer.encode(text).ids if isinstance(text, str) else text
    ids = numpy.array([tokens], dtype=numpy.int64)
    (hidden,) = session.run(
        ["last_hidden_state"],
        {
            "input_ids": ids,
            "attention_mask": numpy.ones_like(ids),
            "token_type_ids": numpy.zeros_like(ids),
        },
    )
    mean = hidden[0].mean(axis=0)
    return {"tokens": tokens, "embedding": (mean / numpy.linalg.norm(mean)).tolist()}


json.dump([embed(text) for text in json.load(sys.stdin)], sys.stdout)
