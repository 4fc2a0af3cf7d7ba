"""Plain documents: what `lmx` is, how it is used and how it is built, as connected text."""

from random import Random

from . import about

PAGES = [
    "# lmx\n\nlmx serves open-weight language models on one's own machine. It is written in Rust and built from actors. Its HTTP API is compatible with OpenAI's. "
    "Models are read from safetensors files, also when they are quantised with MLX.\n\n## Start\n\n```\nlmx serve --model MODEL\n```\n\nThe default address is 127.0.0.1:1234. "
    "Without a model, lmx serves the built-in one, which needs no download.",
    "# Commands\n\n- `lmx serve` serves one or more models.\n- `lmx chat` starts a chat in the terminal.\n- `lmx pull` downloads a model.\n- `lmx list` shows the models on disk.\n"
    "- `lmx inspect` shows one model.\n- `lmx bench` measures speed.\n- `lmx compat` checks which models work.\n- `lmx tune` finds good settings.\n- `lmx quantize` makes a model smaller.\n"
    "- `lmx parity` writes numbers for checks.\n- `lmx service` installs the service.\n- `lmx config` checks and shows the settings.",
    "# Actors\n\nEach part of lmx that owns memory is an actor with one mailbox. The scheduler decides which requests run. The engine runs the model and owns the keys and values. "
    "The KV cache actor counts the blocks. The draft actor guesses tokens that the engine checks. The telemetry actor counts what happens. Actors only talk by messages, and every mailbox has a bound.",
    "# Requests\n\nA request comes in over HTTP. Its messages are put into a chat template and cut into tokens. The scheduler admits it when there are blocks for it. "
    "In prefill the model reads the prompt in chunks. In decode it writes one token per step. Each piece of text is sent to the client as a server-sent event. "
    "When the client goes away, its sequence is cancelled.",
    "# Memory\n\nThe KV cache holds keys and values in blocks of tokens. A prefix index remembers full blocks, so that a prompt with the same beginning is not computed again. "
    "Weights are quantised: they are stored with 8 or 4 bits, with a scale and a bias for each group.",
    "# The built-in model\n\nThe built-in model is very small. It has about 3 million parameters and was trained from scratch on a CPU. It can repeat text, count, do small sums, make lists, "
    "tell short stories, write simple JSON and answer questions about lmx. It knows little about the world and says so.",
]


def document(r: Random) -> str:
    """A page as it stands, or a page of questions and answers."""
    if r.random() < 0.5:
        return r.choice(PAGES)
    lines = ["# Questions and answers", ""]
    for _ in range(r.randint(3, 8)):
        made = about.how(r) if r.random() < 0.5 else about.term(r)
        lines += [f"**{made.user}** {made.answer}", ""]
    return "\n".join(lines).strip()
