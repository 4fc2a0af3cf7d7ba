"""Writes the shipped folder: the hub's layout, every matrix in MLX's affine quantisation with 8 bits and groups of 64."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer

import curve
import reference
from chatml import END_OF_TEXT, IM_END
from model import Shape
from tokenizer import write_config

BITS, GROUP = 8, 64


def quantise(weight: np.ndarray):
    """`[out, in]` to codes packed in uint32 `[out, in / 4]`, scales and biases `[out, in / 64]` in float16.

    The codes are made with the scales as they are stored, so that rounding the scale costs nothing twice.
    """
    rows, columns = weight.shape
    groups = weight.astype(np.float32).reshape(rows, columns // GROUP, GROUP)
    low, high = groups.min(-1), groups.max(-1)
    levels = 2**BITS - 1
    scale = np.maximum((high - low) / levels, 1e-7)
    by_low = np.abs(low) > np.abs(high)
    scale = np.where(by_low, scale, -scale)
    edge = np.where(by_low, low, high)
    zero = np.round(edge / scale)
    exact = zero != 0
    scale = np.where(exact, edge / np.where(exact, zero, 1), scale)
    bias = np.where(exact, edge, 0.0)
    scale, bias = scale.astype(np.float16), bias.astype(np.float16)
    codes = np.round((groups - bias.astype(np.float32)[..., None]) / scale.astype(np.float32)[..., None])
    codes = np.clip(codes, 0, levels).astype(np.uint8).reshape(rows, columns)
    return codes.view("<u4"), scale, bias


def tensors(state: dict) -> dict:
    """The checkpoint's tensors under MLX's names: triplets for matrices, float32 for norms."""
    out = {}
    for name, value in state.items():
        weight = value.float().numpy()
        path = "model." + name.removesuffix(".weight")
        if weight.ndim == 2:
            out[f"{path}.weight"], out[f"{path}.scales"], out[f"{path}.biases"] = quantise(weight)
        else:
            out[f"{path}.weight"] = weight
    return out


def config(shape: Shape, tokenizer: Tokenizer) -> dict:
    quantization = {"group_size": GROUP, "bits": BITS, "mode": "affine"}
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim, "hidden_act": "silu",
        "rms_norm_eps": shape.rms_eps,
        "rope_theta": shape.rope_theta, "rope_scaling": None, "max_position_embeddings": shape.max_positions,
        "attention_bias": False,
        "attention_dropout": 0.0, "use_sliding_window": False, "sliding_window": None,
        "max_window_layers": shape.layers,
        "tie_word_embeddings": True, "use_cache": True, "initializer_range": 0.02, "torch_dtype": "float16",
        "bos_token_id": None, "eos_token_id": tokenizer.token_to_id(IM_END),
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "quantization": quantization, "quantization_config": quantization,
    }


def export(work: Path, out: Path, home: Path):
    """Writes the folder `out` from the checkpoint in `work`, and `reference.json` beside the scripts."""
    held = torch.load(work / "checkpoint.pt", weights_only=False, map_location="cpu")
    shape = Shape(**held["shape"])
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(work / "tokenizer.json", out / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    save_file(tensors(held["model"]), str(out / "model.safetensors"), metadata={"format": "mlx"})
    (out / "config.json").write_text(json.dumps(config(shape, tokenizer), indent=2) + "\n")
    generation = {"bos_token_id": None, "do_sample": False,
                  "eos_token_id": [tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)],
                  "max_new_tokens": 512, "pad_token_id": tokenizer.token_to_id(END_OF_TEXT), "temperature": 0.0}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    write_config(out, tokenizer, shape.max_positions)
    reference.write(out, home / "reference.json")
    shutil.copy(work / "loss.csv", home / "loss.csv")
    curve.draw(home / "loss.csv", home / "loss.svg")
    for file in out.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"step {held['step']}, {held['tokens']} tokens; the folder holds {size / 1e6:.2f} MB", flush=True)
    assert size <= 12_000_000
