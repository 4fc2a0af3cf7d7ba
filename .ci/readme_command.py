"""Prints a command of the README, so that what is tested is what is written there.

Commands stand in code blocks that follow a comment `<!-- command: NAME -->`.
"""

import re
import sys

text = open("README.md", encoding="utf-8").read()
found = re.search(rf"<!-- command: {re.escape(sys.argv[1])} -->\s*```sh\n(.*?)```", text, re.S)
if not found:
    sys.exit(f"README.md has no command `{sys.argv[1]}`")
print(found[1].strip())
