"""Remakes the built-in model: corpus, tokenizer, training, quantisation, evaluation. Steps already done are not done again."""

import argparse
import json
from pathlib import Path

import evaluate
import packing
import quantise
import report
import tokenizer as bpe
import train
from corpus import generate

HERE = Path(__file__).resolve().parent


def prepare(work: Path, conversations: int, vocab: int, seed: int):
    """Writes the corpus, the tokenizer and the packed rows into the work folder."""
    report = work / "corpus.json"
    if report.exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    corpus = work / "corpus.jsonl"
    counts = generate.write(corpus, conversations, seed)
    generate.check(corpus)
    made = bpe.train(corpus, vocab)
    bpe.check(made)
    made.save(str(work / "tokenizer.json"))
    counts |= {"seed": seed, "vocab_size": made.get_vocab_size(), "packed": packing.pack(corpus, made, work)}
    report.write_text(json.dumps(counts, indent=2) + "\n")
    print(json.dumps(counts), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=HERE / ".work",
                        help="folder for the corpus and checkpoints (not shipped)")
    parser.add_argument("--out", type=Path, default=HERE / "model", help="folder for the shipped model")
    parser.add_argument("--conversations", type=int, default=320_000)
    parser.add_argument("--vocab", type=int, default=3072)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--steps", type=int, default=train.STEPS)
    parser.add_argument("--minutes", type=float, help="train for this time instead of a number of steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["prepare", "train", "export", "evaluate"], help="one part alone")
    args = parser.parse_args()

    parts = [args.only] if args.only else ["prepare", "train", "export", "evaluate"]
    if "prepare" in parts:
        prepare(args.work, args.conversations, args.vocab, args.seed)
    if "train" in parts:
        budget = ["--minutes", str(args.minutes)] if args.minutes else ["--steps", str(args.steps)]
        train.main(["--work", str(args.work), "--seed", str(args.seed), "--threads", str(args.threads), *budget])
    if "export" in parts:
        quantise.export(args.work, args.out, HERE)
    if "evaluate" in parts:
        evaluate.run(args.out, HERE)
        report.write(args.work, args.out, HERE)


if __name__ == "__main__":
    main()
