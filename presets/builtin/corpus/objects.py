"""JSON on request: objects with given keys and values, arrays of given or known things, and reading values back."""

import json
from random import Random

from .chat import Exchange, fill, join
from .echo import invented
from .words import ALL_WORDS, ANIMALS, CAPITALS, CITIES, COLOURS, FRUITS, JOBS, KINDS, NAMES, NUMBER_WORDS, OBJECTS

FIELDS = {
    "name": NAMES, "age": range(1, 99), "city": CITIES, "colour": COLOURS, "color": COLOURS, "fruit": FRUITS,
    "animal": ANIMALS, "pet": ANIMALS,
    "count": range(0, 50), "id": range(1, 1000), "price": range(1, 100), "country": list(CAPITALS), "job": JOBS,
    "item": OBJECTS, "title": OBJECTS,
    "active": [True, False], "ok": [True, False], "open": [True, False],
    "status": ["ok", "ready", "done", "failed", "open", "closed"], "word": ALL_WORDS,
    "number": range(0, 100), "year": range(1990, 2031), "size": ["small", "large", "medium"], "x": range(0, 20),
    "y": range(0, 20),
    "answer": ["yes", "no"], "code": range(1000, 9999), "quantity": range(1, 30), "value": range(0, 100), "user": NAMES,
    "result": range(0, 100),
    "key": ALL_WORDS, "text": ALL_WORDS, "type": ALL_WORDS, "model": ALL_WORDS, "first": ALL_WORDS, "second": ALL_WORDS,
    "food": FRUITS,
    "friend": NAMES, "score": range(0, 100), "level": range(1, 10), "day": ["Monday", "Friday", "Sunday", "Tuesday"],
    "port": range(1000, 9999),
}


def value(r: Random, key: str):
    return r.choice(FIELDS[key]) if key in FIELDS else r.choice([r.choice(ALL_WORDS), r.randint(0, 99)])


def shown(x) -> str:
    return json.dumps(x) if isinstance(x, bool) else str(x)


def given(r: Random) -> Exchange:
    """An object whose keys and values stand in the request."""
    keys = r.sample(list(FIELDS), r.choices([1, 2, 3, 4], [3, 5, 3, 1])[0])
    if r.random() < 0.15:
        keys[0] = r.choice([invented(r), r.choice(ALL_WORDS)])
    keys = list(dict.fromkeys(keys))
    data = {key: value(r, key) for key in keys}
    pairs = list(data.items())
    style = r.randrange(7)
    if style == 0:
        body = join(f"{k} {shown(v)}" for k, v in pairs)
    elif style == 1:
        body = join(f"{k} = {shown(v)}" for k, v in pairs)
    elif style == 2:
        body = ", ".join(f"{k}: {shown(v)}" for k, v in pairs)
    elif style == 3:
        body = join(f"\"{k}\" set to {json.dumps(v)}" for k, v in pairs)
    elif style == 4:
        body = join(f"the key {k} and the value {shown(v)}" for k, v in pairs)
    elif style == 5:
        body = ", ".join(f"{k}={shown(v)}" for k, v in pairs)
    else:
        body = join(f"{k} is {shown(v)}" for k, v in pairs)
    ask = fill(r, ["Write a JSON object with {b}.", "Give me JSON with {b}.", "Make a JSON object with {b}.",
                   "Return a JSON object: {b}",
                   "Answer in JSON: {b}.", "Reply with a JSON object with {b}.", "As JSON: {b}",
                   "Create JSON with {b}.",
                   "Write {b} as JSON.", "Convert to JSON: {b}", "Turn this into JSON: {b}.",
                   "Put this in a JSON object: {b}.",
                   "Please return JSON with {b}.", "Output only JSON: {b}", "Give me a JSON object with {b}.",
                   "Reply only with a JSON object: {b}.", "JSON please: {b}"], b=body)
    return Exchange(ask, json.dumps(data), ("json:" + json.dumps(data, sort_keys=True),))


def described(r: Random) -> Exchange:
    """A sentence about somebody, to be put into named keys."""
    name, age, city = r.choice(NAMES), r.randint(5, 90), r.choice(CITIES)
    animal, colour, job = r.choice(ANIMALS), r.choice(COLOURS), r.choice(JOBS)
    kind = r.randrange(4)
    if kind == 0:
        text = fill(r, ["{n} is {a} years old and lives in {c}.", "{n} is {a} and lives in {c}.",
                        "{n} from {c} is {a} years old."], n=name, a=age, c=city)
        data = {"name": name, "age": age, "city": city}
    elif kind == 1:
        text = fill(r, ["{n} is {a} years old.", "{n} is {a}.", "My friend {n} is {a} years old."], n=name, a=age)
        data = {"name": name, "age": age}
    elif kind == 2:
        text = fill(r, ["{n} has a {k} {x}.", "{n} owns a {k} {x}."], n=name, k=colour, x=animal)
        data = {"name": name, "pet": animal, "colour": colour}
    else:
        text = fill(r, ["{n} is a {j} in {c}.", "{n} works as a {j} in {c}."], n=name, j=job, c=city)
        data = {"name": name, "job": job, "city": city}
    keys = join(data)
    ask = fill(r, ["{t} Write this as JSON with the keys {k}.", "Extract {k} as JSON: {t}",
                   "{t} Give me a JSON object with {k}.",
                   "Read this and answer in JSON with the keys {k}: {t}", "Turn this sentence into JSON with {k}: {t}",
                   "{t} Put {k} into a JSON object."], t=text, k=keys)
    return Exchange(ask, json.dumps(data), ("json:" + json.dumps(data, sort_keys=True),))


def array(r: Random) -> Exchange:
    if r.random() < 0.5:
        kind = r.choice(["animals", "fruits", "colours", "tools", "cities", "names", "drinks", "trees", "jobs",
                         "months", "countries", "vegetables"])
        n = r.randint(2, 5)
        items = r.sample(KINDS[kind][1], n)
        ask = fill(r, ["Give me a JSON array of {n} {k}.", "List {n} {k} as a JSON array.",
                       "Write {n} {k} as a JSON list.", "Return {n} {k} as JSON.",
                       "A JSON array with {n} {k}, please.", "Name {n} {k} as a JSON array.",
                       "Output {n} {k} as a JSON array."],
                   n=NUMBER_WORDS[n] if r.random() < 0.5 else n, k=kind)
        return Exchange(ask, json.dumps(items), (f"array:{kind}*{n}",))
    if r.random() < 0.4:
        x = r.randint(0, 12)
        items = list(range(x, x + r.randint(2, 7)))
        ask = fill(r, ["Write the numbers from {x} to {y} as a JSON array.",
                       "Give me a JSON array with the numbers {x} to {y}.",
                       "A JSON list of the numbers from {x} to {y}."], x=x, y=items[-1])
        return Exchange(ask, json.dumps(items), (f"array:{items}",))
    items = [r.choice(r.choice([ALL_WORDS, FRUITS, COLOURS, NAMES])) for _ in range(r.randint(2, 5))]
    ask = fill(r, ["Write {w} as a JSON array.", "Make a JSON array of {w}.", "Put these words into a JSON array: {w}.",
                   "Turn this list into JSON: {w}.",
                   "As a JSON array: {w}", "Convert this list to a JSON array: {w}"],
                   w=r.choice([", ".join(items), join(items)]))
    return Exchange(ask, json.dumps(items), (f"array:{items}",))


def nested(r: Random) -> Exchange:
    """One key that holds a list, or the answer to a small question inside an object."""
    if r.random() < 0.5:
        kind = r.choice(["animals", "fruits", "colours", "tools", "cities"])
        n = r.randint(2, 4)
        items = r.sample(KINDS[kind][1], n)
        ask = fill(r, ["Give me a JSON object with the key \"{k}\" and a list of {n} {k}.",
                       "Write JSON with one key \"{k}\" that holds {n} {k}.",
                       "Return a JSON object {{\"{k}\": [...]}} with {n} {k}."], k=kind,
                       n=NUMBER_WORDS[n] if r.random() < 0.5 else n)
        return Exchange(ask, json.dumps({kind: items}), (f"nested:{kind}*{n}",))
    if r.random() < 0.5:
        x, y = r.randint(0, 20), r.randint(0, 20)
        key = r.choice(["answer", "answer", "result", "sum"])
        ask = fill(r, ["What is {x} + {y}? Answer in JSON with the key {k}.",
                       "Add {x} and {y} and give me JSON with the key \"{k}\".",
                       "Reply in JSON with the key {k}: what is {x} plus {y}?",
                       "What is {x} + {y}? Reply as {{\"{k}\": ...}}."], x=x, y=y, k=key)
        return Exchange(ask, json.dumps({key: x + y}), (f"sum:{min(x, y)}+{max(x, y)}",))
    country, city = r.choice(list(CAPITALS.items()))
    ask = fill(r, ["Give me the capital of {c} as JSON with the keys country and capital.",
                   "Answer in JSON with country and capital: what is the capital of {c}?",
                   "Write a JSON object with the country {c} and its capital."], c=country)
    return Exchange(ask, json.dumps({"country": country, "capital": city}), (f"json-capital:{country}",))


def lookup(r: Random) -> Exchange:
    """The value of one key of an object that is given."""
    keys = r.sample(list(FIELDS), r.randint(2, 4))
    data = {key: value(r, key) for key in keys}
    key = r.choice(keys)
    ask = fill(r, ["What is the value of {k} in {d}?", "Here is some JSON: {d} What is the {k}?",
                   "{d}\nWhat is \"{k}\"?", "In the object {d}, what is {k}?",
                   "Read the {k} from {d}.", "Which value has the key {k}? {d}"], k=key, d=json.dumps(data))
    return Exchange(ask, shown(data[key]), ("lookup:" + json.dumps(data, sort_keys=True),))


TASKS = [(given, 5), (described, 2.5), (array, 2.5), (nested, 1), (lookup, 1.5)]
