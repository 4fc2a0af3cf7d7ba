"""How much the answers of the shipped model surprise it, in each compute mode: perplexity of held-out conversations.

    python perplexity.py --lmx ../../target/release/lmx

The conversations come from the generator of the training text, drawn with another seed; what the training text holds too
is possible, but rare. Only tokens that the model has to write count, as in training.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from chatml import pieces
from corpus.holdout import HoldOut
from corpus.mix import conversation

MODES = ["f32", "int16", "int8"]
HERE = Path(__file__).parent


def held_out(tokenizer: Tokenizer, conversations: int, seed: int):
    """Token ids of each conversation, and which of them are the model's to write."""
    r, held = Random(seed), HoldOut()
    found = []
    while len(found) < conversations:
        made = conversation(r)
        # Documents have no answers, and the evaluation stays unseen here, too.
        if isinstance(made, str) or held.touches(made):
            continue
        ids, counted = [], []
        for text, learned in pieces(made.messages()):
            piece = tokenizer.encode(text, add_special_tokens=False).ids
            ids += piece
            counted += [learned] * len(piece)
        found.append((ids, np.array(counted)))
    return found


def log_probabilities(lmx: str, mode: str, chats) -> np.ndarray:
    """Of every counted token."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder, "inputs.json"), Path(folder, "out.safetensors")
        inputs.write_text(json.dumps({"prompts": {f"c{i}": ids for i, (ids, _) in enumerate(chats)}}))
        command = [lmx, "parity", "builtin", "--inputs", inputs, "--out", out, "--compute", mode]
        subprocess.run([str(part) for part in command], check=True, stderr=subprocess.DEVNULL)
        logits = load_file(out)
    found = []
    for i, (ids, counted) in enumerate(chats):
        x = logits[f"logits.c{i}"][:-1].astype(np.float64)
        x -= x.max(axis=1, keepdims=True)
        chosen = x[np.arange(len(x)), ids[1:]] - np.log(np.exp(x).sum(axis=1))
        found.append(chosen[counted[1:]])
    return np.concatenate(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default=str(HERE / "../../target/release/lmx"))
    parser.add_argument("--conversations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=99)
    arguments = parser.parse_args()
    chats = held_out(Tokenizer.from_file(str(HERE / "model/tokenizer.json")), arguments.conversations, arguments.seed)
    exact = log_probabilities(arguments.lmx, MODES[0], chats)
    print(f"{arguments.conversations} conversations, {len(exact)} tokens\n\n| mode | perplexity | RMS difference of a log probability |\n|---|---|---|")
    for mode in MODES:
        values = exact if mode == MODES[0] else log_probabilities(arguments.lmx, mode, chats)
        print(f"| `{mode}` | {np.exp(-values.mean()):.5f} | {np.sqrt(np.mean((values - exact) ** 2)):.1e} |")


if __name__ == "__main__":
    main()
