"""Lists of things, and handling the items and letters of what is given: sort, reverse, spell, first and last."""

from random import Random

from .chat import Exchange, a, fill, join, sentence
from .echo import invented
from .words import ALL_WORDS, COLOURS, DAYS, FRUITS, ANIMALS, KINDS, MONTHS, NAMES, NUMBER_WORDS, OBJECTS, PLANETS

ASK = ["Name {n} {kind}.", "List {n} {kind}.", "Give me {n} {kind}.", "Tell me {n} {kind}.", "Write down {n} {kind}.",
       "Can you name {n} {kind}?", "Can you list {n} {kind}?", "Please name {n} {kind}.", "I need {n} {kind}.",
       "Write a list of {n} {kind}.", "Make a list of {n} {kind}.", "Give me a list of {n} {kind}.",
       "{n} {kind}, please.",
       "What are {n} {kind}?", "Think of {n} {kind}.", "Name any {n} {kind}.", "Show me {n} {kind}."]
NUMBERED = ["Make a numbered list of {n} {kind}.", "List {n} {kind} as a numbered list.",
            "Number the list: {n} {kind}.",
            "Name {n} {kind} in a numbered list.", "Give me a numbered list of {n} {kind}.",
            "Write {n} {kind}, numbered."]
BULLETS = ["Make a bulleted list of {n} {kind}.", "List {n} {kind} as bullet points.", "Name {n} {kind} as bullets.",
           "Give me {n} {kind} in a bullet list.", "Write {n} {kind} with a dash before each.",
           "Give me a bullet list of {n} {kind}."]
COMMAS = ["Name {n} {kind}, separated by commas.", "List {n} {kind} separated by commas.",
          "Give me {n} {kind} as a comma separated list."]
LINES = ["Name {n} {kind}, one per line.", "List {n} {kind}, each on its own line.",
         "Give me {n} {kind}, one on each line."]


def layout(r: Random, items, style: str) -> str:
    if style == "numbered":
        return "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1))
    if style == "bullets":
        return "\n".join(f"- {item}" for item in items)
    if style == "commas":
        return ", ".join(items)
    if style == "lines":
        return "\n".join(items)
    return sentence(join(items)) + "."


def members(r: Random) -> Exchange:
    kind = r.choice(list(KINDS))
    singular, pool = KINDS[kind]
    n = min(r.choice([1, 2, 3, 3, 3, 4, 4, 5, 5, 6, 7]), len(pool))
    items = r.sample(pool, n)
    style = r.choices(["plain", "numbered", "bullets", "commas", "lines"], [6, 1.4, 1.4, 0.6, 0.6])[0]
    if n == 1:
        ask = fill(r, ["Name {x}.", "Tell me {x}.", "Give me {x}.", "Say the name of {x}.", "Name one {s}.",
                       "Name any {s}."],
                   x=a(singular), s=singular)
        return Exchange(ask, sentence(items[0]) + ".", (f"list:{kind}*1",))
    templates = {"plain": ASK, "numbered": NUMBERED, "bullets": BULLETS, "commas": COMMAS, "lines": LINES}[style]
    ask = sentence(fill(r, templates, n=NUMBER_WORDS[n] if r.random() < 0.55 else n, kind=kind))
    return Exchange(ask, layout(r, items, style), (f"list:{kind}*{n}",))


def ordered(r: Random) -> Exchange:
    """The first or last few of something that has an order."""
    name, pool = r.choice([("days of the week", DAYS), ("months of the year", MONTHS), ("months", MONTHS),
                           ("planets", PLANETS), ("letters of the alphabet", list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
                           ("even numbers", [str(i) for i in range(2, 30, 2)]),
                           ("odd numbers", [str(i) for i in range(1, 30, 2)])])
    n = r.randint(2, min(7, len(pool)))
    word = NUMBER_WORDS[n] if r.random() < 0.6 else str(n)
    endless = "numbers" in name
    if endless or r.random() < 0.5:
        ask = fill(r, ["Name the first {n} {k}.", "List the first {n} {k}.", "What are the first {n} {k}?",
                       "Give me the first {n} {k}.", "Tell me the first {n} {k}.", "Write the first {n} {k}."], n=word,
                       k=name)
        items = pool[:n]
    elif r.random() < 0.5:
        ask = fill(r, ["Name the last {n} {k}.", "List the last {n} {k}.", "What are the last {n} {k}?",
                       "Give me the last {n} {k}."], n=word, k=name)
        items = pool[-n:]
    else:
        ask = fill(r, ["Name all the {k}.", "List the {k}.", "What are the {k}?", "Name the {k}.",
                       "List all {k} in order.",
                       "Tell me the {k}."], k=name)
        items = pool
    return Exchange(ask, ", ".join(items) + ("" if endless or len(items[0]) == 1 else "."), (f"order:{name}*{n}",))


def some_items(r: Random, low: int, high: int) -> list[str]:
    pool = r.choice([ALL_WORDS, ALL_WORDS, FRUITS, ANIMALS, COLOURS, OBJECTS, NAMES])
    return r.sample(pool, r.randint(low, high))


def shown(r: Random, items) -> str:
    return r.choice([join(items), ", ".join(items), ", ".join(items)])


def sort(r: Random) -> Exchange:
    if r.random() < 0.5:
        numbers = [str(n) for n in r.sample(range(r.choice([10, 20, 100])), r.randint(3, 5))]
        down = r.random() < 0.3
        ask = fill(r, ["Sort {w} from large to small.", "Sort these numbers from largest to smallest: {w}.",
                       "Put {w} in descending order."] if down else
                   ["Sort {w}.", "Sort these numbers: {w}.", "Put these numbers in order: {w}.",
                    "Sort the numbers {w}.",
                    "Sort {w} from small to large.", "Order these numbers from smallest to largest: {w}.",
                    "Put {w} in ascending order."], w=shown(r, numbers))
        return Exchange(ask, ", ".join(sorted(numbers, key=int, reverse=down)), (f"sort:{sorted(numbers)}",))
    words = some_items(r, 3, 4)
    ask = fill(r, ["Sort these words: {w}.", "Put these words in alphabetical order: {w}.", "Sort alphabetically: {w}.",
                   "Sort the words {w}.", "Order these words by the alphabet: {w}.", "Alphabetize: {w}.",
                   "Sort {w} alphabetically."], w=shown(r, words))
    return Exchange(ask, ", ".join(sorted(words)), (f"sort:{sorted(words)}",))


def reverse(r: Random) -> Exchange:
    items = some_items(r, 2, 5) if r.random() < 0.7 else [str(r.randint(0, 30)) for _ in range(r.randint(2, 5))]
    ask = fill(r, ["Reverse this list: {w}.", "Reverse the list {w}.", "Say these in reverse order: {w}.",
                   "Write these words backwards in order: {w}.", "Reverse the order of {w}.",
                   "Turn this list around: {w}.",
                   "Put this list in reverse order: {w}."], w=shown(r, items))
    return Exchange(ask, ", ".join(items[::-1]), (f"reverse:{items}",))


def pick(r: Random) -> Exchange:
    items = some_items(r, 3, 5)
    place, word = r.choice([(0, "first"), (1, "second"), (2, "third"), (-1, "last"), (0, "first"), (-1, "last")])
    ask = fill(r, ["What is the {p} item in this list: {w}?", "What is the {p} word: {w}?",
                   "Tell me the {p} of these: {w}.",
                   "Which is the {p} item: {w}?", "Give me the {p} item of {w}.", "From {w}, say the {p} one.",
                   "Here is a list: {w}. What is the {p} item?"], p=word, w=shown(r, items))
    return Exchange(ask, items[place] if r.random() < 0.4 else f"The {word} item is {items[place]}."
                    if "item" in ask else items[place], (f"pick:{word}:{items}",))


def how_many(r: Random) -> Exchange:
    items = some_items(r, 2, 7)
    ask = fill(r, ["How many items are in this list: {w}?", "How many words are there: {w}?", "Count the items: {w}.",
                   "How many things did I name: {w}?", "Count the words: {w}.", "How many items are there: {w}?"],
               w=", ".join(items))
    unit = "words" if "words" in ask else "items"
    return Exchange(ask, f"There are {len(items)} {unit}.", (f"howmany:{items}",))


def belongs(r: Random) -> Exchange:
    """Is a carrot a fruit? / Which of these is an animal?"""
    first, second = r.sample(["animals", "fruits", "vegetables", "colours", "tools", "clothes", "vehicles", "drinks"],
                             2)
    (one, pool), (other, others) = KINDS[first], KINDS[second]
    x = r.choice(pool)
    if r.random() < 0.55:
        yes = r.random() < 0.5
        noun = x if first in ("colours", "drinks") or x in ("spinach", "broccoli", "celery", "garlic",
                                                            "swimming") else a(x)
        named = one if yes else other
        if x in (KINDS[second][1]):
            yes, named = True, other
        ask = fill(r, ["Is {x} {k}?", "Is {x} {k}? Answer yes or no.", "Tell me, is {x} {k}?"],
                   x=noun, k=a(named))
        if "yes or no" in ask:
            return Exchange(ask, "Yes." if yes else "No.", (f"belongs:{x}:{named}",))
        return Exchange(ask, f"Yes, {noun} is {a(named)}." if yes else f"No, {noun} is {a(one)}.",
                        (f"belongs:{x}:{named}",))
    mixed = [x] + r.sample([w for w in others if w not in pool], 2)
    r.shuffle(mixed)
    ask = fill(r, ["Which of these is {k}: {w}?", "Which word is {k}: {w}?", "Find the {s}: {w}."], k=a(one), s=one,
               w=shown(r, mixed))
    return Exchange(ask, sentence(x) + ".", (f"which:{one}:{sorted(mixed)}",))


SPELL = ["Spell {x}.", "Spell the word {x}.", "Spell \"{x}\".", "How do you spell {x}?", "How is {x} spelled?",
         "Please spell the word \"{x}\".", "Spell out {x}.", "Write the letters of {x}.",
         "What are the letters of \"{x}\"?",
         "Spell \"{x}\" letter by letter.", "Say the letters of the word {x} one by one."]


def spell(r: Random) -> Exchange:
    x = r.choice(ALL_WORDS) if r.random() < 0.6 else invented(r) if r.random() < 0.7 else r.choice(NAMES)
    return Exchange(fill(r, SPELL, x=x), "-".join(x), (f"spell:{x}",))


def letter(r: Random) -> Exchange:
    x = r.choice(ALL_WORDS) if r.random() < 0.75 else invented(r)
    place, word = r.choice([(0, "first"), (-1, "last"), (0, "first"), (-1, "last"), (1, "second"), (2, "third")])
    if len(x) < 3:
        x = x + x
    ask = fill(r, ["What is the {p} letter of {x}?", "What is the {p} letter of \"{x}\"?",
                   "Give me the {p} letter of {x}.",
                   "What is the {p} letter in the word {x}?", "Which letter is {p} in \"{x}\"?",
                   "Tell me the {p} letter of {x}."]
               + (["Which letter does {x} start with?",
                   "What letter does \"{x}\" begin with?"] if word == "first" else [])
               + (["Which letter does {x} end with?", "What letter does \"{x}\" end in?"] if word == "last" else []),
               p=word, x=x)
    return Exchange(ask, x[place], (f"letter:{word}:{x}",))


def letters(r: Random) -> Exchange:
    """Counting letters goes through spelling: the answer shows its work."""
    x = r.choice(ALL_WORDS) if r.random() < 0.8 else invented(r)
    ask = fill(r, ["How many letters are in {x}?", "How many letters does {x} have?",
                   "How many letters are in the word \"{x}\"?",
                   "Count the letters of {x}.", "How long is the word {x}?", "How many letters has the word {x}?"], x=x)
    return Exchange(ask, f"{'-'.join(x)}: {len(x)} letters.", (f"letters:{x}",))


def starts_with(r: Random) -> Exchange:
    kind = r.choice(["animals", "fruits", "colours", "tools", "names"])
    one, pool = KINDS[kind]
    x = r.choice(pool)
    ask = fill(r, ["Name {k} that starts with {l}.", "Tell me {k} that begins with {l}.",
                   "Name {k} starting with {l}."],
               k=a(one), l=x[0].upper())
    return Exchange(ask, sentence(x) + ".", (f"starts:{one}:{x[0].upper()}",))


TASKS = [(members, 6), (ordered, 2), (sort, 2.5), (reverse, 2), (pick, 2), (how_many, 1), (belongs, 1.5), (spell, 3),
         (letter, 2.5), (letters, 1.5), (starts_with, 0.7)]
