#!/usr/bin/env python3
"""What each engine's arithmetic adds to the logits: against float32 over the very weights that it runs.

    PEERS_DIR=~/.cache/peers ~/.cache/peers/venv/bin/python benches/compare/errors.py --lmx target/release/lmx --models qwen3-0.6b

Ours: each mode against mode `f32`, on NAME-mlx4 and NAME-mlx8. llama.cpp: NAME-Q4_0.gguf and NAME-Q8_0.gguf with its
defaults (float16 keys and values) against the same file dequantised to float32, with float32 keys and values and no
flash attention. The error is the root mean square difference of the log probabilities of the token after a prompt, once
their mean is taken away, over the standard deviation of the reference, over all tokens of the vocabulary; the prompts
are random tokens.

PEERS_DIR is as in compare.py, with llama-quantize; needs numpy.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import numpy as np

import served

BITS = {4: "Q4_0", 8: "Q8_0"}
MODES = ["int16", "int8"]


def main():
    peers = Path(os.environ.get("PEERS_DIR", Path.home() / ".cache/peers"))
    names = lambda text: [part for part in text.split(",") if part]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmx", default="target/release/lmx")
    parser.add_argument("--models", type=names, default=["qwen3-0.6b"])
    parser.add_argument("--bits", type=lambda text: [int(part) for part in names(text)], default=[4, 8])
    parser.add_argument("--lengths", type=lambda text: [int(part) for part in names(text)], default=[4, 16, 32, 64, 96, 128, 160, 192])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    served.end_with_servers()
    folder = Path(os.environ.get("PEERS_MODELS", peers / "models"))
    chosen = random.Random(0)
    prompts = [[chosen.randrange(300, 30000) for _ in range(length)] for length in arguments.lengths]
    print("| model | engine | mean error | largest of a prompt | times ours int16 |\n|---|---|---|---|---|")
    for name in arguments.models:
        for bits in arguments.bits:
            errors = ours(arguments.lmx, folder / f"{name}-mlx{bits}", prompts)
            gguf = folder / f"{name}-{BITS[bits]}.gguf"
            if gguf.is_file():
                errors[f"llama.cpp {BITS[bits]}"] = llama_cpp(peers, gguf, prompts, arguments.threads)
            for engine, values in errors.items():
                times = np.mean(values) / np.mean(errors["ours int16"])
                print(f"| {name}, {bits} bits | {engine} | {np.mean(values):.2e} | {np.max(values):.2e} | {times:.1f} |", flush=True)


def ours(lmx, model, prompts):
    """`{engine: [the error of each prompt]}`."""
    exact = our_logits(lmx, model, "f32", prompts)
    return {f"ours {mode}": distances(our_logits(lmx, model, mode, prompts), exact) for mode in MODES}


def our_logits(lmx, model, mode, prompts):
    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder, "inputs.json"), Path(folder, "out.safetensors")
        inputs.write_text(json.dumps({"prompts": {f"p{i}": prompt for i, prompt in enumerate(prompts)}}))
        command = [lmx, "parity", model, "--inputs", inputs, "--out", out, "--compute", mode]
        subprocess.run([str(part) for part in command], check=True, stderr=subprocess.DEVNULL)
        logits = tensors(out)
        return [logits[f"logits.p{i}"][-1].astype(np.float64) for i in range(len(prompts))]


def tensors(path):
    """The float32 tensors of a safetensors file."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    found = {}
    for name, of in header.items():
        if name != "__metadata__" and of["dtype"] == "F32":
            first, end = of["data_offsets"]
            found[name] = np.frombuffer(data[begin + first : begin + end], dtype="<f4").reshape(of["shape"])
    return found


def llama_cpp(peers, gguf, prompts, threads):
    binaries = peers / "build-llama/bin"
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder, "f32.gguf")
        subprocess.run([binaries / "llama-quantize", "--allow-requantize", gguf, exact, "F32"], check=True, capture_output=True)
        flags = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]
        reference = their_logits(binaries, exact, prompts, threads, flags)
    return distances(their_logits(binaries, gguf, prompts, threads, ["-fa", "on"]), reference)


def their_logits(binaries, gguf, prompts, threads, flags):
    """Log probabilities, which are logits but for a constant of each prompt."""
    command = [binaries / "llama-server", "-m", gguf, "-t", threads, "-c", 1024, "-np", 1, "--no-warmup", *flags]
    with served.serving(command, "/health") as (port, _):
        return [next_token(port, prompt) for prompt in prompts]


def next_token(port, prompt):
    everything = 1 << 20
    body = dict(prompt=prompt, n_predict=1, n_probs=everything, cache_prompt=False, temperature=0, ignore_eos=False)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as response:
        listed = json.load(response)["completion_probabilities"][0]["top_logprobs"]
    values = np.full(len(listed), np.nan)
    for entry in listed:
        values[entry["id"]] = entry["logprob"]
    assert not np.isnan(values).any(), "not every token has a log probability"
    return values


def distances(values, references):
    return [distance(value, reference) for value, reference in zip(values, references)]


def distance(value, reference):
    difference = value - reference
    return float(np.sqrt(np.mean((difference - difference.mean()) ** 2)) / reference.std())


if __name__ == "__main__":
    main()
