#!/usr/bin/env python3
"""The official `openai` client against a real `lmx serve` with the built-in model.

    pip install -r tests/sdk/requirements.txt
    python tests/sdk/openai_client.py --lmx target/release/lmx

Starts the server on a free port of 127.0.0.1, runs every check, stops the server by a signal and looks at its exit code.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.request

import openai

CANARY = [{"role": "user", "content": "Reply with exactly: CANARY_OK"}]
STORY = [{"role": "user", "content": "Tell me a short story about a cat."}]


def metric(url, name, label=""):
    text = urllib.request.urlopen(url + "/metrics", timeout=10).read().decode()
    lines = [line for line in text.splitlines() if line.startswith(name) and label in line]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else float("nan")


def until(what, holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"did not happen in time: {what}"
        time.sleep(0.02)


def streamed(client, **arguments):
    text, finish, usage, roles = "", None, None, []
    for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **arguments):
        if chunk.usage:
            usage = chunk.usage
        for choice in chunk.choices:
            if choice.delta.role:
                roles.append(choice.delta.role)
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish, usage, roles


def check_models(client, url):
    models = client.models.list().data
    assert models[0].id == "builtin", models
    assert client.models.retrieve("builtin").id == "builtin"


def check_plain_equals_streamed(client, url):
    arguments = dict(model="builtin", messages=STORY, temperature=0, max_tokens=60)
    plain = client.chat.completions.create(**arguments)
    text, finish, usage, roles = streamed(client, **arguments)
    assert plain.choices[0].message.content == text, (plain.choices[0].message.content, text)
    assert plain.choices[0].finish_reason == finish
    assert roles == ["assistant"]
    assert usage.completion_tokens == plain.usage.completion_tokens > 0
    assert usage.prompt_tokens == plain.usage.prompt_tokens


def check_choices_and_seed(client, url):
    arguments = dict(model="builtin", messages=STORY, temperature=0.8, seed=11, n=3, max_tokens=30)
    first = [choice.message.content for choice in client.chat.completions.create(**arguments).choices]
    again = [choice.message.content for choice in client.chat.completions.create(**arguments).choices]
    assert len(first) == 3 and first == again, (first, again)


def check_logprobs(client, url):
    answer = client.chat.completions.create(
        model="builtin", messages=CANARY, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    assert content and all(len(token.top_logprobs) == 3 for token in content)
    for token in content:
        assert token.logprob <= 0 and token.top_logprobs[0].logprob >= token.logprob - 1e-6
        assert bytes(token.bytes).decode("utf-8", "replace") == token.token


def check_stop(client, url):
    whole = client.chat.completions.create(model="builtin", messages=STORY, temperature=0, max_tokens=40)
    text = whole.choices[0].message.content
    stop = text[5:8]
    cut = client.chat.completions.create(model="builtin", messages=STORY, temperature=0, max_tokens=40, stop=stop)
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def check_completions(client, url):
    answer = client.completions.create(model="builtin", prompt=["One, two,", "A cat"], max_tokens=5, temperature=0)
    assert len(answer.choices) == 2 and answer.usage.completion_tokens <= 10


def check_prefix(client, url):
    words = " ".join(str(i) for i in range(260))
    ask = lambda tail: client.chat.completions.create(
        model="builtin", messages=[{"role": "user", "content": words + tail}], max_tokens=2, temperature=0
    ).usage
    first, second = ask(" What is first?"), ask(" What is last?")
    cached = second.prompt_tokens_details.cached_tokens
    assert first.prompt_tokens > 512, first
    assert cached >= 512 and cached % 16 == 0, second


def check_errors(client, url):
    for arguments, kind, code in [
        (dict(model="nobody", messages=CANARY), openai.NotFoundError, "model_not_found"),
        (dict(model="builtin", messages=CANARY, temperature=5), openai.BadRequestError, "invalid_value"),
        (dict(model="builtin", messages=[]), openai.BadRequestError, "invalid_value"),
        (
            dict(model="builtin", messages=[{"role": "user", "content": "word " * 5000}]),
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (
            dict(model="builtin", messages=CANARY, response_format={"type": "json_object"}),
            openai.BadRequestError,
            "unsupported_parameter",
        ),
    ]:
        try:
            client.chat.completions.create(**arguments)
            raise AssertionError(f"accepted: {str(arguments)[:200]}")
        except kind as error:
            assert error.code == code, (error.code, code)


def check_leaving(client, url):
    stream = client.chat.completions.create(
        model="builtin", messages=STORY, stream=True, max_tokens=1500, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    until("it decodes", lambda: metric(url, "lmx_sequences", 'state="decode"') == 1)
    stream.close()
    until("its blocks are free", lambda: metric(url, "lmx_kv_blocks", 'state="active"') == 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default="target/release/lmx", help="the program to test")
    parser.add_argument("--only", default="", help="run only checks whose name holds this")
    arguments = parser.parse_args()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LMX_")}
    server = subprocess.Popen([arguments.lmx, "serve", "--port", str(port)], env=environment)
    passed, failed = 0, 0
    try:
        def ready():
            assert server.poll() is None, "the server ended"
            try:
                return json.load(urllib.request.urlopen(url + "/readyz", timeout=5))["status"] == "ok"
            except OSError:
                return False

        until("the server is ready", ready, 120)
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=120)
        for name, check in sorted(globals().items()):
            if not name.startswith("check_") or arguments.only not in name:
                continue
            begun = time.monotonic()
            try:
                check(client, url)
                passed += 1
                print(f"ok   {name} {time.monotonic() - begun:.1f} s", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL {name}", flush=True)
                traceback.print_exc()
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    if code != 0:
        failed += 1
        print(f"FAIL the server ended with {code}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
