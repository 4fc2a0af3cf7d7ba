#!/usr/bin/env python3
"""Run `lmx parity` over fixtures in every way it can compute them, and compare each output with the reference.

    parity_matrix.py --lmx target/release/lmx --checker parity/check.py --fixtures fixtures/llama fixtures/qwen3

A fixture is a folder with `model/` and `reference/`, as the fixture generator writes it; a folder of fixtures stands for
all of them. Encoders read whole texts: of the ways only `whole` and `batch` are theirs. The checker runs with this
interpreter, which needs numpy and safetensors.
Exit status: 0 all passed, 1 something failed, 2 nothing to run.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "whole": [],
    "chunk1": ["--chunk", "1"],
    "chunk5": ["--chunk", "5"],
    "chunk7": ["--chunk", "7"],
    "chunk64": ["--chunk", "64"],
    "reuse": ["--reuse-prefix"],
    "batch": ["--batch"],
    "batch5": ["--batch", "--chunk", "5"],
    "batch64": ["--batch", "--chunk", "64"],
    "reuse5": ["--reuse-prefix", "--chunk", "5"],
    "batch-reuse": ["--batch", "--reuse-prefix"],
    "batch-reuse5": ["--batch", "--reuse-prefix", "--chunk", "5"],
}

# Ways of models that read whole texts.
WAYS_OF_ENCODERS = ["whole", "batch"]

# What a model is given, by the key in `inputs.json`, and the entries that its output must have.
REQUIRED = {"prompts": "logits,greedy_ids,greedy_logits", "texts": "embeddings", "pairs": "scores,probabilities", "cases": "scores"}

# Passed on to `lmx parity` where they are given.
PASSED_ON = {"executor": "native or candle", "kv_bits": "bits of keys and values", "kv_group_size": "components of a group", "kv_quantized_start": "first positions that stay floats"}


def given(fixture):
    """The key of `inputs.json` that says what the fixture's model is given."""
    inputs = json.loads((fixture / "reference" / "inputs.json").read_text())
    return next((key for key in REQUIRED if key in inputs), None)


def fixtures(paths):
    """The fixtures among the given folders and right below them."""
    folders = [folder for path in map(Path, paths) for folder in [path, *sorted(path.iterdir())]]
    return [folder for folder in folders if (folder / "reference" / "inputs.json").is_file() and given(folder)]


def decoders(paths):
    """Those with prompts."""
    return [folder for folder in fixtures(paths) if given(folder) == "prompts"]


def run(args, fixture, way, out):
    """One cell: whether it passed, the worst numbers or the reason, and the seconds it took."""
    command = [args.lmx, "parity", fixture / "model", "--inputs", fixture / "reference/inputs.json", "--out", out, "--compute", args.compute, *WAYS[way]]
    for flag in PASSED_ON:
        value = getattr(args, flag)
        command += ["--" + flag.replace("_", "-"), value] if value is not None else []
    begun = time.monotonic()
    try:
        ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=args.timeout)
    except subprocess.TimeoutExpired:
        return False, f"lmx did not end within {args.timeout} s", args.timeout
    seconds = time.monotonic() - begun
    if ran.returncode != 0:
        return False, f"lmx ended with {ran.returncode}: {ran.stderr.strip().splitlines()[-1:]}", seconds
    check = [sys.executable, args.checker, str(fixture), str(out), "--require", REQUIRED[given(fixture)], "--json"]
    check += ["--level", args.level] if args.level else []
    checked = subprocess.run(check, capture_output=True, text=True)
    if not checked.stdout.strip():
        return False, f"the checker ended with {checked.returncode}: {checked.stderr.strip().splitlines()[-1:]}", seconds
    report = json.loads(checked.stdout)
    failed = [f"{entry['name']}: {entry['detail']}" for entry in report["entries"] if not entry["ok"]]
    number = "err" if given(fixture) == "prompts" else "abs"
    errors = [float(words[words.index(number) + 1]) for entry in report["entries"] for words in [entry["detail"].split()] if number in words]
    passed = checked.returncode == 0 and report["passed"]
    return passed, failed[0] if failed else f"{max(errors):.1e}", seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", required=True, help="the program")
    parser.add_argument("--checker", required=True, help="check.py of the fixture generator")
    parser.add_argument("--fixtures", required=True, nargs="+", metavar="DIR")
    parser.add_argument("--compute", default="f32", help="mode to compute in (f32)")
    for flag, what in PASSED_ON.items():
        parser.add_argument("--" + flag.replace("_", "-"), help=f"{what} (as configured)")
    parser.add_argument("--level", help="tolerance of the checker (its own choice)")
    parser.add_argument("--ways", default=",".join(WAYS), help="comma list of " + ", ".join(WAYS))
    parser.add_argument("--timeout", type=float, default=600, help="seconds that one run may take (600)")
    args = parser.parse_args()
    ways = args.ways.split(",")
    if unknown := [way for way in ways if way not in WAYS]:
        parser.error(f"unknown ways {', '.join(unknown)}, known are {', '.join(WAYS)}")
    folders = fixtures(args.fixtures)
    if not folders:
        print("no fixture in these folders", file=sys.stderr)
        return 2

    width = max(len(folder.name) for folder in folders)
    print(f"{'fixture':{width}}  " + "  ".join(f"{way:>12}" for way in ways), flush=True)
    failures, runs = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        for folder in folders:
            cells = []
            for way in ways:
                if way not in WAYS_OF_ENCODERS and given(folder) != "prompts":
                    cells.append("")
                    continue
                runs += 1
                passed, detail, _ = run(args, folder, way, Path(temporary) / "out.safetensors")
                cells.append(detail if passed else "FAIL")
                if not passed:
                    failures.append(f"{folder.name} {way}: {detail}")
            print(f"{folder.name:{width}}  " + "  ".join(f"{cell:>12}" for cell in cells), flush=True)
    print(f"{runs - len(failures)} passed, {len(failures)} failed; numbers are the largest error over the reference's standard deviation, of encoders the largest error")
    for failure in failures:
        print(f"FAIL {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
