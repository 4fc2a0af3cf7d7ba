#!/usr/bin/env python3
"""How long the prompts of others hold up running streams, against `scheduler.decode_stall_budget_ms`.

    python benches/stall.py --lmx target/release/lmx

Streams of the built-in model decode; then long prompts arrive one after the other. Prints gaps between two tokens of a
stream without and with the prompts: median, 99th percentile and largest, in milliseconds. Needs nothing beyond the
standard library. Gaps are what a client on the same machine sees, so they hold the machine's own noise too.
"""

import argparse
import json
import statistics
import threading
import time

from serving import post, serving


def stream(port, tokens, gaps, seed):
    # Every token has text, so that every token is an event.
    body = dict(prompt=[seed % 90 + 30] * 24, max_tokens=tokens, ignore_eos=True, skip_special_tokens=False)
    body |= dict(stream=True, temperature=0)
    connection, reply = post(port, body)
    last = None
    for line in reply:
        if line.startswith(b"data: {"):
            now = time.monotonic()
            if last is not None:
                gaps.append((now, (now - last) * 1e3))
            last = now
    connection.close()


def summary(name, gaps):
    gaps = sorted(gaps)
    p99 = gaps[int(len(gaps) * 0.99)] if gaps else float("nan")
    print(f"{name:16s} n {len(gaps):6d}  median {statistics.median(gaps):7.2f}  p99 {p99:7.2f}  largest {gaps[-1]:7.2f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default="target/release/lmx")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=1900)
    parser.add_argument("--budget-ms", type=int, default=200)
    arguments = parser.parse_args()
    setting = f"scheduler.decode_stall_budget_ms={arguments.budget_ms}"
    with serving(arguments.lmx, "--set", setting) as port:
        gaps, spans = [], []
        readers = [
            threading.Thread(target=stream, args=(port, arguments.tokens, gaps, i)) for i in range(arguments.streams)
        ]
        [reader.start() for reader in readers]
        while len(gaps) < arguments.streams * arguments.tokens // 5:
            time.sleep(0.01)
        for i in range(arguments.prompts):
            begun = time.monotonic()
            connection, reply = post(port, dict(prompt=[40 + i] + [50] * arguments.prompt_tokens, max_tokens=1))
            reply.read()
            connection.close()
            spans.append((begun, time.monotonic()))
            time.sleep(0.2)
        [reader.join() for reader in readers]
        beside = [gap for at, gap in gaps if any(begun < at < end + 0.05 for begun, end in spans)]
        quiet = [gap for at, gap in gaps if not any(begun < at < end + 0.05 for begun, end in spans)]
        print(f"{arguments.streams} streams, {arguments.prompts} prompts of {arguments.prompt_tokens} tokens, budget {arguments.budget_ms} ms")
        summary("without prompts", quiet)
        summary("beside prompts", beside)
        print("prompts took", ", ".join(f"{(end - begun) * 1e3:.0f}" for begun, end in spans), "ms")


if __name__ == "__main__":
    main()
