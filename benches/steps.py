#!/usr/bin/env python3
"""Where the time of a step goes: the forward pass, sampling, and everything else between two steps.

    python benches/steps.py --lmx target/release/lmx --streams 1 8 32

Streams of the built-in model decode together; afterwards the server's own histograms are read. `cycle` is the time from
one step to the next as the streams see it (wall clock over steps); what is neither forward nor sampling is slots,
planning, hops between actors and the wake-ups of threads. Needs nothing beyond the standard library.
"""

import argparse
import threading
import time
import urllib.request

from serving import post, serving


def sums(port):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    values = {}
    for line in text.splitlines():
        if line.startswith("lmx_step_duration_seconds_"):
            name, value = line.rsplit(" ", 1)
            phase = name.split('phase="')[1].split('"')[0]
            for kind in ("sum", "count"):
                if name.startswith(f"lmx_step_duration_seconds_{kind}"):
                    values[phase, kind] = float(value)
    return values


def stream(port, tokens, seed):
    body = dict(prompt=[seed % 90 + 30] * 24, max_tokens=tokens, ignore_eos=True, stream=True, temperature=0)
    connection, reply = post(port, body)
    reply.read()
    connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default="target/release/lmx")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    with serving(arguments.lmx) as port:
        print("streams  steps  forward ms  sample ms  engine rest ms  cycle ms  outside of the engine ms")
        for streams in arguments.streams:
            for _ in range(arguments.repeat):
                before, begun = sums(port), time.monotonic()
                threads = [threading.Thread(target=stream, args=(port, arguments.tokens, i)) for i in range(streams)]
                [thread.start() for thread in threads]
                [thread.join() for thread in threads]
                wall, after = time.monotonic() - begun, sums(port)
                taken = lambda phase: after[phase, "sum"] - before.get((phase, "sum"), 0)
                steps = after["total", "count"] - before.get(("total", "count"), 0)
                forward, sample, total = (taken(phase) / steps * 1e3 for phase in ("forward", "sample", "total"))
                cycle = wall / steps * 1e3
                print(
                    f"{streams:7d} {steps:6.0f} {forward:11.3f} {sample:10.3f} {total - forward - sample:15.3f}"
                    f" {cycle:9.3f} {cycle - total:25.3f}"
                )


if __name__ == "__main__":
    main()
