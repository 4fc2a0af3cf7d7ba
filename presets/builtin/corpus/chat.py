"""What a training conversation is, and the small helpers every skill uses to vary its phrasing."""

from dataclasses import dataclass
from random import Random


@dataclass
class Exchange:
    """One question and its answer. `keys` names the slot values that decide the answer ("sum:3+4")."""

    user: str
    answer: str
    keys: tuple[str, ...] = ()


@dataclass
class Chat:
    """A conversation of one or more exchanges. `skill` says which generator made it."""

    skill: str
    exchanges: list[Exchange]
    system: str | None = None

    def messages(self) -> list[dict]:
        said = [{"role": "system", "content": self.system}] if self.system is not None else []
        for exchange in self.exchanges:
            said.append({"role": "user", "content": exchange.user})
            said.append({"role": "assistant", "content": exchange.answer})
        return said


def fill(r: Random, templates, **slots) -> str:
    """One of the templates, with the slots put in."""
    return r.choice(templates).format(**slots)


ORDERS = ["Please ", "Can you ", "Could you ", "Now ", "I would like you to ", "Would you "]
OPENERS = ["Ok, ", "Hi! ", "Hello, ", "Hey, ", "So, ", "Quick one: ", "Next: ", "And now: ", "Hello! ", "Thanks. Now: ",
           "A question: "]


def voice(r: Random, text: str) -> str:
    """The same request the way different people type it: a lead-in, a small first letter, no full stop."""
    if r.random() < 0.16:
        lead = r.choice(ORDERS if text[0].isupper() and text.endswith(".") and "?" not in text and not text.startswith("I ") else OPENERS)
        keep = text.startswith("I ")
        text = lead + (text if keep else text[0].lower() + text[1:])
        if lead.startswith(("Can", "Could", "Would")):
            text = text.rstrip(".") + ("" if text.endswith("?") else "?")
    elif r.random() < 0.12:
        text = text[0].lower() + text[1:]
    if r.random() < 0.12 and text[-1] in ".?":
        text = text[:-1]
    elif r.random() < 0.06 and text[-1] in ".?" and "lease" not in text:
        text = text[:-1] + ", please" + text[-1]
    return text


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun


def join(items) -> str:
    """apple, pear and plum"""
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]
