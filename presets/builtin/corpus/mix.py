"""Which share of the corpus each skill gets, and how exchanges become conversations."""

from random import Random

from . import about, dialogue, echo, facts, lists, numbers, objects, project, reading, stories
from .chat import Chat, Exchange, voice

# skill: (its tasks, its share of the conversations, whether a lead-in may be put before the request)
SINGLE = {
    "echo": (echo.TASKS, 17, False),
    "numbers": (numbers.TASKS, 20, True),
    "lists": (lists.TASKS, 14, True),
    "facts": (facts.TASKS, 10, True),
    "about": (about.TASKS, 10, True),
    "stories": (stories.TASKS, 4.5, True),
    "json": (objects.TASKS, 8, False),
    "manners": ([(dialogue.manners, 1)], 2, False),
}
OTHER = {"references": 11, "system": 7, "reading": 8, "marathon": 2.5, "document": 0.8}


def weighted(r: Random, tasks):
    return r.choices([task for task, _ in tasks], [weight for _, weight in tasks])[0]


def exchange(r: Random, skill: str) -> Exchange:
    tasks, _, lead = SINGLE[skill]
    made = weighted(r, tasks)(r)
    return Exchange(voice(r, made.user), made.answer, made.keys) if lead else made


def any_skill(r: Random) -> str:
    return r.choices(list(SINGLE), [share for _, share, _ in SINGLE.values()])[0]


def marathon(r: Random) -> Chat:
    """A long conversation about everything, so that late positions are trained."""
    turns: list[Exchange] = []
    for _ in range(r.randint(6, 22)):
        x = r.random()
        if x < 0.7:
            turns.append(exchange(r, any_skill(r)))
        elif x < 0.9:
            turns += weighted(r, dialogue.REFERENCES)(r)
        else:
            turns += reading.short_text(r)
    return Chat("marathon", turns)


def conversation(r: Random) -> Chat | str:
    """One conversation, or a plain document (a string)."""
    skill = r.choices(list(SINGLE) + list(OTHER), [share for _, share, _ in SINGLE.values()] + list(OTHER.values()))[0]
    if skill == "document":
        return project.document(r)
    if skill == "marathon":
        return marathon(r)
    if skill == "system":
        return dialogue.system_chat(r)
    if skill == "references":
        before = [exchange(r, any_skill(r))] if r.random() < 0.2 else []
        return Chat(skill, before + weighted(r, dialogue.REFERENCES)(r))
    if skill == "reading":
        return Chat(skill, weighted(r, reading.TASKS)(r))
    turns = [exchange(r, skill)]
    # Short tasks come several to a conversation: more answers per token read, and every turn must be told from the others.
    while r.random() < (0.45 if skill != "stories" else 0.1) and len(turns) < 5:
        turns.append(exchange(r, skill if r.random() < 0.6 else any_skill(r)))
    system = "You are a helpful assistant." if r.random() < 0.04 else None
    return Chat(skill, turns, system)
