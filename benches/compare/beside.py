#!/usr/bin/env python3
"""Chat streams with and without embeddings beside them, on one server.

    python benches/compare/beside.py --lmx target/release/lmx --chat MODEL --embedder MODEL [--rounds 5]

In each round some streams run alone, then they run while two thousand texts are embedded, in requests that come one after
the other from a few connections. Prints the inter-token latencies of both (p50, p99, in ms), their ratio, and how long the
embeddings took. A stream that has its 1,000 tokens begins anew with the same
prompt, which the server has seen: contexts are as long in both, and prompts disturb nobody.
"""

import argparse
import http.client
import json
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.request

WORDS = "time person year way day thing man world life hand part child eye woman place work week case point".split()


class Streams:
    """Chat streams that go on until they are told to stop; notes when each token came."""

    def __init__(self, port, model, count, tokens):
        self.port, self.model, self.tokens = port, model, tokens
        self.gaps, self.lock, self.going = [], threading.Lock(), True
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        prompt = " ".join(WORDS[(number * 5 + i) % len(WORDS)] for i in range(60))
        while self.going:
            body = {"model": self.model, "prompt": prompt, "max_tokens": self.tokens, "stream": True, "ignore_eos": True,
                    "temperature": 0}
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
            answer, last = connection.getresponse(), None
            assert answer.status == 200, answer.read()
            for line in answer:
                if not self.going:
                    break
                if line.startswith(b"data: {"):
                    now = time.perf_counter()
                    if last is not None:
                        with self.lock:
                            self.gaps.append((now, now - last))
                    last = now
            connection.close()

    def between(self, begin, end):
        with self.lock:
            return sorted(gap for at, gap in self.gaps if begin <= at <= end)

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()


def embed(port, model, texts, connections, at_once):
    """Embeds all texts, a few in each request."""
    batches = [texts[first : first + at_once] for first in range(0, len(texts), at_once)]
    lock, done = threading.Lock(), [0]

    def work():
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            with lock:
                if not batches:
                    return
                batch = batches.pop()
            body = {"model": model, "input": batch, "encoding_format": "base64"}
            connection.request("POST", "/v1/embeddings", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, data[:300]
            with lock:
                done[0] += len(batch)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done[0] == len(texts)


def percentile(values, share):
    return 1e3 * values[min(len(values) - 1, int(share * len(values)))]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--lmx", required=True)
    arguments.add_argument("--chat", required=True)
    arguments.add_argument("--embedder", required=True)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--streams", type=int, default=4)
    arguments.add_argument("--texts", type=int, default=2000)
    arguments.add_argument("--words", type=int, default=16)
    arguments.add_argument("--quiet", type=float, default=25, help="seconds of the streams alone")
    arguments.add_argument("--set", action="append", default=[], help="a setting of the server")
    options = arguments.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [options.lmx, "serve", "--model", options.chat, "--model", options.embedder, "--port", str(port)]
    for setting in options.set:
        command += ["--set", setting]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    ratios = []
    try:
        while True:
            assert process.poll() is None, "the server ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
                    if json.load(answer)["ready"] == 2:
                        break
            except OSError:
                pass
            time.sleep(0.1)
        texts = [" ".join(WORDS[(i * 7 + j * (i + 3)) % len(WORDS)] for j in range(options.words))
                 for i in range(options.texts)]
        streams = Streams(port, options.chat, options.streams, 1000)
        time.sleep(5)
        for number in range(options.rounds):
            begin = time.perf_counter()
            time.sleep(options.quiet)
            quiet = streams.between(begin, time.perf_counter())
            begin = time.perf_counter()
            embed(port, options.embedder, texts, 4, 8)
            took = time.perf_counter() - begin
            beside = streams.between(begin, begin + took)
            ratio = percentile(beside, 0.99) / percentile(quiet, 0.99)
            ratios.append(ratio)
            print(f"round {number + 1}: alone p50 {percentile(quiet, 0.5):.1f} p99 {percentile(quiet, 0.99):.1f}, "
                  f"beside p50 {percentile(beside, 0.5):.1f} p99 {percentile(beside, 0.99):.1f}, p99 ratio {ratio:.2f}, "
                  f"{options.texts} texts in {took:.1f} s ({options.texts / took:.0f}/s)", flush=True)
        streams.stop()
        print(f"p99 ratio: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    main()
