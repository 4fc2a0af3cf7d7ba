"""Saying exactly what is asked: codes, words, sentences, a number of times, in capitals or small letters."""

import string
from random import Random

from .chat import Exchange, fill, join, sentence
from .words import (ADJECTIVES, ALL_WORDS, ANIMALS, CITIES, COLOURS, DAYS, JOBS, NAMES, NUMBER_WORDS, OBJECTS, PLACES,
                    SYLLABLES)

EXACT = ["Reply with exactly: {x}", "Reply with exactly {x}", "Reply exactly with: {x}", "Answer with exactly: {x}",
         "Answer exactly: {x}", "Say exactly: {x}", "Say: {x}", "Repeat: {x}", "Repeat after me: {x}",
         "Repeat this: {x}", "Repeat exactly: {x}", "Write exactly: {x}", "Write: {x}", "Output exactly: {x}",
         "Output: {x}", "Print {x}", "Print: {x}", "Echo: {x}", "echo {x}", "Return exactly: {x}",
         "Respond with exactly: {x}", "Respond with: {x}", "Respond only with {x}", "Reply only with: {x}",
         "Reply with only this: {x}", "Type {x}", "Copy this exactly: {x}", "Copy: {x}", "Just say {x}",
         "Please reply with exactly: {x}", "Please repeat exactly: {x}", "Please say {x}",
         "Your whole answer must be: {x}", "Your reply must be exactly: {x}", "The only thing you should say is: {x}",
         "Say this and nothing else: {x}", "Reply with this text and nothing else: {x}", "Write back: {x}",
         "Send back exactly: {x}", "This is a test. Reply with exactly: {x}", "Health check. Reply with: {x}",
         "Repeat the following text:\n{x}", "Reply with exactly the following:\n\n{x}", "Copy the next line.\n{x}",
         "Answer with this text only: {x}", "Give me exactly this back: {x}", "Can you say {x}", "Canary: reply {x}"]
QUOTED = ["Say \"{x}\".", "Repeat \"{x}\".", "Reply with exactly \"{x}\".", "Say \"{x}\" and nothing else.",
          "Write \"{x}\".", "Please say \"{x}\".", "Answer with \"{x}\".", "Reply only with the text \"{x}\".",
          "Say '{x}'.", "Repeat '{x}'.", "Reply with '{x}' only.", "Write '{x}' without quotes.",
          "Can you say \"{x}\"?",
          "Could you repeat \"{x}\" for me?", "Print \"{x}\" please.", "Answer \"{x}\" to this message.",
          "Reply with the word \"{x}\".", "Output the string \"{x}\".", "I want you to say \"{x}\".",
          "Type \"{x}\" exactly as it is.", "Respond with exactly \"{x}\" and stop."]
TIMES = ["Say {x} {n} times.", "Repeat {x} {n} times.", "Write {x} {n} times.", "Say \"{x}\" {n} times.",
         "Write the word {x} {n} times.", "Repeat the word {x} {n} times.", "Please say the word \"{x}\" {n} times.",
         "Type {x} {n} times in a row.", "Print \"{x}\" {n} times."]
UPPER = ["Write {x} in upper case.", "Write \"{x}\" in capital letters.", "Put {x} in capitals.",
         "Convert \"{x}\" to upper case.", "Make \"{x}\" uppercase.", "Say {x} in all caps.", "Uppercase: {x}",
         "Write the word {x} in big letters.", "Turn {x} into upper case.", "What is \"{x}\" in upper case?"]
LOWER = ["Write {x} in lower case.", "Write \"{x}\" in small letters.", "Put {x} in lower case.",
         "Convert \"{x}\" to lower case.", "Make \"{x}\" lowercase.", "Lowercase: {x}", "Turn {x} into lower case.",
         "What is \"{x}\" in lower case?"]


def invented(r: Random) -> str:
    """A word that no list holds, so that copying is learnt and not the words."""
    return "".join(r.choice(SYLLABLES) for _ in range(r.randint(2, 4)))


def letters(r: Random, low: int, high: int, alphabet: str) -> str:
    return "".join(r.choice(alphabet) for _ in range(r.randint(low, high)))


def code(r: Random) -> str:
    """A marker such as CANARY_OK, ABC-123, ready-7, x9k2 or TOKEN.42."""
    upper, digits = string.ascii_uppercase, string.digits
    word = lambda: (r.choice(ALL_WORDS) if r.random() < 0.6 else invented(r))
    kind = r.randrange(12)
    if kind == 0:
        return f"{word().upper()}_{r.choice(['OK', 'READY', 'DONE', 'PASS', 'GO', 'ON', 'OFF', 'YES', 'NO', 'FAIL', 'TEST'])}"
    if kind == 1:
        return f"{letters(r, 2, 4, upper)}-{letters(r, 2, 4, digits)}"
    if kind == 2:
        return f"{word().upper()}{r.choice(['-', '_', '.', ' ', ''])}{r.randrange(100)}"
    if kind == 3:
        return letters(r, 3, 8, upper)
    if kind == 4:
        return letters(r, 3, 10, string.ascii_lowercase + digits)
    if kind == 5:
        return letters(r, 2, 9, digits)
    if kind == 6:
        return letters(r, 4, 10, upper + digits)
    if kind == 7:
        return f"{word()}{r.choice(['-', '_', '.', '/', ':'])}{word()}"
    if kind == 8:
        return f"{word().upper()}_{word().upper()}"
    if kind == 9:
        return f"{word().capitalize()}{word().capitalize()}{r.choice(['', str(r.randrange(10))])}"
    if kind == 10:
        return r.choice(["CANARY_OK", "CANARY_OK", "OK", "READY", "PONG", "pong", "PASS", "ACK", "DONE", "YES", "HELLO",
                         "test", "ok"])
    return "-".join(letters(r, 2, 4, upper + digits) for _ in range(r.randint(2, 3)))


def phrase(r: Random) -> str:
    """A few words or a short sentence."""
    word = lambda: r.choice(ALL_WORDS)
    kind = r.randrange(9)
    if kind == 0:
        return " ".join(word() for _ in range(r.randint(2, 6)))
    if kind == 1:
        return f"The {r.choice(ADJECTIVES)} {r.choice(ANIMALS)} sleeps near the {r.choice(PLACES)}."
    if kind == 2:
        return f"{r.choice(NAMES)} has {r.choice(NUMBER_WORDS[2:12])} {r.choice(COLOURS)} {r.choice(OBJECTS)}s."
    if kind == 3:
        return f"{r.choice(NAMES)} and {r.choice(NAMES)} meet in {r.choice(CITIES)} on {r.choice(DAYS)}."
    if kind == 4:
        return f"I like {r.choice(COLOURS)} {r.choice(OBJECTS)}s{r.choice(['', '!', '.'])}"
    if kind == 5:
        return f"{sentence(word())} {word()} {word()}{r.choice('.!?')}"
    if kind == 6:
        return f"the {r.choice(JOBS)} found {r.choice(['a', 'the', 'my'])} {r.choice(OBJECTS)}"
    if kind == 7:
        return f"{r.choice(['Hello', 'Good morning', 'Good night', 'Thank you', 'Welcome'])}, {r.choice(NAMES)}{r.choice('.!')}"
    return " ".join(r.choice([word, lambda: invented(r),
                              lambda: str(r.randrange(100))])() for _ in range(r.randint(2, 5)))


def thing(r: Random) -> str:
    x = r.random()
    if x < 0.2:
        return r.choice(ALL_WORDS)
    if x < 0.32:
        return invented(r)
    if x < 0.66:
        return code(r)
    return phrase(r)


def exact(r: Random) -> Exchange:
    x = thing(r)
    if r.random() < 0.7:
        return Exchange(fill(r, EXACT, x=x), x, (f"echo:{x}",))
    return Exchange(fill(r, QUOTED, x=x), x, (f"echo:{x}",))


def times(r: Random) -> Exchange:
    x = r.choice([r.choice(ALL_WORDS), invented(r), r.choice(["hello", "yes", "no", "ok", "ha", "go", "hi", "la"])])
    n = r.randint(2, 6)
    shown = r.choice([str(n), NUMBER_WORDS[n], NUMBER_WORDS[n]])
    return Exchange(fill(r, TIMES, x=x, n=shown), " ".join([x] * n), (f"times:{x}*{n}",))


def case(r: Random) -> Exchange:
    x = r.choice(ALL_WORDS) if r.random() < 0.6 else (invented(r) if r.random() < 0.5 else
                                                     " ".join(r.choice(ALL_WORDS) for _ in range(r.randint(2, 3))))
    if r.random() < 0.62:
        return Exchange(fill(r, UPPER, x=x), x.upper(), (f"upper:{x}",))
    shout = x.upper() if r.random() < 0.8 else x.title()
    return Exchange(fill(r, LOWER, x=shout), x, (f"lower:{x}",))


def between(r: Random) -> Exchange:
    """Text between marks, or the last or first of several words, must come back unchanged."""
    x, y = thing(r), thing(r)
    kind = r.randrange(4)
    if kind == 0:
        return Exchange(f"Repeat only the text in brackets: {y} [{x}]", x, (f"echo:{x}",))
    if kind == 1:
        return Exchange(f"Say {x} and then say {y}.", f"{x} {y}", (f"echo:{x}|{y}",))
    if kind == 2:
        return Exchange(f"Do not say {y}. Say {x}.", x, (f"echo:{x}",))
    words = [r.choice(ALL_WORDS) for _ in range(r.randint(2, 4))]
    ask = fill(r, ["Say these words: {w}.", "Repeat these words: {w}", "Repeat the words {w}.", "Write down: {w}."],
               w=join(words))
    return Exchange(ask, join(words), (f"echo:{join(words)}",))


TASKS = [(exact, 10), (times, 2), (case, 2.6), (between, 1)]
