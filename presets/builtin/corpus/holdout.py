"""What the evaluation asks must not be trained on: its user messages, and the slot values that decide its answers."""

import json
import re
from pathlib import Path

from .chat import Chat

EVALUATION = Path(__file__).resolve().parent.parent / "eval_prompts.json"


def normal(text: str) -> str:
    """Letters and digits only, lower case: a message that differs in a comma is the same message."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


class HoldOut:
    """Knows the held-out messages, keys and strings of the evaluation set."""

    def __init__(self, path: Path = EVALUATION):
        prompts = json.loads(path.read_text())["prompts"]
        # The last user message is the question; "hold_out" names what else must be unseen.
        self.messages = {normal(p["messages"][-1]["content"]) for p in prompts if not p.get("common_question")}
        self.dialogues = {tuple(normal(m["content"]) for m in p["messages"]) for p in prompts}
        self.keys = {key for p in prompts for key in p.get("keys", [])}
        self.texts = [text.lower() for p in prompts for text in p.get("texts", [])]

    def touches(self, chat: Chat) -> bool:
        """Whether this conversation shows anything the evaluation asks."""
        said = chat.messages()
        if any(key in self.keys for exchange in chat.exchanges for key in exchange.keys):
            return True
        if any(normal(m["content"]) in self.messages for m in said if m["role"] == "user"):
            return True
        contents = [normal(m["content"]) for m in said]
        for dialogue in self.dialogues:
            size = len(dialogue)
            if any(tuple(contents[i:i + size]) == dialogue for i in range(len(contents) - size + 1)):
                return True
        return self.holds_text(" ".join(m["content"] for m in said))

    def holds_text(self, text: str) -> bool:
        low = text.lower()
        return any(held in low for held in self.texts)
