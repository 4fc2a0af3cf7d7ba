"""An independent reader of the shipped folder in plain numpy: what a runtime has to compute, and nothing of the trainer's code."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer


class Shipped:
    """The shipped model, dequantised to float32."""

    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        generation = json.loads((folder / "generation_config.json").read_text())
        self.stops = set(generation["eos_token_id"])
        raw = load_file(folder / "model.safetensors")
        self.w = {}
        for name, value in raw.items():
            if name.endswith((".scales", ".biases")):
                continue
            path = name.removesuffix(".weight")
            self.w[path] = value.astype(np.float32) if f"{path}.scales" not in raw else self.dequantise(
                value, raw[f"{path}.scales"], raw[f"{path}.biases"])

    def dequantise(self, words, scales, biases):
        """code * scale + bias; the codes are the bytes of the little-endian words, a group shares scale and bias."""
        group = self.config["quantization"]["group_size"]
        assert self.config["quantization"]["bits"] == 8
        codes = words.astype("<u4").view(np.uint8).astype(np.float32)
        spread = lambda x: np.repeat(x.astype(np.float32), group, axis=1)
        return codes * spread(scales) + spread(biases)

    def norm(self, x, path):
        return self.w[path] * x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"])

    def rotate(self, x, start):
        """Half-split rotary on `[heads, tokens, head_dim]`."""
        size = x.shape[-1]
        frequency = self.config["rope_theta"] ** (-np.arange(0, size, 2) / size)
        angle = np.outer(np.arange(start, start + x.shape[1]), frequency)
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        low, high = x[..., : size // 2], x[..., size // 2:]
        return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)

    def forward(self, tokens, cache):
        """Logits of the last of `tokens`; `cache` holds each layer's keys and values and grows."""
        c = self.config
        heads, kv_heads, size = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        x = self.w["model.embed_tokens"][np.asarray(tokens)]
        for i in range(c["num_hidden_layers"]):
            at = f"model.layers.{i}."
            h = self.norm(x, at + "input_layernorm")
            split = lambda y, n: y.reshape(len(tokens), n, size).transpose(1, 0, 2)
            q = self.norm(split(h @ self.w[at + "self_attn.q_proj"].T, heads), at + "self_attn.q_norm")
            k = self.norm(split(h @ self.w[at + "self_attn.k_proj"].T, kv_heads), at + "self_attn.k_norm")
            v = split(h @ self.w[at + "self_attn.v_proj"].T, kv_heads)
            before = cache[i][0].shape[1] if i in cache else 0
            q, k = self.rotate(q, before), self.rotate(k, before)
            if i in cache:
                k, v = np.concatenate([cache[i][0], k], 1), np.concatenate([cache[i][1], v], 1)
            cache[i] = (k, v)
            group = heads // kv_heads
            score = q @ np.repeat(k, group, 0).transpose(0, 2, 1) * size ** -0.5
            future = np.arange(k.shape[1])[None, :] > before + np.arange(len(tokens))[:, None]
            score = np.where(future, -np.inf, score)
            score = np.exp(score - score.max(-1, keepdims=True))
            score /= score.sum(-1, keepdims=True)
            out = (score @ np.repeat(v, group, 0)).transpose(1, 0, 2).reshape(len(tokens), heads * size)
            x = x + out @ self.w[at + "self_attn.o_proj"].T
            h = self.norm(x, at + "post_attention_layernorm")
            gate = h @ self.w[at + "mlp.gate_proj"].T
            gate = gate / (1 + np.exp(-gate))
            x = x + (gate * (h @ self.w[at + "mlp.up_proj"].T)) @ self.w[at + "mlp.down_proj"].T
        return self.norm(x[-1], "model.norm") @ self.w["model.embed_tokens"].T

    def greedy(self, tokens, limit, stop=True):
        """The next ids, the likeliest each time, and the logits that chose the first."""
        cache, out, first = {}, [], None
        logits = self.forward(tokens, cache)
        while True:
            first = logits if first is None else first
            out.append(int(logits.argmax()))
            if len(out) == limit or (stop and out[-1] in self.stops):
                return out, first
            logits = self.forward([out[-1]], cache)

    def answer(self, text: str, limit: int = 400) -> str:
        """What the model says after the rendered conversation."""
        ids, _ = self.greedy(self.tokenizer.encode(text).ids, limit)
        return self.tokenizer.decode([i for i in ids if i not in self.stops])
