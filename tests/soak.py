#!/usr/bin/env python3
"""Thousands of random requests, a third of them left by their clients, against a real `lmx serve`.

    python tests/soak.py --lmx target/release/lmx --requests 10000

Afterwards every KV block must be free or cached, no sequence may be left, and resident memory must not have grown between
the first tenth of the requests (when everything is warm) and the end by more than `--growth` MiB. Needs nothing beyond
the standard library.
"""

import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

WORDS = "one two three red green blue cat dog bird sun moon star tree house river stone".split()


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text


def metric(port, name, label):
    for line in get(port, "/metrics")[1].splitlines():
        if line.startswith(name) and label in line:
            return float(line.rsplit(" ", 1)[1])
    return float("nan")


class Worker(threading.Thread):
    def __init__(self, port, seed, todo, counts):
        super().__init__()
        self.port, self.random, self.todo, self.counts = port, random.Random(seed), todo, counts

    def run(self):
        while True:
            with self.todo["lock"]:
                if self.todo["left"] == 0:
                    return
                self.todo["left"] -= 1
            outcome = self.request()
            with self.todo["lock"]:
                self.counts[outcome] = self.counts.get(outcome, 0) + 1

    def request(self):
        chance = self.random
        shared = "The story so far. " * chance.choice([0, 0, 4, 12])
        content = shared + " ".join(chance.choices(WORDS, k=chance.randint(1, 40)))
        body = dict(
            messages=[dict(role="user", content=content)],
            max_tokens=chance.randint(1, 24),
            temperature=chance.choice([0, 0.8]),
            n=chance.choice([1, 1, 1, 2, 3]),
            stream=chance.random() < 0.7,
            stop=chance.choice([None, None, "e", ["the", "."]]),
        )
        leaves = chance.random() < 0.33
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            if leaves and chance.random() < 0.3:
                time.sleep(chance.random() * 0.01)
                return "left before the head"
            reply = connection.getresponse()
            if reply.status != 200:
                reply.read()
                return f"status {reply.status}"
            if leaves:
                for _ in range(chance.randint(1, 8)):
                    reply.readline()
                return "left while streaming"
            text = reply.read().decode()
            if body["stream"] and not text.rstrip().endswith("[DONE]"):
                return "BROKEN " + text[-200:]
            return "complete"
        finally:
            connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default="target/release/lmx")
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--growth", type=float, default=16, help="MiB that resident memory may grow")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A pool that is small enough to be full most of the time.
    server = subprocess.Popen(
        [arguments.lmx, "serve", "--port", str(port), "--set", "kv.memory_bytes=16000000",
         "--set", "telemetry.log.level=error", "--set", "scheduler.max_sequences=16"]
    )
    problems = []
    try:
        while True:
            try:
                if get(port, "/readyz")[0] == 200:
                    break
            except OSError:
                pass
            assert server.poll() is None, "the server ended"
            time.sleep(0.1)
        total = metric(port, "lmx_kv_blocks", 'state="free"')
        counts, marks, begun = {}, [], time.monotonic()
        for part in range(10):
            todo = dict(left=arguments.requests // 10, lock=threading.Lock())
            workers = [Worker(port, (arguments.seed, part, i).__hash__(), todo, counts) for i in range(arguments.clients)]
            [worker.start() for worker in workers]
            [worker.join() for worker in workers]
            marks.append(resident(server.pid))
            print(f"{arguments.requests // 10 * (part + 1)} requests, {marks[-1]:.1f} MiB, {time.monotonic() - begun:.0f} s", flush=True)
        end = time.monotonic() + 20
        while metric(port, "lmx_kv_blocks", 'state="active"') != 0 and time.monotonic() < end:
            time.sleep(0.05)
        blocks = {state: metric(port, "lmx_kv_blocks", f'state="{state}"') for state in ("free", "active", "cached")}
        print(counts, blocks, f"of {total:.0f} blocks")
        if blocks["active"] != 0 or sum(blocks.values()) != total:
            problems.append("the pool is not whole")
        if marks[-1] - marks[0] > arguments.growth:
            problems.append(f"resident memory grew by {marks[-1] - marks[0]:.1f} MiB")
        if any(name.startswith(("BROKEN", "status 5")) for name in counts):
            problems.append("answers were broken")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    print("; ".join(problems) or "the pool is whole and memory is flat")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
