"""Draws `loss.csv` as a small SVG: the training loss over the tokens seen."""

import csv
import math
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 320, 52, 28, 12, 40


def draw(source: Path, target: Path):
    with source.open() as lines:
        points = [(int(row["tokens"]) / 1e6, float(row["loss"])) for row in csv.DictReader(lines)]
    right, high, low = points[-1][0], max(y for _, y in points), min(y for _, y in points)
    across = lambda x: LEFT + (WIDTH - LEFT - RIGHT) * x / right
    # A logarithmic axis: the late part of the training is worth seeing.
    down = lambda y: TOP + (HEIGHT - TOP - BOTTOM) * (math.log(high) - math.log(y)) / (math.log(high) - math.log(low))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="16">training loss (cross entropy of answer tokens) over tokens seen, in millions</text>']
    for y in (8, 4, 2, 1, 0.5, 0.25, 0.125):
        if low <= y <= high:
            out.append(f'<path d="M{LEFT} {down(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/><text x="8" y="{down(y) + 4:.1f}">{y}</text>')
    step = max(1, round(right / 6))
    for x in range(0, int(right) + 1, step):
        out.append(f'<text x="{across(x):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{x}</text>')
    path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
    out += [f'<polyline points="{path}" fill="none" stroke="#2563eb" stroke-width="1.5"/>', "</svg>"]
    target.write_text("\n".join(out) + "\n")
