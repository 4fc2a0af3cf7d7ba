"""Writes the corpus: one JSON object per line, `{"skill", "messages"}` or `{"skill", "text"}`."""

import json
from pathlib import Path
from random import Random

from .holdout import HoldOut, normal
from .mix import conversation


def write(path: Path, conversations: int, seed: int) -> dict:
    """Writes that many conversations; what touches the evaluation is dropped and counted."""
    r, held = Random(seed), HoldOut()
    skills: dict[str, int] = {}
    dropped = 0
    with path.open("w", encoding="utf-8") as out:
        written = 0
        while written < conversations:
            made = conversation(r)
            if isinstance(made, str):
                if held.holds_text(made):
                    dropped += 1
                    continue
                line, skill = {"skill": "document", "text": made}, "document"
            elif held.touches(made):
                dropped += 1
                continue
            else:
                line, skill = {"skill": made.skill, "messages": made.messages()}, made.skill
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            skills[skill] = skills.get(skill, 0) + 1
            written += 1
    return {"conversations": written, "dropped": dropped, "skills": dict(sorted(skills.items()))}


def check(path: Path) -> int:
    """Reads the written corpus again and asserts that no evaluation message or held-out text is in it."""
    held = HoldOut()
    lines = 0
    with path.open(encoding="utf-8") as corpus:
        for line in corpus:
            lines += 1
            entry = json.loads(line)
            messages = entry.get("messages", [])
            for message in messages:
                if message["role"] == "user":
                    assert normal(message["content"]) not in held.messages, message["content"]
            text = entry.get("text") or " ".join(m["content"] for m in messages)
            assert not held.holds_text(text), text
    return lines
