"""Numbers for tests of a runtime: prompts, their token ids, the first logits and the greedy continuation."""

import json
from pathlib import Path

import numpy as np

from chatml import render
from reader import Shipped

PROMPTS = ["Reply with exactly: CANARY_OK", "What is 3 + 4?", "Who are you?"]
NEXT, TOP = 16, 8


def write(folder: Path, path: Path):
    model = Shipped(folder)
    entries = []
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        text = render(messages, add_generation_prompt=True)
        tokens = model.tokenizer.encode(text).ids
        ids, logits = model.greedy(tokens, NEXT, stop=False)
        best = np.argsort(-logits)[:TOP]
        entries.append({"messages": messages, "text": text, "prompt_ids": tokens, "greedy_ids": ids,
                        "greedy_text": model.tokenizer.decode(ids, skip_special_tokens=False),
                        "top_logits": [[int(i), round(float(logits[i]), 4)] for i in best]})
    about = ("float32 over the dequantised shipped weights; greedy_ids go on after the stop token; "
             "top_logits are those that choose the first of them, as [id, logit]")
    path.write_text(json.dumps({"about": about, "prompts": entries}, indent=1, ensure_ascii=False) + "\n")
