#!/usr/bin/env python3
"""Ours against llama.cpp and OpenVINO, on the same models and the same machine, in turn.

    PEERS_DIR=~/.cache/peers python3 benches/compare/compare.py --lmx target/release/lmx --parts decode,prefill

PEERS_DIR holds `build-llama/bin` (llama-bench, llama-batched-bench, llama-server), `venv` (with openvino-genai) and
`models` (NAME-mlx4, NAME-mlx8, NAME-Q4_0.gguf, NAME-Q4_K_M.gguf, NAME-Q8_0.gguf); PEERS_MODELS overrides the last one.
What is not there is left out. Every round runs everything once, so that what disturbs the machine disturbs all; a ratio
is the median of the rounds' ratios. Needs nothing beyond the standard library.

Parts: decode (one stream after 128 tokens, ours after 2048, too), prefill (--prompts), streams (1 to 16 together),
served (1 and 16 streams over HTTP: TTFT, inter-token latency, memory), prefix (TTFT over a seen beginning).
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
from pathlib import Path

import engines
import served

PARTS = ["decode", "prefill", "streams", "served", "prefix"]
PEERS = {4: ["Q4_0", "Q4_K_M"], 8: ["Q8_0"]}
# Latencies and memory are better when they are smaller.
SMALLER = ("ttft", "itl99", "prefix", "resident", "load")


def main():
    arguments = parse()
    served.end_with_servers()
    log, results = engines.Log(), []
    for name in arguments.models:
        for bits in arguments.bits:
            results.append(compare(arguments, name, bits, log))
    text = "\n".join([head(arguments), *(table(result) for result in results), tail(log)])
    print(text)
    for file, content in ((arguments.md, text), (arguments.json, json.dumps(results, indent=1) + "\n")):
        if file:
            Path(file).write_text(content)


def parse():
    peers = Path(os.environ.get("PEERS_DIR", Path.home() / ".cache/peers"))
    names = lambda text: [part for part in text.split(",") if part]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default="target/release/lmx")
    parser.add_argument("--parts", type=names, default=PARTS, help=",".join(PARTS))
    parser.add_argument("--models", type=names, default=["qwen3-0.6b"])
    parser.add_argument("--bits", type=lambda text: [int(part) for part in text.split(",")], default=[4, 8])
    parser.add_argument("--modes", type=names, default=["int16", "int8"], help="of ours: int16, int8, f32")
    parser.add_argument("--peers", type=names, default=["llama.cpp", "openvino"])
    parser.add_argument("--prompts", type=lambda text: [int(part) for part in text.split(",")], default=[512, 2048])
    parser.add_argument("--quantizations", type=names, default=["Q4_0", "Q4_K_M", "Q8_0"], help="of the peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", help="write all samples")
    parser.add_argument("--md", help="write what is printed")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    arguments.dir, arguments.folder = peers, Path(os.environ.get("PEERS_MODELS", peers / "models"))
    return arguments


def compare(arguments, name, bits, log):
    """Samples of one model in one width: `{engine: {figure: [a value per round or None]}}`."""
    result = dict(model=name, bits=bits, rounds=arguments.rounds, samples={})
    ours = arguments.folder / f"{name}-mlx{bits}"
    assert ours.is_dir(), f"there is no {ours}"
    wanted = set(arguments.parts)
    with contextlib.ExitStack() as running:
        measures = list(raw(arguments, ours, name, bits, wanted, log)) if wanted & {"decode", "prefill", "streams"} else []
        if wanted & {"served", "prefix"}:
            measures += servers(arguments, ours, name, bits, wanted, log, running)
        for number in range(arguments.rounds):
            for engine, measure in measures:
                print(f"{name} {bits} bits, round {number + 1}: {engine}", file=sys.stderr, flush=True)
                note(result["samples"].setdefault(engine, {}), number, attempt(measure))
    return result


def raw(arguments, ours, name, bits, wanted, log):
    lmx, threads, prompts = arguments.lmx, arguments.threads, arguments.prompts
    yield "limits", lambda: flat(engines.limits(lmx, threads, log))
    for mode in arguments.modes:
        yield f"ours {mode}", lambda mode=mode: engines.ours(lmx, ours, mode, threads, wanted, prompts, log)
    for quantization in (q for q in PEERS[bits] if q in arguments.quantizations):
        gguf = arguments.folder / f"{name}-{quantization}.gguf"
        if not gguf.is_file():
            continue
        if "llama.cpp" in arguments.peers:
            peer = lambda gguf=gguf: engines.llama_cpp(arguments.dir, gguf, threads, wanted, prompts, log)
            yield f"llama.cpp {quantization}", peer
        if "openvino" in arguments.peers and wanted & {"decode", "prefill"}:
            peer = lambda gguf=gguf: engines.openvino(arguments.dir, gguf, threads, wanted, prompts, log)
            yield f"OpenVINO {quantization}", peer


def servers(arguments, ours, name, bits, wanted, log, running):
    """All servers run all the while; an idle one takes no time."""
    lmx, threads = arguments.lmx, arguments.threads
    starts = [(f"ours {mode}", served.our_server(lmx, ours, mode, threads)) for mode in arguments.modes]
    gguf = arguments.folder / f"{name}-{PEERS[bits][0]}.gguf"
    if "llama.cpp" in arguments.peers and gguf.is_file():
        starts.append((f"llama.cpp {PEERS[bits][0]}", served.llama_server(arguments.dir, gguf, threads)))
    for engine, start in starts:
        port, server = running.enter_context(start)
        yield engine, lambda port=port, server=server: served.once(lmx, port, server, wanted, log)


def attempt(measure):
    try:
        return measure()
    except (engines.Failed, KeyError, ValueError) as error:
        print(f"  left out: {error!r}", file=sys.stderr)
        return {}


def note(samples, number, figures):
    for figure, value in figures.items():
        samples.setdefault(figure, [])
        # A round without this figure leaves its place empty, so that rounds stay comparable.
        samples[figure] += [None] * (number - len(samples[figure])) + [value]


def flat(limits):
    return {name: value["median"] for name, value in limits.items() if isinstance(value, dict)}


def ratio(a, b):
    """Median, least and most of the rounds' ratios; `None` if no round has both."""
    ratios = sorted(x / y for x, y in zip(a or [], b or []) if x and y)
    return (statistics.median(ratios), ratios[0], ratios[-1]) if ratios else None


def median(values):
    known = [value for value in values or [] if value is not None]
    return f"{statistics.median(known):.3g}" if known else "-"


def table(result):
    """A row for each figure; a column for each engine, and the ratio of each of our modes to each peer."""
    samples = {engine: figures for engine, figures in result["samples"].items() if engine != "limits"}
    limits = result["samples"].get("limits", {})
    modes = [engine for engine in samples if engine.startswith("ours")]
    peers = [engine for engine in samples if not engine.startswith("ours")]
    figures = list(dict.fromkeys(figure for engine in samples for figure in samples[engine]))
    against = [(mode, peer) for mode in modes for peer in peers]
    columns = ["figure", *modes, *peers, *(f"{mode[5:]} / {peer}" for mode, peer in against)]
    lines = [f"\n### {result['model']}, {result['bits']} bits, {result['rounds']} rounds\n", row(columns), row(["---"] * len(columns))]
    for figure in figures:
        cells = [label(figure), *(median(samples[engine].get(figure)) for engine in [*modes, *peers])]
        for mode, peer in against:
            cells.append(spread(ratio(samples[mode].get(figure), samples[peer].get(figure))))
        lines.append(row(cells))
    lines += inner(samples, limits, modes)
    return "\n".join(lines)


def inner(samples, limits, modes):
    """Ratios of ours to the limits of the machine and to itself."""
    lines = ["\n" + row(["ratio", *modes]), row(["---"] * (1 + len(modes)))] if modes else []
    figures = dict.fromkeys(figure for mode in modes for figure in samples[mode])
    prompts = [figure.split(".")[1] for figure in figures if figure.startswith("prefill_gops.")]
    pairs = [
        ("decode after 128: GB/s read over read bandwidth", "read.128", limits.get("read_gb_per_s")),
        ("decode after 2048: GB/s read over read bandwidth", "read.2048", limits.get("read_gb_per_s")),
        *((f"prefill {n}: GOP/s over int8 peak", f"prefill_gops.{n}", limits.get("byte_gops")) for n in prompts),
        ("decode after 2048 over after 128", "decode.2048", "decode.128"),
        ("one stream served over the forward pass alone", "steady.1", "decode.128"),
        ("seen beginning over an unseen one, TTFT", "prefix.warm", "prefix.cold"),
        *((f"{n} streams over one", f"streams.{n}", "streams.1") for n in engines.STREAMS[1:]),
    ]
    for name, above, below in pairs:
        of = lambda mode: samples[mode].get(below) if isinstance(below, str) else below
        cells = [spread(ratio(samples[mode].get(above), of(mode))) for mode in modes]
        if any(cell != "-" for cell in cells):
            lines.append(row([name, *cells]))
    if limits:
        lines.append("\nLimits: " + ", ".join(f"{name} {median(values)}" for name, values in limits.items()))
    return lines


def label(figure):
    return figure + (" (smaller is better)" if figure.startswith(SMALLER) else "")


def spread(of):
    return "-" if of is None else f"{of[0]:.2f} ({of[1]:.2f} to {of[2]:.2f})"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def head(arguments):
    found = engines.versions(arguments.lmx, arguments.dir)
    versions = ", ".join(f"{name}: {version}" for name, version in found.items())
    return f"{platform.platform()}, {os.cpu_count()} cores, {arguments.threads} threads each.\n{versions}."


def tail(log):
    """The commands, each with the share of the machine that others took meanwhile."""
    lines = [f"{max(others):5.1f} %  {command}" for command, others in log.commands.items()]
    return "\n".join(["\nCommands, and at most how much of the machine other processes took meanwhile:\n", "```", *lines, "```"])


if __name__ == "__main__":
    main()
