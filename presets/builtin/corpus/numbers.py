"""Counting, small sums, differences, products, comparisons and one-line word problems."""

from random import Random

from .chat import Exchange, fill, join
from .words import FRUITS, NAMES, NUMBER_WORDS, OBJECTS

COUNT = ["Count from {x} to {y}.", "Count {x} to {y}.", "Please count from {x} to {y}.",
         "List the numbers from {x} to {y}.",
         "Write the numbers from {x} to {y}.", "Say the numbers from {x} to {y}.", "Can you count from {x} to {y}?",
         "Count up from {x} to {y}.", "Count from {x} up to {y}.", "Start at {x} and count to {y}.",
         "Give me the numbers {x} to {y}.", "Print the numbers {x} through {y}.", "Numbers from {x} to {y}, please.",
         "Show me all numbers from {x} to {y}."]
DOWN = ["Count down from {x} to {y}.", "Count backwards from {x} to {y}.", "Count from {x} down to {y}.",
        "Start at {x} and count down to {y}.", "Do a countdown from {x} to {y}.", "Countdown from {x} to {y}.",
        "List the numbers from {x} down to {y}.", "Count back from {x} to {y}."]
TO = ["Count to {y}.", "Count up to {y}.", "Please count to {y}.", "Can you count to {y}?", "Count to {y} for me.",
      "Let us count to {y}.", "Count to {y}, please."]
STEPS = ["Count from {x} to {y} by {n}.", "Count from {x} to {y} in steps of {n}.", "Count by {n} from {x} to {y}.",
         "Count in {n}s from {x} to {y}.", "List every {nth} number from {x} to {y}."]
NEXT = [("What number comes after {x}?", 1), ("Which number comes right after {x}?", 1), ("What comes after {x}?", 1),
        ("What is the next number after {x}?", 1), ("What number comes before {x}?", -1),
        ("Which number is just before {x}?", -1), ("What comes before {x}?", -1)]

SUM = ["What is {x} + {y}?", "{x} + {y}", "{x} + {y} =", "{x}+{y}", "{x} + {y}?", "{x}+{y}=?", "What is {x} plus {y}?",
       "Add {x} and {y}.", "How much is {x} + {y}?", "How much is {x} plus {y}?", "Compute {x} + {y}.",
       "Calculate {x} plus {y}.", "What is the sum of {x} and {y}?", "Sum: {x} and {y}.", "Tell me {x} + {y}.",
       "What do {x} and {y} make together?", "What do you get when you add {x} and {y}?", "Work out {x} + {y}.",
       "What is {x} and {y} added together?", "Can you add {x} and {y}?"]
MINUS = ["What is {x} - {y}?", "{x} - {y}", "{x} - {y} =", "{x}-{y}", "What is {x} minus {y}?",
         "Subtract {y} from {x}.",
         "How much is {x} - {y}?", "How much is {x} minus {y}?", "Compute {x} - {y}.", "Calculate {x} minus {y}.",
         "Take {y} away from {x}.", "What is the difference between {x} and {y}?", "Tell me {x} - {y}.",
         "What is left when you take {y} from {x}?", "Work out {x} minus {y}."]
TIMES = ["What is {x} * {y}?", "{x} * {y}", "{x} x {y}", "{x} * {y} =", "What is {x} times {y}?",
         "Multiply {x} by {y}.",
         "How much is {x} times {y}?", "Compute {x} * {y}.", "Calculate {x} times {y}.", "Multiply {x} and {y}.",
         "What is the product of {x} and {y}?", "What is {x} multiplied by {y}?", "Work out {x} times {y}."]
BARE = [" Only the number.", " Just the number.", " Answer with the number only.", " Reply with only the number.",
        " Give only the result.", " Answer with a number."]


def row(x: int, y: int, step: int) -> str:
    return ", ".join(str(n) for n in range(x, y + (1 if step > 0 else -1), step))


def count(r: Random) -> Exchange:
    kind = r.random()
    if kind < 0.2:
        y = r.randint(2, 25) if r.random() < 0.85 else r.choice([30, 40, 50, 60, 80, 100])
        return Exchange(fill(r, TO, y=spelled(r, y)), row(1, y, 1), (f"count:1..{y}",))
    if kind < 0.56:
        x = r.randint(0, 90) if r.random() < 0.4 else r.randint(0, 12)
        y = x + r.randint(2, 14)
        return Exchange(fill(r, COUNT, x=spelled(r, x), y=spelled(r, y)), row(x, y, 1), (f"count:{x}..{y}",))
    if kind < 0.8:
        y = r.choice([0, 1, 1, r.randint(0, 80)])
        x = y + r.randint(3, 14)
        return Exchange(fill(r, DOWN, x=spelled(r, x), y=spelled(r, y)), row(x, y, -1), (f"count:{x}..{y}",))
    n = r.choice([2, 2, 2, 3, 5, 5, 10, 10])
    x = r.choice([0, n, 1, r.randint(0, 20)])
    y = x + n * r.randint(3, 8)
    word = r.choice([str(n), {2: "two", 3: "three", 5: "five", 10: "ten"}[n]])
    nth = {2: "second", 3: "third", 5: "fifth", 10: "tenth"}[n]
    template = r.choice(STEPS + ["Count from {x} to {y} by {word}s.", "Count by {word}s from {x} to {y}."] * 2)
    return Exchange(template.format(x=x, y=y, n=word, nth=nth, word=word), row(x, y, n), (f"count:{x}..{y}/{n}",))


def spelled(r: Random, n: int) -> str:
    return NUMBER_WORDS[n] if n <= 20 and r.random() < 0.2 else str(n)


def neighbour(r: Random) -> Exchange:
    template, step = r.choice(NEXT)
    x = r.randint(1, 99)
    return Exchange(template.format(x=x), str(x + step) if r.random() < 0.5 else f"{x + step}.", (f"next:{x}{step:+}",))


def operands(r: Random) -> tuple[int, int]:
    x = r.random()
    if x < 0.4:
        return r.randint(0, 12), r.randint(0, 12)
    if x < 0.7:
        pair = [r.randint(10, 99), r.randint(0, 10)]
        r.shuffle(pair)
        return pair[0], pair[1]
    if x < 0.97:
        first = r.randint(1, 98)
        return first, r.randint(1, 99 - first) if r.random() < 0.7 else r.randint(1, 99)
    return r.randint(1, 9) * 100, r.randint(1, 9) * 100


def result(r: Random, ask: str, shown: str, value: int, key: str) -> Exchange:
    """The worked line, or the bare number when that is asked for."""
    if r.random() < 0.22:
        ask = ask if ask[-1] in ".?=" else ask + "."
        return Exchange(ask + r.choice(BARE), str(value), (key,))
    return Exchange(ask, f"{shown} = {value}", (key,))


def add(r: Random) -> Exchange:
    x, y = operands(r)
    return result(r, fill(r, SUM, x=x, y=y), f"{x} + {y}", x + y, f"sum:{min(x, y)}+{max(x, y)}")


def subtract(r: Random) -> Exchange:
    x, y = operands(r)
    x, y = max(x, y), min(x, y)
    return result(r, fill(r, MINUS, x=x, y=y), f"{x} - {y}", x - y, f"minus:{x}-{y}")


def multiply(r: Random) -> Exchange:
    x, y = r.randint(0, 10), r.randint(0, 10)
    if r.random() < 0.1:
        x = r.choice([11, 12, 20, 100])
    return result(r, fill(r, TIMES, x=x, y=y), f"{x} * {y}", x * y, f"times:{min(x, y)}*{max(x, y)}")


LARGER = ["Which is larger, {x} or {y}?", "Which number is bigger: {x} or {y}?", "What is bigger, {x} or {y}?",
          "Which is greater: {x} or {y}?", "Is {x} or {y} larger?", "Which of {x} and {y} is larger?",
          "Tell me the larger number: {x} or {y}."]
SMALLER = ["Which is smaller, {x} or {y}?", "Which number is smaller: {x} or {y}?", "What is less, {x} or {y}?",
           "Which of {x} and {y} is smaller?", "Is {x} or {y} smaller?", "Tell me the smaller number: {x} or {y}."]
LARGEST = ["Which is the largest: {w}?", "What is the largest number of {w}?", "Find the largest number: {w}.",
           "Which number is the biggest: {w}?", "What is the maximum of {w}?"]
SMALLEST = ["Which is the smallest: {w}?", "What is the smallest number of {w}?", "Find the smallest number: {w}.",
            "What is the minimum of {w}?"]


def compare(r: Random) -> Exchange:
    kind = r.random()
    high = r.choice([12, 100, 100])
    if kind < 0.6:
        x, y = r.sample(range(high), 2)
        larger = r.random() < 0.5
        best, other = (max(x, y), min(x, y)) if larger else (min(x, y), max(x, y))
        word = "larger" if larger else "smaller"
        short = r.random() < 0.3
        ask = fill(r, LARGER if larger else SMALLER, x=x, y=y)
        return Exchange(ask + (r.choice(BARE) if short else ""),
                        str(best) if short else f"{best} is {word} than {other}.",
                        (f"compare:{word}:{min(x, y)},{max(x, y)}",))
    if kind < 0.8:
        numbers = r.sample(range(high), r.randint(3, 4))
        largest = r.random() < 0.6
        best = max(numbers) if largest else min(numbers)
        ask = fill(r, LARGEST if largest else SMALLEST, w=r.choice([join(map(str, numbers)),
                                                                    ", ".join(map(str, numbers))]))
        return Exchange(ask, f"The {'largest' if largest else 'smallest'} number is {best}.",
                        (f"extreme:{largest}:{sorted(numbers)}",))
    x, y = r.sample(range(high), 2)
    kind = r.randrange(3)
    if kind == 0:
        return Exchange(fill(r, ["Is {x} larger than {y}?", "Is {x} greater than {y}?", "Is {x} more than {y}?"], x=x,
                             y=y),
                        f"Yes, {x} is larger than {y}." if x > y else f"No, {x} is smaller than {y}.", (f"is:{x}>{y}",))
    if kind == 1:
        return Exchange(fill(r, ["Is {x} smaller than {y}?", "Is {x} less than {y}?"], x=x, y=y),
                        f"Yes, {x} is smaller than {y}." if x < y else f"No, {x} is larger than {y}.", (f"is:{x}<{y}",))
    even = r.random() < 0.5
    ask = fill(r, ["Is {x} even?", "Is {x} an even number?", "Is the number {x} even?"] if even
               else ["Is {x} odd?", "Is {x} an odd number?", "Is the number {x} odd?"], x=x)
    yes = (x % 2 == 0) == even
    return Exchange(ask, f"{'Yes' if yes else 'No'}, {x} is {'even' if x % 2 == 0 else 'odd'}.", (f"parity:{x}",))


def problem(r: Random) -> Exchange:
    """Tom has 3 apples and gets 2 more. How many apples does he have?"""
    name = r.choice(NAMES + ["I", "I", "I"])
    item = r.choice([f + "s" for f in FRUITS if f[-1] not in "yhos"] + [o + "s" for o in OBJECTS if o[-1] not in "xsh"])
    mine = name == "I"
    who, has, do = ("I", "have", "do I") if mine else (name, "has", f"does {name}")
    reply = "You have" if mine else f"{name} has"
    x, y = r.randint(1, 12), r.randint(1, 10)
    if r.random() < 0.55:
        more = fill(r, ["and {v} {y} more", "and {f} {y} more", "and {b} {y} more"], y=y, v="get" if mine else "gets",
                    f="find" if mine else "finds", b="buy" if mine else "buys")
        value, work, key = x + y, f"{x} + {y} = {x + y}", f"sum:{min(x, y)}+{max(x, y)}"
    else:
        x, y = max(x, y) + 1, min(x, y)
        more = fill(r, ["and {g} {y} away", "and {l} {y}", "and {e} {y}"], y=y, g="give" if mine else "gives",
                    l="lose" if mine else "loses", e="sell" if mine else "sells")
        value, work, key = x - y, f"{x} - {y} = {x - y}", f"minus:{x}-{y}"
    left = "now" if r.random() < 0.6 else "in total" if "more" in more else "left"
    ask = f"{who} {has} {x} {item} {more}. How many {item} {do} have{' ' + left if r.random() < 0.7 else ''}?"
    return Exchange(ask, f"{work}. {reply} {value} {item}.", (key,))


def number_word(r: Random) -> Exchange:
    n = r.randint(0, 20)
    if r.random() < 0.5:
        return Exchange(fill(r, ["Write {n} as a word.", "Write the number {n} in words.",
                                 "How do you write {n} in words?",
                                 "Spell the number {n}."], n=n), NUMBER_WORDS[n], (f"numberword:{n}",))
    return Exchange(fill(r, ["Write {w} as a number.", "Write {w} in digits.", "Which number is {w}?"],
                         w=NUMBER_WORDS[n]),
                    str(n), (f"digits:{n}",))


def double(r: Random) -> Exchange:
    n = r.randint(1, 30)
    if r.random() < 0.6:
        return Exchange(fill(r, ["Double {n}.", "What is double {n}?", "What is twice {n}?"], n=n),
                        f"2 * {n} = {2 * n}",
                        (f"double:{n}",))
    return Exchange(fill(r, ["What is half of {n}?", "Halve {n}.", "Give me half of {n}."], n=2 * n),
                    f"{2 * n} / 2 = {n}",
                    (f"half:{2 * n}",))


def three(r: Random) -> Exchange:
    x, y, z = (r.randint(1, 10) for _ in range(3))
    ask = fill(r, ["What is {x} + {y} + {z}?", "{x} + {y} + {z}", "Add {x}, {y} and {z}.",
                   "What is {x} plus {y} plus {z}?"],
               x=x, y=y, z=z)
    return Exchange(ask, f"{x} + {y} + {z} = {x + y + z}", (f"three:{x}+{y}+{z}",))


TASKS = [(count, 5), (neighbour, 1), (add, 7), (subtract, 4.5), (multiply, 3), (compare, 2.5), (problem, 2.5),
         (number_word, 0.6), (double, 0.6), (three, 0.8)]
