"""Short stories from a small grammar: a hero, a thing, a place, a trouble, a help and an end."""

from random import Random

from .chat import Exchange, a, fill
from .words import ADJECTIVES, ANIMALS, COLOURS, JOBS, NAMES, OBJECTS, PLACES

HEROES = ANIMALS + JOBS + ["girl", "boy", "king", "queen", "robot", "dragon", "wizard", "giant", "princess", "knight",
                           "ghost", "cook"]
ASK = ["Tell me a {s} about {x}.", "Tell a {s} about {x}.", "Write a {s} about {x}.",
       "Can you tell me a {s} about {x}?", "Please write a {s} about {x}.",
       "I want a {s} about {x}.", "Make up a {s} about {x}.", "Give me a {s} about {x}.",
       "Could you tell a {s} about {x}?", "A {s} about {x}, please.",
       "Write me a {s} about {x}.", "Invent a {s} about {x}."]
ANY = ["Tell me a {s}.", "Write a {s}.", "Can you tell me a {s}?", "I want to hear a {s}.", "Tell me any {s}.",
       "Make up a {s}.", "A {s}, please."]
KINDS = ["story", "short story", "story", "little story", "tale", "very short story", "bedtime story", "short tale"]

OPENINGS = ["Once there was {hero} called {name} who lived {home}.",
            "Once upon a time, {hero} named {name} lived {home}.",
            "{name} was {hero} who lived {home}.", "Long ago, {hero} called {name} lived {home}.",
            "There was once {hero} named {name}, who lived {home}."]
FINDS = ["One {time}, {name} found {thing} {near}.", "One {time}, {name} saw {thing} {near}.",
         "On a {weather} {time}, {name} found {thing} {near}.",
         "One {time}, a {other} gave {name} {thing}."]
OWNS = ["{name} had {thing} and took it everywhere.", "{name} loved {bare} more than anything.",
        "Every {time}, {name} cleaned {bare} with care."]
TROUBLE = ["But the {object} was broken.", "Then a strong wind carried the {object} away.",
           "But it was dark, and {name} lost the way home.",
           "Then the {object} fell into the water.", "But nobody knew whose {object} it was.",
           "Then it began to rain, and {name} was cold and wet.",
           "But a {other} wanted the {object} too."]
HELPS = ["A {adj} {other} came by and helped {name}.", "{name} asked a {adj} {other} for help.",
         "A {adj} {other} said, \"Do not worry, I will help you.\"",
         "{name} thought for a while and had a good idea.", "{name} was {adj} and did not give up."]
FIX = ["{name} looked until the sky was {colour}.", "{name} worked all day and did not stop.",
       "Step by step, things got better.",
       "In the end the {object} was safe again.", "{name} sang a song and walked on."]
ENDS = ["{name} went home happy and slept well.", "After that, {name} was never sad again.",
        "That night, everyone {there} was happy.",
        "{name} smiled and said, \"What a good day!\"", "In the end {name} laughed and all was well."]
FRIENDS = ["From that day on, they were friends.", "And every year they met again {there}.",
           "After that, {name} was never lonely again."]
HOMES = {"forest": "in a forest", "village": "in a village", "river": "by a river", "mountain": "on a mountain",
         "lake": "by a lake",
         "garden": "in a garden", "harbour": "near a harbour", "island": "on an island", "castle": "in a castle",
         "meadow": "in a meadow",
         "market": "near a market", "valley": "in a valley", "library": "in a library", "barn": "in a barn",
         "lighthouse": "in a lighthouse",
         "bakery": "above a bakery", "school": "near a school", "bridge": "under a bridge", "hill": "on a hill",
         "beach": "by a beach",
         "town": "in a town", "farm": "on a farm", "cave": "in a cave", "tower": "in a tower", "desert": "in a desert"}


def tell(r: Random, hero: str, thing: str, place: str, name: str, sentences: int) -> str:
    adj = r.choice(ADJECTIVES)
    slots = dict(name=name, hero=a(f"{adj} {hero}"), home=HOMES[place],
                 there=HOMES[place].replace(" an ", " the ").replace(" a ", " the "),
                 near=r.choice(["near the " + place, "on the way home", "behind a tree", "in an old box"]),
                 object=thing,
                 thing=a(f"{r.choice(COLOURS)} {thing}" if r.random() < 0.5 else thing), bare=f"the {thing}",
                 time=r.choice(["morning", "evening", "day", "night"]),
                 weather=r.choice(["cold", "warm", "windy", "quiet"]),
                 other=r.choice([h for h in HEROES if h != hero]), adj=r.choice(ADJECTIVES),
                 colour=r.choice(["red", "golden", "purple"]))
    parts = [OPENINGS, FINDS if r.random() < 0.75 else OWNS, TROUBLE, HELPS, FIX, ENDS]
    keep = {3: [0, 1, 5], 4: [0, 1, 2, 5], 5: [0, 1, 2, 3, 5], 6: [0, 1, 2, 3, 4, 5]}[sentences]
    chosen = [r.choice(parts[i]) for i in keep]
    if sentences >= 5 and "{other}" in chosen[3] and r.random() < 0.5:
        chosen[-1] = r.choice(FRIENDS)
    text = " ".join(part.format(**slots) for part in chosen)
    return text.replace(" a old", " an old").replace(" a honest", " an honest").replace("a old ", "an old ")


def story(r: Random) -> Exchange:
    hero, thing, place, name = r.choice(HEROES), r.choice(OBJECTS), r.choice(PLACES), r.choice(NAMES)
    n, extra = r.randint(4, 6), ""
    kind = r.choice(KINDS)
    if r.random() < 0.15:
        n = r.choice([3, 4, 5])
        extra = r.choice([f" in {n} sentences", f" in {['three', 'four', 'five'][n - 3]} sentences"])
    x = r.random()
    key = f"story:{hero}"
    if x < 0.14:
        ask = fill(r, ANY, s=kind)
        key = ""
    elif x < 0.44:
        ask = fill(r, ASK, s=kind, x=a(hero))
    elif x < 0.72:
        ask = fill(r, ASK, s=kind, x=f"{a(hero)} and {a(thing)}")
        key = f"story:{hero}+{thing}"
    elif x < 0.84:
        ask = fill(r, ASK, s=kind, x=f"{a(hero)} {r.choice(['named', 'called'])} {name}")
        key = f"story:{hero}+{name}"
    elif x < 0.92:
        ask = fill(r, ASK, s=kind, x=f"{a(hero)} {HOMES[place]}")
        key = f"story:{hero}+{place}"
    else:
        ask = fill(r, ASK, s=kind, x=a(thing))
        key = f"story:{thing}"
    if r.random() < 0.08:
        # Three tales of one hero, for those who want more to read.
        ask = fill(r, ASK, s="long story", x=a(hero)) if r.random() < 0.6 else fill(r, ANY, s="long story")
        tales = [tell(r, hero, r.choice(OBJECTS), place, name, 6) for _ in range(3)]
        return Exchange(ask, "\n\n".join(tales), (f"story:{hero}",))
    if extra:
        ask = ask.rstrip(".?").removesuffix(", please") + extra + "."
    return Exchange(ask, tell(r, hero, thing, place, name, n), (key,) if key else ())


def poem(r: Random) -> Exchange:
    x = r.choice(ANIMALS)
    ask = fill(r, ["Write a short poem about {x}.", "Write a poem about {x}.", "Can you write a poem about {x}?",
                   "A short poem about {x}, please."], x=a(x))
    lines = [r.choice([f"A {r.choice(['little', 'quiet', 'gentle', 'brave'])} {x} went out to play",
                       f"The {x} woke up at break of day"]),
             r.choice(["on a warm and sunny day.", "and the clouds all went away."]),
             r.choice(["It saw the moon, it saw a star,", "It walked a little, not too far,"]),
             r.choice(["and wondered what the small lights are.", "and sang a song to every star."])]
    return Exchange(ask, "\n".join(lines), (f"poem:{x}",))


TASKS = [(story, 8), (poem, 1)]
