#!/usr/bin/env python3
"""How long a model takes to load, against reading its bytes; and what `compute.mapped` saves and costs.

    python3 benches/load.py --lmx target/release/lmx MODEL [MODEL ...]

Each round starts a server on the model and takes `weights_ms` from its log, then reads the same files with as many threads:
once into fresh memory that holds all of them, on huge pages, and once into a small buffer over and over, which keeps
nothing. Rounds alternate, so that what else the machine does meets all of them. `--cold` drops the files from the page
cache before every load and every reading (Linux). `--decode` also decodes with packed and with mapped weights and prints
tokens per second and the server's memory. Needs nothing beyond the standard library.
"""

import argparse
import contextlib
import glob
import json
import mmap
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

from serving import post

SMALL_BYTES = 1 << 20


@contextlib.contextmanager
def loaded(lmx, model, threads, *settings):
    """Serves the model; gives the port, the process and what the log says of the load."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    flags += ["--set", f"compute.threads={threads}", "--set", "telemetry.log.format=json"]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [lmx, "serve", "--model", model, "--port", str(port), *flags], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while not ready(port):
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
            log.seek(0)
            lines = [json.loads(line) for line in log if "model loaded" in line]
            yield port, server.pid, lines[0].get("fields", lines[0])
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def ready(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
        return True
    except OSError:
        return False


def shards(model):
    return sorted(glob.glob(os.path.join(model, "*.safetensors")))


def drop(model):
    for path in shards(model):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(model, threads, keep):
    """Seconds to read all weights; into memory that holds them if they are to be kept."""
    begun = time.monotonic()
    for path in shards(model):
        size = os.path.getsize(path)
        memory = mmap.mmap(-1, size if keep else threads * SMALL_BYTES)
        if keep and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        with open(path, "rb") as file, memoryview(memory) as view:
            work = [
                threading.Thread(target=read_part, args=(file.fileno(), view, size, i, threads, keep))
                for i in range(threads)
            ]
            [thread.start() for thread in work]
            [thread.join() for thread in work]
        memory.close()
    return time.monotonic() - begun


def read_part(file, view, size, i, threads, keep):
    at, end = size * i // threads, size * (i + 1) // threads
    while at < end:
        length = min(8 * SMALL_BYTES if keep else SMALL_BYTES, end - at)
        first = at if keep else i * SMALL_BYTES
        at += os.preadv(file, [view[first : first + length]], at)


def memory_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {name: int(fields[name].split()[0]) // 1024 for name in ("RssAnon", "RssFile")}


def decode(port, tokens):
    """Tokens per second of one stream, the first token aside."""
    body = dict(prompt=[40] * 24, max_tokens=tokens, ignore_eos=True, stream=True, temperature=0)
    connection, reply = post(port, body)
    reply.readline()
    begun = time.monotonic()
    reply.read()
    connection.close()
    return (tokens - 1) / (time.monotonic() - begun)


def compare_loads(arguments, model):
    size = sum(os.path.getsize(path) for path in shards(model))
    loads, fresh, small = [], [], []
    for _ in range(arguments.repeat):
        for times, keep in ((loads, None), (fresh, True), (small, False)):
            if arguments.cold:
                drop(model)
            if keep is None:
                with loaded(arguments.lmx, model, arguments.threads, "models.warmup=false") as (_, _, log):
                    times.append(log["weights_ms"] / 1e3)
            else:
                times.append(read(model, arguments.threads, keep))
    ratio = statistics.median(load / reading for load, reading in zip(loads, fresh))
    shown = lambda times: f"{statistics.median(times) * 1e3:.0f} ms ({size / statistics.median(times) / 1e9:.1f} GB/s)"
    print(
        f"{os.path.basename(model)}: {size / 1e6:.0f} MB, load {shown(loads)}, read into fresh memory {shown(fresh)},"
        f" into a small buffer {shown(small)}; load / fresh {ratio:.2f}",
        flush=True,
    )


def compare_decodes(arguments, model):
    rates, counts = {False: [], True: []}, {}
    for _ in range(arguments.repeat):
        for mapped in rates:
            with loaded(arguments.lmx, model, arguments.threads, f"compute.mapped={str(mapped).lower()}") as (
                port,
                pid,
                log,
            ):
                decode(port, 8)
                rates[mapped].append(decode(port, arguments.tokens))
                counts[mapped] = dict(memory_mib(pid), weights=log["weights_bytes"], mapped=log["mapped_bytes"])
    packed, mapped = (statistics.median(rates[kind]) for kind in (False, True))
    ratio = statistics.median(b / a for a, b in zip(rates[False], rates[True]))
    print(f"{os.path.basename(model)}: decode {packed:.1f} tokens/s packed, {mapped:.1f} mapped, ratio {ratio:.2f}")
    print(f"  RSS in MiB, packed {counts[False]}, mapped {counts[True]}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="folders")
    parser.add_argument("--lmx", default="target/release/lmx")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    for model in arguments.models:
        if arguments.decode:
            compare_decodes(arguments, model)
        else:
            compare_loads(arguments, model)


if __name__ == "__main__":
    main()
