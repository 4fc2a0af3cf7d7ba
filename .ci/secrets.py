"""Looks for secrets in the files that git tracks: keys of known forms, and assignments of long random strings."""

import math
import re
import subprocess
import sys

KNOWN = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "AWS access key": r"\bAKIA[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "OpenAI key": r"\bsk-[A-Za-z0-9_-]{32,}\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "URL with a password": r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/:@{}$]+@",
}
ASSIGNED = re.compile(r"(?i)(?:secret|token|password|api_?key)[\"']?\s*[:=]\s*[\"']([A-Za-z0-9+/_=-]{24,})[\"']")
# Data made by programs: numbers and vocabularies, checked by their own tests.
DATA = (".safetensors", ".lock", "tokenizer.json", ".png", ".npy")


def entropy(text):
    return -sum(n / len(text) * math.log2(n / len(text)) for n in map(text.count, set(text)))


found = []
for path in subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True, text=True).stdout.split("\0"):
    if not path or path.endswith(DATA):
        continue
    with open(path, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        found += [f"{path}:{number}: {name}" for name, form in KNOWN.items() if re.search(form, line)]
        found += [f"{path}:{number}: assigned secret" for value in ASSIGNED.findall(line) if entropy(value) > 4]
if found:
    sys.exit("possible secrets:\n" + "\n".join(found))
print("no secrets found")
