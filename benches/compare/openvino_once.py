#!/usr/bin/env python3
"""OpenVINO GenAI on the CPU, reading a GGUF: prompts and decoding, once after a warm-up, as one JSON object.

Needs openvino-genai and numpy.
"""

import argparse
import json
import random

import numpy
import openvino
import openvino_genai as genai


def lengths(text):
    return [int(part) for part in text.split(",") if part]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=lengths, default=[])
    parser.add_argument("--contexts", type=lengths, default=[])
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    pipeline = genai.LLMPipeline(arguments.model, "CPU", INFERENCE_NUM_THREADS=arguments.threads)
    chosen = random.Random(0)

    def generate(prompt_tokens, tokens):
        ids = numpy.array([[chosen.randrange(300, 30000) for _ in range(prompt_tokens)]], dtype="int64")
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        config.apply_chat_template = False
        return pipeline.generate(inputs, config).perf_metrics

    generate(16, 4)
    figures = {}
    for n in arguments.prompts:
        generate(n, 2)
        figures[f"prefill.{n}"] = n * 1e3 / generate(n, 2).get_ttft().mean
    for n in arguments.contexts:
        figures[f"decode.{n}"] = 1e3 / generate(n, arguments.tokens).get_tpot().mean
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
