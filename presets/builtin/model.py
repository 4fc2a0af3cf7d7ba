"""The network: Qwen3's shape (q/k norm, grouped queries, SwiGLU, RMSNorm, half-split rotary, tied embedding)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


SHORT_ROW = 256


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Every linear input is a multiple of 64, the quantisation group."""

    vocab_size: int = 3072
    hidden: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    intermediate: int = 384
    rope_theta: float = 10000.0
    rms_eps: float = 1e-6
    max_positions: int = 2048


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (self.weight * y).to(x.dtype)


def rotary_tables(shape: Shape):
    """`cos` and `sin`, `[max_positions, head_dim]`, the halves repeated as half-split rotary wants them."""
    inv_freq = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim)
    angles = torch.outer(torch.arange(shape.max_positions, dtype=torch.float64), inv_freq)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


def attend_short(q, k, v):
    """Causal attention written out: the query heads of a key head are stacked, which makes few large products.

    `q`: `[rows, heads, tokens, head_dim]`; `k`, `v`: the same with fewer heads. On a CPU this takes a third of the time
    of the fused kernel, whose backward pass is slow, as long as the `tokens * tokens` scores stay small.
    """
    rows, heads, tokens, size = q.shape
    kv_heads = k.shape[1]
    stacked = q.reshape(rows, kv_heads, heads // kv_heads * tokens, size)
    scores = (stacked @ k.mT).view(rows, heads, tokens, tokens).float() * size**-0.5
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    shares = scores.masked_fill(future, -1e9).softmax(-1).to(v.dtype)
    return (shares.view(rows, kv_heads, -1, tokens) @ v).view(rows, heads, tokens, size)


def attend_long(q, k, v):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Attention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.hidden, bias=False)
        self.q_norm = RMSNorm(shape.head_dim, shape.rms_eps)
        self.k_norm = RMSNorm(shape.head_dim, shape.rms_eps)

    def forward(self, x, cos, sin):
        rows, tokens, _ = x.shape
        size = self.shape
        q = self.q_norm(self.q_proj(x).view(rows, tokens, size.heads, size.head_dim)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(rows, tokens, size.kv_heads, size.head_dim)).transpose(1, 2)
        v = self.v_proj(x).view(rows, tokens, size.kv_heads, size.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        out = attend_short(q, k, v) if tokens <= SHORT_ROW else attend_long(q, k, v)
        return self.o_proj(out.transpose(1, 2).reshape(rows, tokens, -1))


class MLP(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden, shape.rms_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.rms_eps)
        self.mlp = MLP(shape)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Everything under `model.` in the checkpoint; the head is the embedding."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden, shape.rms_eps)
        cos, sin = rotary_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise()

    def initialise(self):
        """Small normal weights; what writes into the residual stream starts at zero."""
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)
            elif name == "embed_tokens.weight":
                nn.init.normal_(weight, std=0.02)
            else:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def hidden_states(self, tokens):
        """`tokens`: `[rows, positions]`. Returns the normed states, `[rows, positions, hidden]`."""
        x = self.embed_tokens(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def logits(self, states):
        return F.linear(states, self.embed_tokens.weight)

    def forward(self, tokens, targets, weights):
        """Weighted mean of the cross entropy over the positions whose weight is not zero."""
        states = self.hidden_states(tokens).flatten(0, 1)
        chosen = weights.flatten().nonzero().squeeze(1)
        logits = self.logits(states[chosen]).float()
        loss = F.cross_entropy(logits, targets.flatten()[chosen], reduction="none")
        w = weights.flatten()[chosen]
        return (loss * w).sum() / w.sum()
