#!/usr/bin/env python3
"""Whether 32 streams of mixed lengths get the same tokens together as each gets alone.

    python3 tests/batch.py --lmx target/release/lmx --compute int16 --parting 0
    python3 tests/batch.py --lmx target/release/lmx --compute int8 --executor candle --tie 0.5 --parting 8

Two thirds of the streams are greedy, a third samples with a seed at temperature 0.8. For every stream that parts, this
shows where and how near the tie was:

- greedy: the gap of the log probabilities of the two tokens, alone and together; 0 is an exact tie;
- sampled: the probability mass that moved between tokens at that position. A draw parts when it falls into that mass.

Beside them stands the drift: how far the same token's log probability is from itself, alone and together, over all
positions before the streams part, and how many sampled streams are to be expected to part by it: the sum of the moved
mass over all positions. Fails if a greedy stream parts at a gap above `--tie`, or if more streams part than `--parting`.
Needs nothing beyond the standard library.
"""

import argparse
import concurrent.futures
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

TEMPERATURE = 0.8


def requests():
    for i in range(32):
        content = f"Count from {i} to {i + 5}." if i % 2 else "Tell me a story. " * (1 + i)
        sampling = dict(temperature=0) if i % 3 else dict(temperature=TEMPERATURE, seed=i)
        messages = [dict(role="user", content=content)]
        yield dict(messages=messages, max_tokens=8 + 3 * i, logprobs=True, top_logprobs=20, **sampling)


def ask(port, body):
    """The tokens of the answer, each with its log probability and those of its rivals."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    reply = connection.getresponse()
    answer = json.load(reply)
    connection.close()
    assert reply.status == 200, answer
    return answer["choices"][0]["logprobs"]["content"]


def rivals(token):
    return {tuple(rival["bytes"]): rival["logprob"] for rival in token["top_logprobs"]}


def moved_mass(alone, together):
    """Total variation between the two distributions of the most probable tokens, at the temperature of the draw."""

    def distribution(token):
        weights = {key: math.exp(logprob / TEMPERATURE) for key, logprob in rivals(token).items()}
        total = sum(weights.values())
        return {key: weight / total for key, weight in weights.items()}

    p, q = distribution(alone), distribution(together)
    return sum(abs(p.get(key, 0) - q.get(key, 0)) for key in p.keys() | q.keys()) / 2


def compare(bodies, alone, together, tie):
    """Prints what differs; the number of streams that part, and the problems."""
    drifts, expected, parted, problems = [], 0, 0, []
    for i, (body, first, second) in enumerate(zip(bodies, alone, together)):
        for position, (a, b) in enumerate(zip(first, second)):
            if body["temperature"] > 0:
                expected += moved_mass(a, b)
            if a["bytes"] == b["bytes"]:
                drifts.append(abs(a["logprob"] - b["logprob"]))
                continue
            parted += 1
            here = f"stream {i}, token {position} of {len(first)}: {a['token']!r} alone, {b['token']!r} together"
            if body["temperature"] == 0:
                before = a["logprob"] - rivals(a).get(tuple(b["bytes"]), -math.inf)
                after = b["logprob"] - rivals(b).get(tuple(a["bytes"]), -math.inf)
                print(f"  {here}; greedy, gap {before:.4f} alone, {after:.4f} together")
                if max(before, after) > tie:
                    problems.append(f"stream {i} parts at a gap above {tie}")
            else:
                print(f"  {here}; sampled, {moved_mass(a, b):.4f} of the mass moved")
            break
        else:
            if len(first) != len(second):
                parted += 1
                problems.append(f"stream {i} ends after {len(first)} tokens alone, after {len(second)} together")
    rms = math.sqrt(sum(drift * drift for drift in drifts) / len(drifts))
    print(f"  drift over {len(drifts)} equal tokens: RMS {rms:.2g}, largest {max(drifts):.2g}; {expected:.2g} sampled streams expected to part")
    return parted, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default="target/release/lmx", help="the program to test")
    parser.add_argument("--compute", default="int16", help="mode of the products")
    parser.add_argument("--executor", default="auto", help="who computes")
    parser.add_argument("--tie", type=float, default=0.5, help="largest gap of log probabilities at which a stream may part")
    parser.add_argument("--parting", type=int, default=32, help="how many streams may part")
    arguments = parser.parse_args()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LMX_")}
    command = [arguments.lmx, "serve", "--port", str(port), "--compute", arguments.compute]
    command += ["--set", f"compute.executor={arguments.executor}"]
    server = subprocess.Popen(command + ["--set", "telemetry.log.level=warn"], env=environment)
    try:
        while True:
            try:
                # Asked over HTTP: a bare connection to a free port can meet itself.
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
        bodies = list(requests())
        alone = [ask(port, body) for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            together = list(pool.map(lambda body: ask(port, body), bodies))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)

    print(f"{arguments.compute}:")
    parted, problems = compare(bodies, alone, together, arguments.tie)
    print(f"  {len(bodies) - parted} of {len(bodies)} streams equal")
    if parted > arguments.parting:
        problems.append(f"{parted} streams part; at most {arguments.parting} may")
    for problem in problems:
        print(f"FAIL {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
