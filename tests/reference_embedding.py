"""Prints the embedding of a sentence by onnxruntime: mean over the tokens, scaled to length 1."""

import json
import sys

import numpy
import onnxruntime
import tokenizers

folder, sentence = sys.argv[1:]
tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.no_padding()
ids = numpy.array([tokenizer.encode(sentence).ids], dtype=numpy.int64)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
hidden = session.run(None, {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)})[0]
mean = hidden[0].mean(axis=0)
json.dump((mean / numpy.linalg.norm(mean)).tolist(), sys.stdout)
