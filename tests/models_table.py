#!/usr/bin/env python3
"""Write the table of docs/models.md: the measured error of every family, by layout and quantisation.

    models_table.py --lmx target/release/lmx --checker parity/check.py --fixtures fixtures tests/fixtures --write docs/models.md

Each decoder's fixture (as the fixture generator writes it) is computed in float32 by the native and by the candle
executor, and in int16, and compared with the reference implementation's logits. Of several fixtures of one kind the worst
is given.
Without --write the table is printed. Exit status: 0 all within the checker's tolerance, 1 something is not.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from parity_matrix import decoders

BEGIN, END = "<!-- table: tests/models_table.py -->", "<!-- end of the table -->"
COLUMNS = {
    "native f32": ["--compute", "f32"],
    "candle f32": ["--compute", "f32", "--executor", "candle"],
    "native int16": ["--compute", "int16"],
}


def kind(meta):
    """Layout and quantisation of a fixture."""
    quant = meta.get("mlx_quant")
    layout = "MLX" if quant or meta.get("stacked_experts") else "Hugging Face"
    if not quant:
        packed = meta.get("compressed_tensors")
        fp8 = "fp8" if any(key.startswith("fp8") for key in meta) else None
        return layout, fp8 or (f"compressed-tensors, {packed.split(',')[0]}-bit experts" if packed else meta["dtype"])
    bits, group, *mode = quant.split(",")
    name = mode[0] if mode and mode[0] != "affine" else f"{bits}-bit, group {group}"
    return layout, name + (", mixed" if meta.get("mlx_override") else "") + (", kv_b_proj" if meta.get("mlx_kv_b") else "")


def error(args, fixture, flags, out):
    """The largest error of a logit over the reference's standard deviation, and whether the checker passes it."""
    command = [args.lmx, "parity", fixture / "model", "--inputs", fixture / "reference/inputs.json", "--out", out, *flags]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"{fixture.name}: lmx ended with {ran.returncode}: {ran.stderr.strip()}")
    check = [sys.executable, args.checker, str(fixture), str(out), "--require", "logits,greedy_ids", "--json"]
    report = json.loads(subprocess.run(check, capture_output=True, text=True).stdout)
    details = [entry["detail"].split() for entry in report["entries"]]
    return max(float(words[words.index("err") + 1]) for words in details if "err" in words), report["passed"]


def table(args):
    worst, passed = {}, True
    with tempfile.TemporaryDirectory() as folder:
        for fixture in decoders(args.fixtures):
            meta = json.loads((fixture / "reference/meta.json").read_text())
            row = (meta["family"], *kind(meta))
            for column, flags in COLUMNS.items():
                found, ok = error(args, fixture, flags, Path(folder) / "out.safetensors")
                # int16 is not float32: its error is stated, not judged.
                passed &= ok or "f32" not in column
                worst.setdefault(row, {})[column] = max(found, worst.get(row, {}).get(column, 0.0))
            print(f"{fixture.name}: {worst[row]}", file=sys.stderr, flush=True)
    lines = ["| Family | Layout | Weights | " + " | ".join(COLUMNS) + " |", "|---" * (3 + len(COLUMNS)) + "|"]
    for row, cells in sorted(worst.items()):
        lines.append("| " + " | ".join([*row, *(f"{cells[column]:.1e}" for column in COLUMNS)]) + " |")
    return "\n".join(lines) + "\n", passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", required=True, help="the program")
    parser.add_argument("--checker", required=True, help="check.py of the fixture generator")
    parser.add_argument("--fixtures", required=True, nargs="+", metavar="DIR")
    parser.add_argument("--write", metavar="FILE", type=Path, help="put the table between the marks of this file")
    args = parser.parse_args()
    made, passed = table(args)
    if args.write:
        before, rest = args.write.read_text().split(BEGIN)
        args.write.write_text(before + BEGIN + "\n\n" + made + "\n" + END + rest.split(END)[1])
    else:
        print(made, end="")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
