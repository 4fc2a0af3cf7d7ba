"""Conversations as rows of tokens: each goes into the shortest kind of row that holds it well."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from chatml import END_OF_TEXT, pieces

# Tokens of a row -> the longest conversation that goes into it. Short rows are the cheapest to train on.
LENGTHS = {256: 200, 512: 400, 2048: 2048}
# A story has many good continuations, so that its loss says little; a plain document is read, not answered.
WEIGHT = {"stories": 0.4, "document": 0.5}


def encode(corpus: Path, tokenizer: Tokenizer):
    """Yields `(tokens, weights)` of each conversation. Only what the assistant says has a weight."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    with corpus.open(encoding="utf-8") as lines:
        while batch := [json.loads(line) for _, line in zip(range(2000), lines)]:
            parts = [[(e["text"], True)] if "text" in e else list(pieces(e["messages"])) for e in batch]
            flat = tokenizer.encode_batch([text for entry in parts for text, _ in entry])
            at = 0
            for entry, spoken in zip(batch, parts):
                tokens, weights = [], []
                for (_, learnt), found in zip(spoken, flat[at:at + len(spoken)]):
                    tokens += found.ids
                    weights += [WEIGHT.get(entry["skill"], 1.0) if learnt else 0.0] * len(found.ids)
                at += len(spoken)
                yield tokens + [end], weights + [0.0]


class Rows:
    """Fills rows of one length; a conversation that does not fit begins the next row, the rest of the row is cut from it."""

    def __init__(self, length: int):
        self.length, self.tokens, self.weights = length, [], []
        self.row, self.row_weights = [], []

    def add(self, tokens, weights):
        room = self.length + 1 - len(self.row)
        self.row += tokens[:room]
        self.row_weights += weights[:room]
        if len(tokens) < room:
            return
        self.tokens.append(np.array(self.row, np.uint16))
        self.weights.append(np.array(self.row_weights, np.float16))
        fits = len(tokens) <= self.length
        self.row, self.row_weights = (list(tokens), list(weights)) if len(tokens) > room and fits else ([], [])

    def arrays(self):
        return np.stack(self.tokens), np.stack(self.weights)


def pack(corpus: Path, tokenizer: Tokenizer, folder: Path) -> dict:
    """Writes `rows-LENGTH.npz` for each length and says how many tokens they hold."""
    kinds = {length: Rows(length) for length in LENGTHS}
    for tokens, weights in encode(corpus, tokenizer):
        fitting = next(length for length,
                       longest in LENGTHS.items() if len(tokens) <= longest or length == max(LENGTHS))
        kinds[fitting].add(tokens, weights)
    counts = {}
    for length, rows in kinds.items():
        tokens, weights = rows.arrays()
        np.savez(folder / f"rows-{length}.npz", tokens=tokens, weights=weights)
        counts[length] = {"rows": len(tokens), "tokens": int(tokens.size), "answer_tokens": int((weights > 0).sum())}
    return counts
