"""Servers, ours and llama.cpp's, under the load of one and the same generator: `lmx bench --url`."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from engines import lmx_bench

# Longer than any step: the first request after a start may wait for pages of the weights.
READY_SECONDS = 300


def end_with_servers():
    """From here on, ended from outside, this program ends its servers too: SIGTERM becomes an exit like any other."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def serving(command, ready):
    """Starts a server on a free port, gives the port and the process, and stops it in the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(part) for part in [*command, "--host", "127.0.0.1", "--port", port]]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = subprocess.Popen(command, **quiet)
    try:
        end = time.monotonic() + READY_SECONDS
        while not answers(f"http://127.0.0.1:{port}{ready}"):
            assert server.poll() is None and time.monotonic() < end, f"{command[0]} does not serve"
            time.sleep(0.2)
        yield port, server
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def our_server(lmx, model, mode, threads):
    command = [lmx, "serve", "--model", model, "--compute", mode, "--set", f"compute.threads={threads}"]
    return serving([*command, "--set", "telemetry.log.level=warn"], "/readyz")


def llama_server(peers, gguf, threads):
    command = [peers / "build-llama/bin/llama-server", "-m", gguf, "-t", threads, "-c", 16384, "-np", 16, "-kvu"]
    return serving([*command, "-fa", "on", "--no-warmup"], "/health")


def once(lmx, port, server, wanted, log):
    """Figures of a running server, by name."""
    flags = ["--url", f"http://127.0.0.1:{port}", "--repeat", 1]
    flags += ["--scenario", "concurrency", "--concurrency", "1,16"] if "served" in wanted else []
    flags += ["--scenario", "prefix"] if "prefix" in wanted else []
    sections = lmx_bench(lmx, flags, log)
    figures = {}
    for row in sections.get("concurrency", {}).get("rows", []):
        n = row["streams"]
        figures[f"ttft.{n}"], figures[f"itl99.{n}"] = row["ttft_ms"]["p50"], row["itl_ms"]["p99"]
        figures[f"served.{n}"] = row["tokens_per_s"]["median"]
        if row["steady_tokens_per_s"]:
            figures[f"steady.{n}"] = row["steady_tokens_per_s"]["median"]
    for row in sections.get("prefix", {}).get("rows", []):
        figures[f"prefix.{row['kind']}"] = row["ttft_ms"]["p50"]
    if (resident := resident_mib(server.pid)) is not None:
        figures["resident_mib"] = resident
    return figures


def resident_mib(pid):
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return None
