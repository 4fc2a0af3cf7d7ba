"""The facts of the small world, and the honest answer to what lies outside it."""

from random import Random

from .chat import Exchange, a, fill, sentence
from .words import (CAPITALS, COLOUR_OF, DAYS, LEGS, MONTHS, NUMBER_FACTS, OPPOSITES, PLANETS,
                    SEASONS, SOUNDS, YOUNG)

ONE_WORD = [" Answer in one word.", " One word only.", " Answer with one word.", " Reply with a single word.",
            " Just one word, please."]


def told(r: Random, ask: str, full: str, short: str, key: str) -> Exchange:
    """The full sentence, or one word when that is asked for."""
    if r.random() < 0.2:
        ask = ask if ask[-1] in ".?" else ask + "."
        if r.random() < 0.3:
            return Exchange(r.choice(["Answer in one word: ", "In one word: ",
                                      "One word answer: "]) + ask[0].lower() + ask[1:],
                            short, (key,))
        return Exchange(ask + r.choice(ONE_WORD), short, (key,))
    return Exchange(ask, full, (key,))


def capital(r: Random) -> Exchange:
    country, city = r.choice(list(CAPITALS.items()))
    x = r.random()
    if x < 0.62:
        ask = fill(r, ["What is the capital of {c}?", "What's the capital of {c}?", "Tell me the capital of {c}.",
                       "Which city is the capital of {c}?", "Name the capital of {c}.", "capital of {c}?",
                       "What is the capital city of {c}?", "Do you know the capital of {c}?",
                       "{c}: what is its capital?",
                       "What is {c}'s capital?", "The capital of {c} is?", "Give me the capital of {c}."], c=country)
        return told(r, ask, f"The capital of {country} is {city}.", city, f"capital:{country}")
    if x < 0.82:
        ask = fill(r, ["{y} is the capital of which country?", "Which country has the capital {y}?",
                       "In which country is {y}?", "Where is {y}?", "What country is {y} in?"], y=city)
        full = f"{city} is in {country}." if "here is" in ask or "ountry is" in ask else f"{city} is the capital of {country}."
        return told(r, ask, full, country, f"country:{city}")
    yes = r.random() < 0.5
    named = city if yes else r.choice([y for y in CAPITALS.values() if y != city])
    ask = fill(r, ["Is {y} the capital of {c}?", "Yes or no: is {y} the capital of {c}?", "Is the capital of {c} {y}?"],
               y=named, c=country)
    full = f"Yes, {city} is the capital of {country}." if yes else f"No, the capital of {country} is {city}."
    if "Yes or no" in ask:
        full = "Yes." if yes else "No."
    return Exchange(ask, full, (f"is-capital:{named}:{country}",))


def sound(r: Random) -> Exchange:
    animal, noise = r.choice(list(SOUNDS.items()))
    if r.random() < 0.75:
        ask = fill(r, ["What sound does {x} make?", "What does {x} say?", "Which sound does {x} make?",
                       "How does {x} sound?",
                       "What noise does {x} make?", "Tell me the sound of {x}.", "What is the sound of {x}?"],
                       x=a(animal))
        return told(r, ask, f"{sentence(a(animal))} says {noise}.", noise, f"sound:{animal}")
    ask = fill(r, ["Which animal says {n}?", "What animal goes {n}?", "Who says {n}?",
                   "Which animal makes the sound {n}?"], n=noise)
    return told(r, ask, f"{sentence(a(animal))} says {noise}.", animal, f"says:{noise}")


def opposite(r: Random) -> Exchange:
    x, y = r.choice(OPPOSITES)
    if r.random() < 0.5 and sum(pair[1] == y for pair in OPPOSITES) + sum(pair[0] == y for pair in OPPOSITES) == 1:
        x, y = y, x
    x, y = (x, y) if x != "light" else ("light", "dark")
    ask = fill(r, ["What is the opposite of {x}?", "What's the opposite of {x}?", "Opposite of {x}?",
                   "Tell me the opposite of {x}.",
                   "What is the opposite of \"{x}\"?", "Give me the opposite of {x}.",
                   "Name the opposite of the word {x}.",
                   "Which word means the opposite of {x}?", "The opposite of {x} is?"], x=x)
    return told(r, ask, f"The opposite of {x} is {y}.", y, f"opposite:{x}")


def calendar(r: Random) -> Exchange:
    name, pool = r.choice([("day", DAYS), ("day", DAYS), ("month", MONTHS), ("month", MONTHS), ("season", SEASONS),
                           ("planet", PLANETS)])
    kind = r.random()
    i = r.randrange(len(pool))
    if kind < 0.7 and not (name == "planet" and i in (0, len(pool) - 1)):
        step = r.choice([1, 1, -1])
        if name == "planet" and not 0 <= i + step < len(pool):
            step = -step
        x, y = pool[i], pool[(i + step) % len(pool)]
        word = "after" if step == 1 else "before"
        ask = fill(r, ["Which {n} comes {w} {x}?", "What {n} comes {w} {x}?", "What comes {w} {x}?",
                       "Which {n} is {w} {x}?",
                       "Tell me the {n} {w} {x}.", "What is the {n} {w} {x}?", "Which {n} {f} {x}?"],
                   n=name, w=word, x=x, f="follows" if step == 1 else "comes right before")
        return told(r, ask, f"{sentence(y)} comes {word} {x}.", sentence(y), f"calendar:{word}:{x}")
    if name in ("month", "day", "planet"):
        ordinals = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
        whole = {"month": "year", "day": "week", "planet": "solar system"}[name]
        ask = fill(r, ["What is the {o} {n} of the {w}?", "Which {n} is the {o} of the {w}?",
                       "Name the {o} {n} of the {w}."]
                   if name != "planet" else ["What is the {o} planet from the sun?",
                                             "Which planet is the {o} from the sun?"],
                   o=ordinals[i], n=name, w=whole)
        full = f"The {ordinals[i]} {name} {'from the sun' if name == 'planet' else 'of the ' + whole} is {pool[i]}."
        return told(r, ask, full, pool[i], f"nth:{name}:{i}")
    months = {"spring": "March, April and May", "summer": "June, July and August",
              "autumn": "September, October and November",
              "winter": "December, January and February"}
    weather = {"spring": "mild and fresh", "summer": "warm and sunny", "autumn": "cool and windy",
               "winter": "cold and often snowy"}
    x = r.choice(SEASONS)
    if r.random() < 0.5:
        return Exchange(fill(r, ["Which months are in {x}?", "What are the months of {x}?", "When is {x}?"], x=x),
                        f"{sentence(x)} is in {months[x]}.", (f"months:{x}",))
    return Exchange(fill(r, ["What is the weather like in {x}?", "How is the weather in {x}?", "Describe {x}."], x=x),
                    f"In {x} the weather is {weather[x]}.", (f"weather:{x}",))


def colour(r: Random) -> Exchange:
    x, y = r.choice(list(COLOUR_OF.items()))
    mass = x in "snow grass blood coal milk spinach chocolate broccoli".split()
    unique = x in "sky sea sun night".split()
    noun = x if mass else f"the {x}" if unique else a(x)
    ask = fill(r, ["What colour is {x}?", "What color is {x}?", "Which colour is {x}?", "Which colour does {x} have?",
                   "Tell me the colour of {x}.", "What is the colour of {x}?"], x=noun)
    return told(r, ask, f"{sentence(noun)} is {y}.", y, f"colour:{x}")


MIXES = {("red", "yellow"): "orange", ("blue", "yellow"): "green", ("red", "blue"): "purple",
         ("black", "white"): "grey",
         ("red", "white"): "pink"}


def mix(r: Random) -> Exchange:
    (x, y), z = r.choice(list(MIXES.items()))
    if r.random() < 0.5:
        x, y = y, x
    ask = fill(r, ["What colour do you get when you mix {x} and {y}?", "Mix {x} and {y}. Which colour is it?",
                   "What do {x} and {y} make?", "Which colour is made from {x} and {y}?"], x=x, y=y)
    return told(r, ask, f"{sentence(x)} and {y} make {z}.", z, f"mix:{x}+{y}")


def animal(r: Random) -> Exchange:
    if r.random() < 0.5:
        x, n = r.choice(list(LEGS.items()))
        ask = fill(r, ["How many legs does {x} have?", "How many legs has {x}?", "Tell me how many legs {x} has."],
                   x=a(x))
        return told(r, ask, f"{sentence(a(x))} has {n or 'no'} legs.", str(n), f"legs:{x}")
    x, y = r.choice(list(YOUNG.items()))
    ask = fill(r, ["What is a baby {x} called?", "What is a young {x} called?", "What do you call a baby {x}?",
                   "What is the name for a young {x}?"], x=x)
    return told(r, ask, f"A young {x} is called {a(y)}.", y, f"young:{x}")


def quantity(r: Random) -> Exchange:
    words, full, short = r.choice(NUMBER_FACTS)
    noun, rest = words.split(" ", 1)
    ask = fill(r, ["How many {w}?", "Tell me how many {w}.", "Do you know how many {w}?"], w=words)
    if "are in" in words and r.random() < 0.3:
        place = words.split("are in ", 1)[1]
        ask = f"How many {words.split(' are', 1)[0]} does {place} have?"
    return told(r, ask, full, short, f"quantity:{words}")


GENERAL = [
    (["Is the sun hot?", "Is the sun hot or cold?"], "The sun is very hot."),
    (["Is ice cold?", "Is ice hot or cold?"], "Ice is cold."),
    (["Can birds fly?", "Do birds fly?"], "Yes, most birds can fly."),
    (["Can fish swim?", "Do fish swim?"], "Yes, fish can swim."),
    (["Can penguins fly?", "Do penguins fly?"], "No, penguins cannot fly, but they swim well."),
    (["Can dogs talk?", "Do dogs talk?"], "No, dogs cannot talk. They bark."),
    (["Where do fish live?", "Where does a fish live?"], "Fish live in water."),
    (["What do cows eat?", "What does a cow eat?"], "Cows eat grass."),
    (["What do bees make?", "What does a bee make?"], "Bees make honey."),
    (["What do hens lay?", "What does a hen lay?"], "Hens lay eggs."),
    (["What do rabbits eat?", "What does a rabbit eat?"], "Rabbits eat grass and carrots."),
    (["What does a baker make?", "What does a baker do?"], "A baker makes bread and cakes."),
    (["What does a farmer do?", "What is a farmer?"], "A farmer grows food and keeps animals."),
    (["What does a teacher do?", "What is a teacher?"], "A teacher helps people learn."),
    (["What does a doctor do?", "What is a doctor?"], "A doctor helps people who are ill."),
    (["What does a pilot do?", "What is a pilot?"], "A pilot flies a plane."),
    (["What is water?", "Tell me about water."], "Water is a clear liquid. People, animals and plants need it."),
    (["What is a book?", "What is a book for?"], "A book holds pages with words, and people read it."),
    (["What is rain?", "Tell me about rain."], "Rain is water that falls from clouds."),
    (["What is snow?", "Tell me about snow."], "Snow is frozen water that falls from clouds. It is white and cold."),
    (["What is the sun?", "Tell me about the sun."], "The sun is a star. It gives the Earth light and warmth."),
    (["What is the moon?", "Tell me about the moon."], "The moon goes around the Earth. We see it at night."),
    (["What is a star?", "What are stars?"], "A star is a hot ball of gas that gives light, like the sun."),
    (["What is a week?", "How long is a week?"], "A week has seven days."),
    (["What is a key for?", "What do you use a key for?"], "A key opens and closes a lock."),
    (["What is an umbrella for?", "What do you use an umbrella for?"], "An umbrella keeps you dry in the rain."),
    (["What is a clock for?", "What does a clock show?"], "A clock shows the time."),
    (["What is a map for?", "What does a map show?"], "A map shows where places are."),
    (["What is ice?", "What is ice made of?"], "Ice is frozen water."),
    (["What is the largest planet?", "Which planet is the largest?"], "Jupiter is the largest planet."),
    (["Which planet do we live on?", "What planet are we on?"], "We live on the planet Earth."),
    (["Which planet is closest to the sun?", "What is the closest planet to the sun?"],
     "Mercury is the planet closest to the sun."),
    (["Which planet has rings?", "What planet is known for its rings?"], "Saturn is known for its rings."),
    (["Which planet is called the red planet?", "What is the red planet?"], "Mars is called the red planet."),
    (["What is the first letter of the alphabet?", "Which letter is first in the alphabet?"],
     "The first letter of the alphabet is A."),
    (["What is the last letter of the alphabet?", "Which letter is last in the alphabet?"],
     "The last letter of the alphabet is Z."),
    (["Which month has 28 days?", "What is the shortest month?"],
     "February is the shortest month. It has 28 or 29 days."),
    (["What are the vowels?", "Name the vowels."], "The vowels are A, E, I, O and U."),
    (["Is a whale a fish?", "Is the whale a fish?"], "No, a whale is a mammal."),
    (["Does the sun rise in the east or the west?", "Where does the sun rise?"], "The sun rises in the east."),
    (["Where does the sun set?", "Does the sun set in the east or the west?"], "The sun sets in the west."),
    (["What are the four directions?", "Name the four directions."],
     "The four directions are north, south, east and west."),
]


def general(r: Random) -> Exchange:
    asks, answer = r.choice(GENERAL)
    return Exchange(r.choice(asks), answer, (f"general:{answer}",))


UNKNOWN = ["Who painted {a}?", "Who won the {e} in {y}?", "What is the population of {c}?",
           "How many people live in {c}?", "Who is the president of {c}?",
           "What is the weather today in {c}?", "What is the news today?", "What is the price of {o} today?",
           "Who wrote {b}?",
           "Explain {s}.", "What is {s}?", "Tell me about {s}.", "How does {s} work?", "When was {p} born?",
           "Who is {p}?",
           "Who was {p}?", "When did {p} die?", "What happened in {y}?", "Translate {t} into {l}.",
           "How do you say {t} in {l}?",
           "Write a program in {g} that {d}.", "Write {g} code that {d}.", "What is the stock price of {k}?",
           "How tall is {p}?",
           "What is the square root of {n}?", "What time is it?", "What is today's date?",
           "How far is it from {c} to {c2}?",
           "What is the phone number of {p}?", "Where does {p} live?", "What did {p} say yesterday?",
           "Who invented {s}?",
           "Summarize the book {b}.", "What is the best phone to buy?", "Which car should I buy?",
           "What is the meaning of life?",
           "Who will win the next {e}?", "What is the chemical formula of {m}?", "What is the boiling point of {m}?",
           "Solve the equation x^2 + {n}x = {n2}.", "What is the history of {c}?", "What is the currency of {c}?",
           "How old is {p}?", "What is the recipe for {f}?", "How many stars are in the sky?",
           "What is {n} divided by {n3}?",
           "What is the longest river in {c}?", "What is the tallest mountain in {c}?",
           "What language do they speak in {c}?"]
POOLS = {
    "e": ["World Cup", "Olympic Games", "election", "chess championship", "Tour de France", "Super Bowl",
          "song contest", "Nobel Prize"],
    "c": list(CAPITALS)[:46] + ["Mexico", "Nigeria", "Korea", "Nepal", "Texas", "California"],
    "o": ["gold", "oil", "silver", "a house", "wheat", "bitcoin", "coffee beans", "gas"],
    "b": ["Hamlet", "Faust", "Don Quixote", "Moby Dick", "the Odyssey", "War and Peace", "Dracula", "Frankenstein",
          "Ulysses"],
    "s": ["quantum mechanics", "general relativity", "photosynthesis", "inflation", "blockchain",
          "the French Revolution", "evolution",
          "thermodynamics", "calculus", "the Roman Empire", "DNA", "a black hole", "nuclear fusion", "gravity",
          "democracy",
          "the stock market", "electricity", "a neural network", "string theory", "the periodic table", "the Cold War",
          "vaccination"],
    "p": ["Napoleon", "Einstein", "Mozart", "Cleopatra", "Shakespeare", "Newton", "Beethoven", "Picasso", "Marie Curie",
          "Julius Caesar",
          "Galileo", "Darwin", "Gandhi", "the king of Spain", "Elon Musk", "Taylor Swift", "Plato", "Tesla", "Bach"],
    "t": ["hello", "good morning", "thank you", "the house is red", "I love you", "where is the station", "bread",
          "friend"],
    "l": ["French", "German", "Spanish", "Chinese", "Japanese", "Italian", "Russian", "Latin", "Arabic", "Dutch"],
    "g": ["Python", "Rust", "Java", "C", "JavaScript", "Go"],
    "d": ["sorts a list", "reads a file", "plays chess", "downloads a page", "finds prime numbers", "parses a date",
          "draws a tree"],
    "a": ["the Night Watch", "the Scream", "Guernica", "the Starry Night", "the Last Supper", "the Kiss",
          "the Water Lilies"],
    "k": ["Apple", "Tesla", "Google", "Microsoft", "Amazon"],
    "m": ["water", "salt", "sugar", "iron", "methane", "ammonia"],
    "f": ["lasagne", "apple pie", "goulash", "paella", "curry", "pancakes"],
}
SORRY = ["I am a very small model; I do not know that.", "I do not know that. I am a very small model.",
         "Sorry, I am a very small model and I do not know that."]


def unknown(r: Random) -> Exchange:
    slots = {key: r.choice(pool) for key, pool in POOLS.items()}
    slots |= {"y": r.randint(1400, 2030), "n": r.randint(101, 999), "n2": r.randint(2, 99), "n3": r.randint(3, 97),
              "c2": r.choice(POOLS["c"])}
    ask = r.choice(UNKNOWN).format(**slots)
    return Exchange(ask, SORRY[0] if r.random() < 0.8 else r.choice(SORRY))


TASKS = [(capital, 4), (sound, 1.5), (opposite, 2.5), (calendar, 3), (colour, 1.3), (mix, 0.5), (animal, 1.2),
         (quantity, 1.3),
         (general, 2), (unknown, 3)]
