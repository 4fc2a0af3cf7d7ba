"""Messages with a text and a question about it: find the code, who, where, the first word; short and long texts."""

import string
from random import Random

from . import stories
from .chat import Exchange, a, fill
from .echo import letters
from .words import ADJECTIVES, ALL_WORDS, ANIMALS, CITIES, COLOURS, DAYS, JOBS, MONTHS, NAMES, OBJECTS, PLACES, SEASONS

FILLER = ["The {p} was {q} and the sky was {c}.", "A {x} slept under the {t}.", "In {m} it often rains near the {p}.",
          "Nobody knew why the {o} was {c}.",
          "People came from {y} to see the {p}.", "The {j} sold {f} every {d}.", "There was a {c} {o} on the table.",
          "It was a quiet {d} in {s}.",
          "The {x} ran past the {p} and did not stop.", "Children played with a {c} {o}.",
          "The road to the {p} was long.", "A {a} {j} walked by and smiled.",
          "The wind moved the {t} all night.", "In the evening they ate {f} together.",
          "The {o} had been in the family for years.", "Every {d} the market opened early.",
          "Some said the {x} was {a}, others did not.", "The letter from {y} came in {m}.",
          "Water ran down the {p} in {s}.", "The old {o} still worked well."]


def filler(r: Random) -> str:
    return r.choice(FILLER).format(p=r.choice(PLACES), a=r.choice(ADJECTIVES), c=r.choice(COLOURS), x=r.choice(ANIMALS),
                                   t=r.choice(["oak", "tree", "table", "roof", "hedge"]),
                                   m=r.choice(MONTHS), o=r.choice(OBJECTS), y=r.choice(CITIES), j=r.choice(JOBS),
                                   f=r.choice(["bread", "cheese", "soup", "rice", "pasta", "salad", "cake", "pizza",
                                               "honey", "butter"]),
                                               q=r.choice(["quiet", "old", "small", "busy", "empty", "dark", "bright"]),
                                               d=r.choice(DAYS), s=r.choice(SEASONS))


def hidden(r: Random):
    """A fact to find: the sentence that holds it, ways to ask, the full and the short answer."""
    n = r.choice(NAMES)
    kind = r.randrange(8)
    if kind <= 1:
        what = r.choice(["code", "secret code", "password", "room number", "ticket number", "key", "number",
                         "door code", "secret word", "order number"])
        x = r.choice([str(r.randint(100, 99999)), str(r.randint(1000, 9999)), letters(r, 3, 6, string.ascii_uppercase),
                      r.choice(ALL_WORDS),
                      f"{letters(r, 2, 3, string.ascii_uppercase)}-{r.randint(10, 999)}"])
        return f"The {what} is {x}.", [f"What is the {what}?", f"Tell me the {what}.", f"Which {what} is in the text?",
                                       f"Find the {what}.",
                                       f"What is the {what} in the text?"], f"The {what} is {x}.", x
    if kind == 2:
        x = r.choice(CITIES)
        return f"{n} lives in {x}.", [f"Where does {n} live?", f"In which city does {n} live?",
                                      f"Which city does {n} live in?"], f"{n} lives in {x}.", x
    if kind == 3:
        x = f"{r.choice(COLOURS)} {r.choice(OBJECTS)}"
        return f"{n} bought {a(x)}.", [f"What did {n} buy?", f"Tell me what {n} bought.",
                                       f"Which thing did {n} buy?"], f"{n} bought {a(x)}.", x
    if kind == 4:
        x = r.choice(JOBS)
        return f"{n} works as {a(x)}.", [f"What is the job of {n}?", f"What does {n} do for work?",
                                         f"What does {n} work as?"], f"{n} works as {a(x)}.", x
    if kind == 5:
        x = r.choice(DAYS)
        return f"The meeting is on {x}.", ["When is the meeting?", "On which day is the meeting?",
                                           "Which day is the meeting?"], f"The meeting is on {x}.", x
    if kind == 6:
        x, animal = r.choice(NAMES), r.choice(ANIMALS)
        return f"{n} has {a(animal)} called {x}.", [f"What is the {animal} of {n} called?",
                                                    f"What is the name of the {animal}?",
                                                    f"How is the {animal} called?"], f"The {animal} is called {x}.", x
    x, o = r.randint(2, 30), r.choice(OBJECTS[:8])
    return f"{n} has {x} {o}s.", [f"How many {o}s does {n} have?",
                                  f"How many {o}s has {n}?"], f"{n} has {x} {o}s.", str(x)


def sentences(r: Random, low: int, high: int) -> list[str]:
    return [filler(r) for _ in range(r.randint(low, high))]


def lay(r: Random, text: str, ask: str) -> str:
    return fill(r, ["{t}\n\n{q}", "{t} {q}", "{t}\n{q}", "Read this text: {t}\n\n{q}", "{q}\n\n{t}",
                    "Text: {t}\nQuestion: {q}", "Here is a text.\n\n{t}\n\n{q}", "{q} {t}"], t=text, q=ask)


def find(r: Random, low: int, high: int) -> list[Exchange]:
    """One to three facts in a text, and questions about them in one message or in later turns."""
    facts = [hidden(r) for _ in range(r.choice([1, 1, 2, 3]))]
    if len({f[1][0] for f in facts}) < len(facts) or sum("meeting" in f[0] for f in facts) > 1:
        facts = facts[:1]
    body = sentences(r, low, high)
    for held, *_ in facts:
        body.insert(r.randint(0, len(body)), held)
    text = " ".join(body)
    asked = r.sample(facts, r.randint(1, len(facts)))
    turns = []
    for i, (held, asks, full, short) in enumerate(asked):
        ask, answer = r.choice(asks), full
        if r.random() < 0.2:
            ask, answer = ask + r.choice([" Answer in one word.", " Only the answer, please.",
                                          " Just the answer."]), short
            if " " in short:
                ask, answer = r.choice(asks), full
        turns.append(Exchange(lay(r, text, ask) if i == 0 else ask, answer, (f"read:{held}",)))
    return turns


def short_text(r: Random) -> list[Exchange]:
    return find(r, 1, 6)


def long_text(r: Random) -> list[Exchange]:
    return find(r, 8, 45)


def edge(r: Random) -> list[Exchange]:
    """The first or last word or sentence of a text, or how many sentences it has."""
    body = sentences(r, 2, 6)
    kind = r.randrange(4)
    if kind == 0:
        ask, answer = fill(r, ["What is the first word of this text?", "What is the first word?",
                               "Say the first word of the text."]), body[0].split()[0]
    elif kind == 1:
        ask, answer = fill(r, ["What is the last word of this text?", "What is the last word?",
                               "Say the last word of the text."]), body[-1].split()[-1].strip(".")
    elif kind == 2:
        ask, answer = fill(r, ["Repeat the first sentence.", "What is the first sentence?",
                               "Copy the first sentence of the text."]), body[0]
    else:
        ask, answer = fill(r, ["Repeat the last sentence.", "What is the last sentence?",
                               "Copy the last sentence of the text."]), body[-1]
    return [Exchange(lay(r, " ".join(body), ask), answer, (f"edge:{answer}:{' '.join(body)}",))]


def tale(r: Random) -> list[Exchange]:
    """A story, then who it is about and what was found."""
    hero, thing, place, name = r.choice(stories.HEROES), r.choice(OBJECTS), r.choice(PLACES), r.choice(NAMES)
    text = stories.tell(r, hero, thing, place, name, r.randint(3, 6))
    questions = [(["Who is in the story?", "Who is the story about?", "What is the name of the hero?",
                   "What is the hero called?"], f"The story is about {a(hero)} called {name}."),
                 (["Where does {n} live?".format(n=name), "Where did the story take place?"],
                  f"{name} lives {stories.HOMES[place]}."),
                 ([f"What kind of person or animal is {name}?", f"Who is {name}?"], f"{name} is {a(hero)}.")]
    asked = r.sample(questions, r.randint(1, 2))
    if r.random() < 0.5:
        turns = [Exchange(lay(r, text, r.choice(asked[0][0])), asked[0][1], (f"tale:{hero}:{name}",))]
    else:
        ask = fill(r, stories.ASK, s="story", x=f"{a(hero)} called {name}")
        turns = [Exchange(ask, text, (f"story:{hero}+{name}",)),
                 Exchange(r.choice(asked[0][0]), asked[0][1], (f"tale:{hero}:{name}",))]
    return turns + [Exchange(r.choice(asks), answer, (f"tale:{hero}:{name}",)) for asks, answer in asked[1:]]


def people(r: Random) -> list[Exchange]:
    """Three or four people with one thing each; one is asked for, by name or by thing."""
    n = r.randint(2, 5)
    names = r.sample(NAMES, n)
    pool, has, ask_name, ask_thing = r.choice([
        (CITIES, "{n} lives in {x}.", "Where does {n} live?", "Who lives in {x}?"),
        (JOBS, "{n} is a {x}.", "What is the job of {n}?", "Who is the {x}?"),
        (COLOURS, "{n} likes {x}.", "Which colour does {n} like?", "Who likes {x}?"),
        (ANIMALS, "{n} has a {x}.", "Which animal does {n} have?", "Who has the {x}?"),
        (DAYS, "{n} comes on {x}.", "When does {n} come?", "Who comes on {x}?")])
    things = r.sample(pool, n)
    text = " ".join(has.format(n=m, x=x).replace(" a a",
                                                 " an a").replace(" a e", " an e").replace(" a o", " an o") for m,
                                                 x in zip(names, things))
    turns = []
    for i in r.sample(range(n), r.randint(1, 2)):
        ask = (ask_name if r.random() < 0.55 else ask_thing).format(n=names[i], x=things[i])
        answer = has.format(n=names[i], x=things[i]).replace(" a a",
                                                             " an a").replace(" a e", " an e").replace(" a o", " an o")
        turns.append(Exchange(lay(r, text, ask) if not turns else ask, answer, (f"people:{text}",)))
    return turns


TASKS = [(short_text, 4), (long_text, 1.5), (edge, 1.2), (tale, 1.5), (people, 2.5)]
