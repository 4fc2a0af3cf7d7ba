"""Training: Muon for the matrices, AdamW for the rest, a schedule that follows the clock or a number of steps."""

import argparse
import csv
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from model import Decoder, Shape
from packing import LENGTHS

STEPS = 3600
STEP_TOKENS = 6144
WARMUP_STEPS = 40
DECAY_SHARE = 0.4
# The longest rows cost several times as much a token; this share of them is enough to keep late positions working.
LONG_SHARE = 0.25


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by a Newton-Schulz iteration.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """

    def __init__(self, matrices, lr: float, momentum: float = 0.95, weight_decay: float = 0.02):
        super().__init__(matrices, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes: dict[tuple, list] = {}
            for weight in group["params"]:
                shapes.setdefault(tuple(weight.shape), []).append(weight)
            # Matrices of one shape go through the iteration together: few large products instead of many small ones.
            for (rows, columns), weights in shapes.items():
                updates = []
                for weight in weights:
                    state = self.state[weight]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(weight)
                    state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                    updates.append(weight.grad.lerp(state["momentum"], group["momentum"]))
                scale = max(1.0, rows / columns) ** 0.5
                for weight, update in zip(weights, orthogonal(torch.stack(updates))):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update.to(weight.dtype), alpha=-group["lr"] * scale)


# bfloat16 products pay only where the processor has instructions for them; without, they are a slow emulation.
PRODUCTS = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def orthogonal(x, rounds: int = 5):
    x = x.to(PRODUCTS)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if wide else x.mT


class Batches:
    """Rows in a seeded order, the lengths in proportion; the order depends on the step alone, so that it can be resumed."""

    def __init__(self, folder: Path, seed: int):
        self.data = {}
        for length in LENGTHS:
            with np.load(folder / f"rows-{length}.npz") as file:
                self.data[length] = (file["tokens"], file["weights"], STEP_TOKENS // length)
        steps = {length: len(tokens) // rows for length, (tokens, _, rows) in self.data.items()}
        steps[max(LENGTHS)] = max(1, int(steps[max(LENGTHS)] * LONG_SHARE))
        self.steps_per_epoch, self.seed, self.epoch = sum(steps.values()), seed, None
        self.steps = steps

    def at(self, step: int):
        epoch, inside = divmod(step, self.steps_per_epoch)
        if epoch != self.epoch:
            r = np.random.default_rng((self.seed, epoch))
            self.epoch = epoch
            self.orders = {length: r.permutation(len(tokens)) for length, (tokens, _, _) in self.data.items()}
            plan = [(length, i) for length, count in self.steps.items() for i in range(count)]
            self.plan = [plan[i] for i in r.permutation(len(plan))]
        length, i = self.plan[inside]
        tokens, weights, rows = self.data[length]
        chosen = self.orders[length][i * rows:(i + 1) * rows]
        row = torch.from_numpy(tokens[chosen].astype(np.int64))
        weight = torch.from_numpy(weights[chosen].astype(np.float32))
        return row[:, :-1].contiguous(), row[:, 1:].contiguous(), weight[:, 1:].contiguous()


def rate(step: int, done: float) -> float:
    """Warm up, stay, and go down to zero over the last part. `done`: the share of the budget that is used."""
    up = min(1.0, (step + 1) / WARMUP_STEPS)
    down = min(1.0, (1.0 - done) / DECAY_SHARE)
    return up * max(0.0, down)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with the packed corpus; checkpoints go here")
    parser.add_argument("--steps", type=int, default=STEPS,
                        help="length of the training, earlier runs of a resumed one included")
    parser.add_argument("--minutes", type=float, help="a budget of wall clock instead of a number of steps")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=0.003)
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0)
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    vocab = json.loads((args.work / "corpus.json").read_text())["vocab_size"]
    shape = Shape(vocab_size=vocab)
    net = Decoder(shape)
    matrices = [p for n, p in net.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in net.named_parameters() if p.dim() != 2 or "embed" in n]
    muon = Muon(matrices, lr=args.matrix_rate)
    adam = torch.optim.AdamW(others, lr=args.other_rate, betas=(0.9, 0.95), weight_decay=0.0)
    batches = Batches(args.work, args.seed)
    checkpoint, log = args.work / "checkpoint.pt", args.work / "loss.csv"
    step, before, tokens, recent = 0, 0.0, 0, []
    if checkpoint.exists():
        held = torch.load(checkpoint, weights_only=False)
        net.load_state_dict(held["model"])
        muon.load_state_dict(held["muon"])
        adam.load_state_dict(held["adam"])
        step, before, tokens = held["step"], held["seconds"], held["tokens"]
        print(f"resumed at step {step}", flush=True)
    else:
        with log.open("w", newline="") as out:
            csv.writer(out).writerow(["step", "seconds", "tokens", "rate", "loss"])
    net.hidden_states = torch.compile(net.hidden_states, dynamic=False)
    print(f"{sum(p.numel() for p in net.parameters())} parameters, {batches.steps_per_epoch} steps an epoch",
          flush=True)

    start = saved = time.time()

    def save():
        state = {"model": {k: v for k, v in net.state_dict().items()}, "muon": muon.state_dict(),
                 "adam": adam.state_dict(), "step": step,
                 "seconds": before + time.time() - start, "tokens": tokens, "shape": asdict(shape)}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    while True:
        seconds = before + time.time() - start
        done = seconds / (args.minutes * 60) if args.minutes else step / args.steps
        if done >= 1.0:
            break
        now = rate(step, done)
        for group in muon.param_groups:
            group["lr"] = args.matrix_rate * now
            # A lower momentum at first lets the early, fast-moving directions through.
            group["momentum"] = 0.85 + 0.10 * min(1.0, step / 300)
        for group in adam.param_groups:
            group["lr"] = args.other_rate * now
        inputs, targets, weights = batches.at(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=PRODUCTS == torch.bfloat16):
            loss = net(inputs, targets, weights)
        loss.backward()
        muon.step()
        adam.step()
        net.zero_grad()
        step, tokens = step + 1, tokens + inputs.numel()
        recent.append(loss.item())
        if step % 20 == 0:
            mean, recent = sum(recent) / len(recent), []
            seconds = before + time.time() - start
            with log.open("a", newline="") as out:
                csv.writer(out).writerow([step, round(seconds, 1), tokens, round(now, 4), round(mean, 5)])
            print(f"step {step} {seconds:.0f}s {tokens / 1e6:.2f}M tokens rate {now:.3f} loss {mean:.4f}", flush=True)
        if time.time() - saved > args.checkpoint_minutes * 60:
            saved = time.time()
            save()
    save()
    print(f"done: {step} steps, {tokens} tokens, {before + time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
