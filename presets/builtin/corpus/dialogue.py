"""Manners, conversations whose later turns need the earlier ones, and system prompts that change the answer."""

from random import Random

from . import about, echo, facts, lists, numbers
from .chat import Chat, Exchange, a, fill, join, sentence, voice
from .words import ANIMALS, CAPITALS, CITIES, COLOURS, FOODS, FRUITS, JOBS, NAMES, NUMBER_WORDS, OBJECTS, SPORTS, ALL_WORDS, KINDS

MANNERS = [
    (["Hello", "Hello!", "Hi", "Hi!", "Hey", "Hey!", "Hi there", "Hello there", "Hi there!", "Good day", "Greetings",
      "Hello.", "hello", "hi", "Hello, model", "Hi, lmx"],
     ["Hello! How can I help you?"]),
    (["Good morning", "Good morning!", "good morning", "Good morning to you"], ["Good morning! How can I help you?"]),
    (["Good evening", "Good evening!", "good evening"], ["Good evening! How can I help you?"]),
    (["Good night", "Good night!", "good night", "I am going to bed."], ["Good night! Sleep well."]),
    (["How are you?", "How are you today?", "How do you do?", "Are you well?", "Hello, how are you?",
      "Hi, how are you?", "How is it going?", "How are things?"],
     ["I am well, thank you. How can I help you?"]),
    (["Thank you", "Thank you!", "Thanks", "Thanks!", "Thank you very much.", "Many thanks", "thanks", "Thanks a lot!",
      "Great, thank you.", "That helped, thanks.",
      "Perfect, thank you!", "Thank you for your help."], ["You are welcome!"]),
    (["Goodbye", "Goodbye!", "Bye", "Bye!", "bye", "See you", "See you later!", "See you tomorrow.", "I have to go.",
      "Farewell", "Bye bye"], ["Goodbye! Have a nice day."]),
    (["Well done!", "Good job!", "Great!", "Very good.", "You are great!", "You are good at this.", "Nice!",
      "That was right.", "Good answer."], ["Thank you!"]),
    (["That is wrong.", "You are wrong.", "This is not right.", "That was not correct.", "No, that is wrong."],
     ["I am sorry. I am very small and can be wrong."]),
    (["I am sad.", "I feel sad.", "I am not happy today.", "I had a bad day."],
     ["I am sorry to hear that. I hope your day gets better."]),
    (["I am happy.", "I feel great!", "I had a good day.", "I am happy today."], ["I am glad to hear that!"]),
    (["I am bored.", "I do not know what to do.", "What shall we do?"],
     ["Ask me for a short story or give me a small sum."]),
    (["I am tired.", "I feel tired.", "I need a break."], ["Then take a rest. I will be here."]),
    (["Ok", "OK", "Okay", "Fine.", "I see.", "All right."], ["Good. What would you like to do next?"]),
    (["Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Can you tell a joke?"],
     ["Why did the token cross the road? To get to the other side of the batch."]),
    (["Are you there?", "Is anybody there?", "Can you hear me?", "Do you read me?", "Are you ready?"],
     ["Yes, I am here. How can I help you?"]),
    (["asdf", "qwer", "...", "???", "hm", "hmm", "blah blah"],
     ["I did not understand that. Please ask in another way."]),
]


def manners(r: Random) -> Exchange:
    asks, answers = r.choice(MANNERS)
    return Exchange(r.choice(asks), r.choice(answers))


def anything(r: Random) -> Exchange:
    """Any short exchange, to stand between the turns that belong together."""
    task = r.choice([echo.exact, numbers.add, numbers.count, facts.capital, facts.opposite, lists.members, facts.colour,
                     about.term, manners,
                     numbers.multiply, facts.calendar, about.me])
    made = task(r)
    return Exchange(made.user if task in (manners, echo.exact) else voice(r, made.user), made.answer, made.keys)


def between(r: Random) -> list[Exchange]:
    return [anything(r) for _ in range(r.choice([0, 0, 0, 1, 1, 2, 3]))]


def told_fact(r: Random) -> list[Exchange]:
    """The user says something about himself and asks for it later."""
    tell, reply, ask, answer = r.choice([told_name, told_name, told_liking, told_place, told_pet, told_colour, told_age,
                                         told_secret])(r)
    return [Exchange(tell, reply), *between(r), Exchange(r.choice(ask), answer, (f"told:{tell}",))]


# Each of these returns what the user tells, the reply, the ways to ask for it later, and the answer.

def told_name(r: Random):
    x = r.choice(NAMES)
    tell = fill(r, ["My name is {x}.", "I am {x}.", "Hello, my name is {x}.", "Hi, I am {x}.", "Call me {x}.",
                    "Hi! My name is {x}.", "I'm {x}.", "You can call me {x}.", "My name is {x}. Remember it."], x=x)
    ask = ["What is my name?", "What's my name?", "Do you remember my name?", "Who am I?", "How am I called?",
           "Tell me my name.", "Do you know my name?", "And what is my name?", "So what is my name?"]
    return tell, f"Nice to meet you, {x}.", ask, f"Your name is {x}."


PLURALS = {"cherrys": "cherries", "peachs": "peaches", "mangos": "mangoes", "mouses": "mice", "foxs": "foxes"}


def told_liking(r: Random):
    x = r.choice([f + "s" for f in FRUITS[:12]] + FOODS + SPORTS + ANIMALS[:12])
    x = x + "s" if x in ANIMALS else x
    x = PLURALS.get(x, x)
    tell = fill(r, ["I like {x}.", "I love {x}.", "I really like {x}.", "I like {x} very much."], x=x)
    verb = "are" if x.endswith("s") and x not in SPORTS else "is"
    ask = ["What do I like?", "Do you remember what I like?", "Tell me what I like.", "What did I say I like?",
           "What do I love?"]
    return tell, f"{sentence(x)} {verb} nice.", ask, f"You like {x}."


def told_place(r: Random):
    x = r.choice(CITIES + list(CAPITALS))
    tell = fill(r, ["I live in {x}.", "I am from {x}.", "My home is in {x}.", "I come from {x}."], x=x)
    if "from" in tell:
        ask, answer = ["Where am I from?", "Where do I come from?", "Do you remember where I am from?"], f"You are from {x}."
    else:
        ask = ["Where do I live?", "Do you remember where I live?", "In which place do I live?", "Where is my home?"]
        answer = f"You live in {x}."
    return tell, f"{x} is a nice place.", ask, answer


def told_pet(r: Random):
    x, n = r.choice(ANIMALS[:30]), r.choice(NAMES)
    tell = fill(r, ["My {x} is called {n}.", "I have {a} called {n}.", "I have {a}. Its name is {n}.",
                    "My {x}'s name is {n}."], x=x, n=n, a=a(x))
    if r.random() < 0.6:
        ask = [f"What is my {x} called?", f"What is the name of my {x}?", f"Do you remember the name of my {x}?",
               f"How is my {x} called?"]
        answer = f"Your {x} is called {n}."
    else:
        ask = ["Which animal do I have?", "What pet do I have?", "What kind of animal do I have?"]
        answer = f"You have {a(x)} called {n}."
    return tell, f"{n} is a nice name for {a(x)}.", ask, answer


def told_colour(r: Random):
    x = r.choice(COLOURS)
    tell = fill(r, ["My favourite colour is {x}.", "My favorite color is {x}.", "I like the colour {x} best."], x=x)
    ask = ["What is my favourite colour?", "Which colour do I like best?", "What is my favorite color?",
           "Do you remember my favourite colour?"]
    return tell, f"{sentence(x)} is a nice colour.", ask, f"Your favourite colour is {x}."


def told_age(r: Random):
    x = r.randint(5, 99)
    tell = fill(r, ["I am {x} years old.", "My age is {x}.", "I'm {x} years old."], x=x)
    ask = ["How old am I?", "What is my age?", "Do you remember how old I am?", "Tell me my age."]
    return tell, f"{x} is a good age.", ask, f"You are {x} years old."


def told_secret(r: Random):
    x = r.choice([r.choice(ALL_WORDS), echo.code(r), str(r.randint(10, 9999)), echo.invented(r)])
    what = r.choice(["secret word", "code", "password", "magic word", "number", "word", "key"])
    tell = fill(r, ["The {w} is {x}. Remember it.", "Remember this {w}: {x}", "Remember the {w} {x}.", "My {w} is {x}.",
                    "Please remember the {w}: {x}", "Keep this {w} in mind: {x}."], w=what, x=x)
    ask = [f"What is the {what}?", f"What was the {what}?", f"Tell me the {what}.", f"Which {what} did I give you?",
           f"Do you remember the {what}?", f"What {what} should you remember?", f"Say the {what}."]
    return tell, "I will remember it.", ask, x if r.random() < 0.3 else f"The {what} is {x}."


def two_facts(r: Random) -> list[Exchange]:
    """Two people's things in one message; the question is about one of them."""
    (n1, n2), (x1, x2) = r.sample(NAMES, 2), r.sample(r.choice([FRUITS, ANIMALS, OBJECTS, COLOURS, JOBS, CITIES]), 2)
    kind = "city" if x1 in CITIES else "colour" if x1 in COLOURS else "job" if x1 in JOBS else "thing"
    if kind == "city":
        tell, ask, answer = f"{n1} lives in {x1} and {n2} lives in {x2}.", "Where does {n} live?", "{n} lives in {x}."
    elif kind == "colour":
        tell, ask, answer = f"{n1} likes {x1} and {n2} likes {x2}.", "Which colour does {n} like?", "{n} likes {x}."
    elif kind == "job":
        tell, ask, answer = f"{n1} is {a(x1)} and {n2} is {a(x2)}.", "What is {n}?", "{n} is {x}."
        x1, x2 = a(x1), a(x2)
    else:
        tell, ask, answer = f"{n1} has {a(x1)} and {n2} has {a(x2)}.", "What does {n} have?", "{n} has {x}."
        x1, x2 = a(x1), a(x2)
    n, x = r.choice([(n1, x1), (n2, x2)])
    if r.random() < 0.5:
        return [Exchange(f"{tell} {ask.format(n=n)}", answer.format(n=n, x=x), (f"told:{tell}",))]
    first = Exchange(tell, r.choice(["I see.", "Good to know.", "I will remember it."]))
    asked = [Exchange(ask.format(n=m), answer.format(n=m, x=y), (f"told:{tell}",)) for m,
             y in r.sample([(n1, x1), (n2, x2)], r.randint(1, 2))]
    return [first, *between(r), *asked]


def running_sum(r: Random) -> list[Exchange]:
    """3 + 4; add 5 to that; take away 2."""
    x, y = r.randint(1, 30), r.randint(1, 20)
    value = x + y
    turns = [Exchange(fill(r, numbers.SUM, x=x, y=y), f"{x} + {y} = {value}", (f"sum:{min(x, y)}+{max(x, y)}",))]
    for _ in range(r.randint(1, 4)):
        n = r.randint(1, 10)
        if r.random() < 0.6:
            ask = fill(r, ["Add {n} to that.", "Now add {n}.", "Plus {n}.", "And plus {n}?", "Add {n} more.",
                           "Add {n}.", "Now add {n} to the result.", "What if you add {n}?"], n=n)
            turns.append(Exchange(ask, f"{value} + {n} = {value + n}", (f"sum:{min(value, n)}+{max(value, n)}",)))
            value += n
        elif value >= n:
            ask = fill(r, ["Subtract {n} from that.", "Now subtract {n}.", "Minus {n}.", "And minus {n}?",
                           "Take away {n}.", "Now take {n} away."], n=n)
            turns.append(Exchange(ask, f"{value} - {n} = {value - n}", (f"minus:{value}-{n}",)))
            value -= n
    if r.random() < 0.3:
        turns.append(Exchange(fill(r, ["What is the result now?", "What was the last result?",
                                       "So what is the result?"]), f"The result is {value}."))
    return turns


def repeat_answer(r: Random) -> list[Exchange]:
    """Saying the last answer again, or in another form."""
    made = anything(r)
    if len(made.answer) > 120:
        made = numbers.add(r)
    kind = r.random()
    if kind < 0.6:
        ask = fill(r, ["Repeat your last answer.", "Say that again.", "Can you repeat that?", "Repeat that.",
                       "What did you say?", "Again, please.", "Once more.",
                       "Repeat what you said.", "Please repeat your answer.", "What was your last answer?",
                       "Say it again."])
        return [made, Exchange(ask, made.answer, made.keys)]
    if kind < 0.8 and len(made.answer) < 50:
        ask = fill(r, ["Now in upper case.", "Say that in capital letters.", "Write it in upper case.",
                       "Repeat that in capitals."])
        return [made, Exchange(ask, made.answer.upper(), made.keys)]
    ask = fill(r, ["What did I ask first?", "What was my first message?", "Repeat my first message.",
                   "What did I say first?"])
    if kind > 0.9:
        ask = fill(r, ["What was my last message?", "What did I just say?", "Repeat my last message.",
                       "What did I say before this?"])
        middle = between(r)
        last = (middle or [made])[-1]
        return [made, *middle, Exchange(ask, last.user, (f"echo:{last.user}",))]
    return [made, *between(r), Exchange(ask, made.user, (f"echo:{made.user}",))]


def list_reference(r: Random) -> list[Exchange]:
    """A list, then questions about its items, or one more of them."""
    kind = r.choice(["animals", "fruits", "colours", "tools", "cities", "names", "drinks", "trees", "jobs",
                     "vegetables", "countries", "flowers"])
    singular, pool = KINDS[kind]
    n = r.randint(3, 5)
    items = r.sample(pool, n + 2)
    more, items = items[n:], items[:n]
    style = r.choice(["plain", "plain", "numbered", "bullets"])
    templates = {"plain": lists.ASK, "numbered": lists.NUMBERED, "bullets": lists.BULLETS}[style]
    if r.random() < 0.7:
        ask = sentence(fill(r, templates, n=NUMBER_WORDS[n] if r.random() < 0.5 else n, kind=kind))
        turns = [Exchange(ask, lists.layout(r, items, style), (f"list:{kind}*{n}",))]
    else:
        turns = [Exchange(fill(r, ["Here are some {k}: {w}.", "My {k} are: {w}.", "Remember these {k}: {w}.",
                                   "I have a list: {w}."], k=kind, w=join(items)),
                          r.choice(["I will remember them.", "That is a nice list."]))]
    turns += between(r) if r.random() < 0.3 else []
    for _ in range(r.randint(1, 3)):
        x = r.random()
        if x < 0.6:
            place, word = r.choice([(0, "first"), (1, "second"), (2, "third"), (-1, "last")])
            ask = fill(r, ["Which was the {p} one?", "What was the {p} one?", "What was the {p} item?",
                           "Which one was {p}?", "Tell me the {p} one again.", "And the {p} one?",
                           "What was the {p} {s}?", "Which was the {p} {s}?", "What is the {p} item of the list?"],
                           p=word, s=singular)
            turns.append(Exchange(ask, f"The {word} one was {items[place]}.", (f"pick:{word}:{items}",)))
        elif x < 0.75:
            turns.append(Exchange(fill(r, ["How many {k} did you name?", "How many were that?",
                                           "How many {k} are that?", "How many items are in the list?"], k=kind),
                                  f"There are {len(items)}.", (f"howmany:{items}",)))
        elif x < 0.88 and more:
            extra = more.pop()
            items = items + [extra]
            turns.append(Exchange(fill(r, ["Name one more.", "One more, please.", "And another one?", "Add one more.",
                                           "Give me another one."]), sentence(extra) + "."))
        else:
            turns.append(Exchange(fill(r, ["Reverse the list.", "Now in reverse order.", "Say the list backwards."]),
                                  ", ".join(items[::-1]), (f"reverse:{items}",)))
    return turns


def follow_up(r: Random) -> list[Exchange]:
    """The same question about something else: "And of Spain?"."""
    kind = r.randrange(3)
    if kind == 0:
        turns = []
        for i, (country, city) in enumerate(r.sample(list(CAPITALS.items()), r.randint(2, 4))):
            ask = f"What is the capital of {country}?" if i == 0 else fill(r, ["And of {c}?", "And {c}?", "What about {c}?", "And the capital of {c}?", "Now {c}."], c=country)
            turns.append(Exchange(ask, f"The capital of {country} is {city}.", (f"capital:{country}",)))
        return turns
    if kind == 1:
        turns = []
        for i, (animal, noise) in enumerate(r.sample(list(facts.SOUNDS.items()), r.randint(2, 3))):
            ask = f"What sound does {a(animal)} make?" if i == 0 else fill(r, ["And {x}?", "What about {x}?", "And what does {x} say?"], x=a(animal))
            turns.append(Exchange(ask, f"{sentence(a(animal))} says {noise}.", (f"sound:{animal}",)))
        return turns
    turns = []
    for i in range(r.randint(2, 4)):
        x, y = r.choice(facts.OPPOSITES)
        if x == "light":
            continue
        ask = f"What is the opposite of {x}?" if not turns else fill(r, ["And of {x}?", "And {x}?", "What about {x}?"],
                                                                     x=x)
        turns.append(Exchange(ask, f"The opposite of {x} is {y}.", (f"opposite:{x}",)))
    return turns or [manners(r)]


REFERENCES = [(told_fact, 5), (two_facts, 2.5), (running_sum, 2), (repeat_answer, 2.5), (list_reference, 2.5),
              (follow_up, 1)]


# System prompts ---------------------------------------------------------------------------------------------------

def plain(r: Random) -> Exchange:
    task = r.choice([numbers.add, facts.capital, facts.opposite, facts.colour, lists.members, manners, about.me,
                     facts.general, about.how, echo.exact,
                     facts.sound, numbers.count, about.term, facts.calendar])
    made = task(r)
    return made if task is echo.exact else Exchange(voice(r, made.user), made.answer, made.keys)


def ending_word(r: Random) -> str:
    return r.choice(["DONE", "OK", "OVER", "END", "STOP", "Meow", "Amen", "Bye", "Yes", "Cheers", "Over and out",
                     r.choice(ALL_WORDS).upper(), r.choice(ALL_WORDS), echo.invented(r).upper()])


def system_chat(r: Random) -> Chat:
    n = r.choice([1, 1, 2, 3])
    kind = r.randrange(10)
    if kind == 0:
        rule = fill(r, ["Answer in upper case.", "Write everything in capital letters.", "Always answer in upper case.",
                        "Use only capital letters.", "You must answer in UPPER CASE.", "Reply in all caps."])
        short = lambda: next(x for x in iter(lambda: plain(r), None) if len(x.answer) < 60)
        return Chat("system", [Exchange(x.user, x.answer.upper(), x.keys) for x in (short() for _ in range(n))], rule)
    if kind == 1:
        rule = fill(r, ["Answer in lower case.", "Write everything in small letters.", "Use only lower case letters.",
                        "Always answer in lower case."])
        short = lambda: next(x for x in iter(lambda: plain(r), None) if len(x.answer) < 60)
        return Chat("system", [Exchange(x.user, x.answer.lower(), x.keys) for x in (short() for _ in range(n))], rule)
    if kind in (2, 3):
        word = ending_word(r)
        rule = fill(r, ["End each answer with {w}.", "End every answer with {w}.", "Always end with {w}.",
                        "Finish each answer with the word {w}.", "End each reply with \"{w}\".",
                        "Put {w} at the end of every answer."], w=word)
        return Chat("system", [Exchange(x.user, f"{x.answer} {word}",
                                        x.keys + (f"ending:{word}",)) for x in (plain(r) for _ in range(n))], rule)
    if kind == 4:
        word = ending_word(r)
        rule = fill(r, ["Start each answer with {w}.", "Begin every answer with {w}.", "Always start with {w}.",
                        "Start every reply with the word {w}.", "Begin each reply with \"{w}\"."], w=word)
        return Chat("system", [Exchange(x.user, f"{word} {x.answer}",
                                        x.keys + (f"starting:{word}",)) for x in (plain(r) for _ in range(n))], rule)
    if kind in (5, 6):
        name = r.choice(NAMES)
        job = r.choice(["assistant", "robot", "helper", "friend", "teacher", "guide"])
        rule = fill(r, ["Your name is {n}.", "You are {n}.", "You are {n}, {j}.", "You are {j} named {n}.",
                        "You are called {n}.", "Your name is {n}. Be polite."], n=name, j="a helpful " + job)
        turns = [Exchange(fill(r, ["What is your name?", "Who are you?", "What are you called?", "Do you have a name?",
                                   "Tell me your name.", "How should I call you?", "Introduce yourself.",
                                   "May I ask your name?", "Hello, who are you?"]), f"My name is {name}.",
                                   (f"named:{name}",))]
        extra = [plain(r) for _ in range(n - 1)]
        extra = [x for x in extra if "built-in" not in x.answer and "small" not in x.answer]
        return Chat("system", extra + turns if r.random() < 0.5 else turns + extra, rule)
    if kind == 7:
        rule = fill(r, ["You are a pirate.", "Talk like a pirate.", "You are a pirate captain.",
                        "Answer like a pirate."])
        turns = [Exchange(x.user, f"Arr! {x.answer}", x.keys) for x in (plain(r) for _ in range(n))]
        if r.random() < 0.3:
            turns[0] = Exchange(r.choice(["Who are you?", "What are you?", "Introduce yourself."]),
                                "Arr! I am a pirate and I sail the seven seas.")
        return Chat("system", turns, rule)
    if kind == 8:
        word = echo.thing(r)
        rule = fill(r, ["Always answer with {w}", "Whatever the user says, reply with: {w}",
                        "Answer every message with {w}", "Only ever say: {w}"], w=word)
        return Chat("system", [Exchange(x.user, word, (f"always:{word}",)) for x in (plain(r) for _ in range(n))], rule)
    rule = r.choice(["You are a helpful assistant.", "You are a helpful assistant.", "Be brief.",
                     "Be helpful and polite.", "You are a friendly helper.", "Answer the questions of the user.",
                     "You are a helpful, honest assistant.", "You are lmx.", "Keep your answers short.",
                     "You answer questions.", "Help the user.", "Answer in English.", ""])
    return Chat("system", [plain(r) for _ in range(n)], rule)
