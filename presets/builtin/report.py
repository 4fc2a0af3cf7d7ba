"""Puts the measured figures into README.md, between its two marks."""

import csv
import json
from pathlib import Path

START, END = "<!-- figures: written by report.py -->", "<!-- end of figures -->"


def write(work: Path, out: Path, home: Path):
    results = json.loads((home / "eval_results.json").read_text())
    corpus = json.loads((work / "corpus.json").read_text())
    with (home / "loss.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    last = rows[-1]
    final = sum(float(row["loss"]) for row in rows[-5:]) / len(rows[-5:])
    c = json.loads((out / "config.json").read_text())
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    packed = sum(kind["tokens"] for kind in corpus["packed"].values()) / 1e6
    lines = [
        START,
        f"**Evaluation: {results['passed']} of {results['total']} prompts answered as asked.**",
        "",
        "| skill | as asked |", "|---|---|",
        *(f"| {skill} | {count['passed']} of {count['total']} |" for skill, count in results["skills"].items()),
        f"| all | {results['passed']} of {results['total']} |",
        "",
        f"Corpus: {corpus['conversations']} conversations, {packed:.1f} million tokens. Trained: {last['step']} steps, "
        f"{int(last['tokens']) / 1e6:.1f} million tokens, {float(last['seconds']) / 60:.0f} minutes of wall clock on two CPU cores that other work shared. "
        f"Final loss: {final:.3f} (cross entropy of the answer tokens, mean of the last {len(rows[-5:]) * 20} steps). Shipped: {size:.2f} MB.",
        "",
        f"Sizes: {c['num_hidden_layers']} layers, hidden {c['hidden_size']}, intermediate {c['intermediate_size']}, {c['num_attention_heads']} heads on "
        f"{c['num_key_value_heads']} key heads of {c['head_dim']}, vocabulary {c['vocab_size']}, context {c['max_position_embeddings']}, "
        f"rotary base {c['rope_theta']:.0f}.",
        END,
    ]
    page = home / "README.md"
    text = page.read_text()
    before, rest = text.split(START)
    page.write_text(before + "\n".join(lines) + rest.split(END)[1])
