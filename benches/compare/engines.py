"""Ours and the peers, each as a function that runs once and gives figures by name.

Figures are `decode.128` and `decode.2048` (tokens/s of one stream after so many tokens), `prefill.N`
(tokens/s of a prompt), `streams.N` (tokens/s of N streams that decode together after 128 tokens).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DECODED = 64
# After the second one ours only: computing it takes the peers longer than all the rest.
CONTEXTS = (128, 2048)
STREAMS = (1, 2, 4, 8, 16)
# Of the peers.
FEWEST_AND_MOST = (1, 16)

HERE = Path(__file__).parent


class Failed(Exception):
    """A command ended badly; the comparison goes on without its figures."""


def run(command, log):
    """Runs a command and gives what it printed. Notes the command and its share of the machine."""
    before = busy()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    log.note(command, before)
    if done.returncode != 0:
        raise Failed(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def busy():
    """Ticks of all processes, of this one's children, and of the machine; zeros where the system does not tell."""
    try:
        ticks = [int(field) for field in open("/proc/stat").readline().split()[1:9]]
    except OSError:
        return 0, 0, 0
    times = os.times()
    own = (times.children_user + times.children_system) * os.sysconf("SC_CLK_TCK")
    return sum(ticks) - ticks[3] - ticks[4], own, sum(ticks)


class Log:
    """The commands that ran, and how much of the machine others took meanwhile."""

    def __init__(self):
        self.commands = {}

    def note(self, command, before):
        after = busy()
        total = after[2] - before[2]
        others = 100 * max(0, after[0] - before[0] - (after[1] - before[1])) / total if total else 0
        # Files with changing names say nothing.
        line = " ".join("FILE" if str(part).startswith(tempfile.gettempdir()) else str(part) for part in command)
        self.commands.setdefault(line, []).append(others)


def lmx_bench(lmx, flags, log):
    """The figures of `lmx bench`, as it writes them."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        run([lmx, "bench", *flags, "--json", out.name], log)
        return {section["scenario"]: section for section in json.load(open(out.name))["sections"]}


def ours(lmx, model, mode, threads, wanted, prompts, log):
    flags = ["--scenario", "runner", "--model", model, "--compute", mode, "--threads", threads, "--repeat", 1]
    flags += ["--prompt-tokens", numbers(prompts) if "prefill" in wanted else 0]
    flags += ["--context-tokens", numbers(CONTEXTS) if "decode" in wanted else 0]
    flags += ["--concurrency", numbers(STREAMS) if "streams" in wanted else 0]
    runner = lmx_bench(lmx, flags, log)["runner"]
    rate = lambda figure: figure["tokens_per_s"]["median"]
    figures = {f"prefill.{of['prompt_tokens']}": rate(of) for of in runner["prefill"]}
    figures |= {f"prefill_gops.{of['prompt_tokens']}": of["gops"]["median"] for of in runner["prefill"]}
    figures |= {f"decode.{of['context_tokens']}": rate(of) for of in runner["decode"]}
    figures |= {f"read.{of['context_tokens']}": of["gb_per_s"]["median"] for of in runner["decode"] if of.get("gb_per_s")}
    figures |= {f"streams.{of['streams']}": rate(of) for of in runner["streams"]}
    figures["load_s"], figures["loaded_mib"] = runner["load_s"], runner["resident_bytes"] / 2**20
    return figures


def limits(lmx, threads, log):
    return lmx_bench(lmx, ["--scenario", "limits", "--threads", threads, "--repeat", 3], log)["limits"]


def llama_cpp(peers, gguf, threads, wanted, prompts, log):
    bench = [peers / "build-llama/bin/llama-bench", "-m", gguf, "-t", threads, "-r", 1, "-fa", 1, "-o", "jsonl"]
    figures = {}
    if "prefill" in wanted:
        # The shortest prompt warms up; its own way of doing so computes every prompt twice.
        for line in run([*bench, "--no-warmup", "-p", numbers([64, *prompts]), "-n", 0], log).splitlines():
            figures[f"prefill.{json.loads(line)['n_prompt']}"] = json.loads(line)["avg_ts"]
        if 64 not in prompts:
            figures.pop("prefill.64")
    if "decode" in wanted:
        for line in run([*bench, "-p", 0, "-n", DECODED, "-d", CONTEXTS[0]], log).splitlines():
            figures[f"decode.{json.loads(line)['n_depth']}"] = json.loads(line)["avg_ts"]
    if "streams" in wanted:
        batched = [peers / "build-llama/bin/llama-batched-bench", "-m", gguf, "-t", threads, "-c", 8192, "-fa", "on"]
        batched += ["-npp", 128, "-ntg", DECODED, "-npl", numbers(FEWEST_AND_MOST), "--output-format", "jsonl"]
        for line in run(batched, log).splitlines():
            if line.startswith("{"):
                figures[f"streams.{json.loads(line)['pl']}"] = json.loads(line)["speed_tg"]
    return figures


def openvino(peers, gguf, threads, wanted, prompts, log):
    command = [peers / "venv/bin/python", HERE / "openvino_once.py", gguf, "--threads", threads, "--tokens", DECODED]
    command += ["--prompts", numbers(prompts)] if "prefill" in wanted else []
    command += ["--contexts", numbers(CONTEXTS[:1])] if "decode" in wanted else []
    return json.loads(run(command, log).splitlines()[-1])


def versions(lmx, peers):
    """What was compared."""
    said = lambda command: subprocess.run([str(part) for part in command], capture_output=True, text=True)
    found = {"lmx": said([lmx, "--version"]).stdout.strip()}
    server = peers / "build-llama/bin/llama-server"
    if server.exists():
        printed = said([server, "--version"])
        found["llama.cpp"] = (printed.stderr + printed.stdout).strip().splitlines()[0]
    python = peers / "venv/bin/python"
    if python.exists():
        packages = "import importlib.metadata as m; print(*(f'{p} {m.version(p)}' for p in %r), sep=', ')"
        found["OpenVINO"] = said([python, "-c", packages % (["openvino", "openvino-genai"],)]).stdout.strip()
    found["Python"] = sys.version.split()[0]
    return {name: version for name, version in found.items() if version}


def numbers(values):
    return ",".join(str(value) for value in values)
