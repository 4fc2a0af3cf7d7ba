"""Asks the shipped, quantised model the sixty fixed prompts, greedily, and counts the answers that are as asked."""

import argparse
import json
import re
from pathlib import Path

import jinja2

from chatml import render
from corpus.words import KINDS
from reader import Shipped


def sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?])\"?\s+", text.strip()) if s]


def members(found: list[str], kind: str, count: int) -> bool:
    """Exactly `count` different words, all of that kind."""
    pool = {word.lower() for word in KINDS[kind][1]}
    words = [word.strip().lower() for word in found]
    return len(words) == count and len(set(words)) == count and all(word in pool for word in words)


def items(answer: str) -> list[str]:
    """The items of a list, however it is laid out."""
    lines = [re.sub(r"^\s*(?:\d+\.|[-*])\s*", "", line) for line in answer.strip().splitlines()]
    return [part.strip(" .") for line in lines for part in re.split(r",\s*and\s+|,|\sand\s", line) if part.strip(" .")]


def parsed(answer: str):
    try:
        return json.loads(answer)
    except json.JSONDecodeError:
        return None


def story(answer: str, mentions: list[str], min_sentences: int) -> bool:
    """Names what was asked for, has enough sentences, repeats none and comes to an end."""
    said = sentences(answer)
    return (all(word.lower() in answer.lower() for word in mentions) and len(said) >= min_sentences
            and len(set(said)) == len(said) and answer.rstrip().endswith((".", "!", "?", "\"")))


CHECKS = {
    "exact": lambda answer, want: answer.strip() == want,
    "contains": lambda answer, want: all(word.lower() in answer.lower() for word in want),
    "any": lambda answer, want: any(word.lower() in answer.lower() for word in want),
    "absent": lambda answer, want: not any(word.lower() in answer.lower() for word in want),
    "starts": lambda answer, want: answer.strip().startswith(want),
    "ends": lambda answer, want: answer.strip().endswith(want),
    "regex": lambda answer, want: re.search(want, answer.strip()) is not None,
    "number": lambda answer,
    want: (n := re.findall(r"\d+", answer)) and int(n[-1]) == want and len(answer.split()) <= 14,
    "sequence": lambda answer, want: [int(n) for n in re.findall(r"\d+", answer)] == want,
    "upper": lambda answer, want: answer == answer.upper(),
    "max_words": lambda answer, want: 0 < len(answer.split()) <= want,
    "json": lambda answer, want: parsed(answer) == want,
    "items": lambda answer, want: members(items(answer), want["kind"], want["count"]),
    "json_items": lambda answer, want: isinstance(found := parsed(answer),
                                                  list) and all(isinstance(x, str) for x in found)
    and members(found, want["kind"], want["count"]),
    "story": lambda answer, want: story(answer, **want),
}


def run(folder: Path, home: Path, write: bool = True) -> dict:
    model = Shipped(folder)
    template = jinja2.Environment(trim_blocks=True,
                                  lstrip_blocks=True).from_string((folder / "chat_template.jinja").read_text())
    prompts = json.loads((home / "eval_prompts.json").read_text())["prompts"]
    results, skills = [], {}
    for prompt in prompts:
        text = template.render(messages=prompt["messages"], add_generation_prompt=True)
        assert text == render(prompt["messages"], add_generation_prompt=True)
        answer = model.answer(text)
        missed = [name for name, want in prompt["check"].items() if not CHECKS[name](answer, want)]
        results.append({"id": prompt["id"], "passed": not missed, "missed": missed, "answer": answer})
        right, total = skills.get(prompt["skill"], (0, 0))
        skills[prompt["skill"]] = (right + (not missed), total + 1)
        asked = prompt["messages"][-1]["content"].splitlines()[-1][:60]
        print(f"{'ok  ' if not missed else 'MISS'} {prompt['id']:14} {asked!r:64} {answer[:90]!r}")
    passed = sum(result["passed"] for result in results)
    print("\n| skill | as asked |\n|---|---|")
    for skill, (right, total) in skills.items():
        print(f"| {skill} | {right} of {total} |")
    print(f"| all | {passed} of {len(results)} |")
    report = {"passed": passed, "total": len(results), "skills": {k: {"passed": a, "total": b} for k,
                                                                  (a, b) in skills.items()}, "results": results}
    if write:
        (home / "eval_results.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    home = Path(__file__).resolve().parent
    parser.add_argument("--model", type=Path, default=home / "model")
    args = parser.parse_args()
    run(args.model, home)
