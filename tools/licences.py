"""Check every locked dependency's licence against an allow-list.

Rust: what `cargo metadata` resolves for the workspace. Python: the distributions that requirements.lock
names, read from where they are installed. A licence that cannot be read is a failure, not a guess.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-0",
        "PSF-2.0",
        "Unicode-3.0",
        "Unlicense",
        "Zlib",
    }
)
# Used to test and check, never shipped: copyleft of the file is fine there.
TOOLS_ONLY = {"hypothesis": "MPL-2.0", "pathspec": "MPL-2.0"}

# Older metadata has words where newer has an SPDX expression.
SPDX_OF_WORDS = {
    "apache 2.0": "Apache-2.0",
    "bsd 2-clause license": "BSD-2-Clause",
    "license :: osi approved :: apache software license": "Apache-2.0",
    "license :: osi approved :: mit license": "MIT",
    "license :: osi approved :: mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
}
TOKEN = re.compile(r"\(|\)|[^\s()]+")


def is_allowed(expression: str) -> bool:
    """Evaluate an SPDX expression: OR is our choice, AND binds us to both.

    Raises:
        ValueError: The expression does not parse.
    """
    tokens = TOKEN.findall(expression.replace("/", " OR "))
    result = _either(tokens)
    if tokens:
        raise ValueError(f"cannot read licence expression {expression!r}")
    return result


def _either(tokens: list[str]) -> bool:
    result = _both(tokens)
    while tokens[:1] == ["OR"]:
        del tokens[0]
        result = _both(tokens) or result
    return result


def _both(tokens: list[str]) -> bool:
    result = _term(tokens)
    while tokens[:1] == ["AND"]:
        del tokens[0]
        result = _term(tokens) and result
    return result


def _term(tokens: list[str]) -> bool:
    if not tokens or tokens[0] in {")", "AND", "OR", "WITH"}:
        raise ValueError("a licence is missing in the expression")
    name = tokens.pop(0)
    if name == "(":
        result = _either(tokens)
        if tokens[:1] != [")"]:
            raise ValueError("a parenthesis is not closed")
        del tokens[0]
        return result
    if tokens[:1] == ["WITH"]:
        name = " ".join([name, *tokens[:2]])
        del tokens[:2]
    return name in ALLOWED


def rust_licences() -> dict[str, str]:
    """Return name and licence of each crate that the workspace's lock resolves to, our own included."""
    completed = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    packages = json.loads(completed.stdout)["packages"]
    return {f"{package['name']} {package['version']}": package["license"] or "" for package in packages}


def locked_distributions() -> list[str]:
    """Return the names pinned in requirements.lock."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return re.findall(r"^([A-Za-z0-9._-]+)==", text, flags=re.MULTILINE)


def python_licence(name: str) -> str:
    """Return one installed distribution's licence as an SPDX expression, "" if it does not say."""
    fields = metadata.metadata(name)
    if "License-Expression" in fields:
        return fields["License-Expression"]
    words = [fields["License"]] if "License" in fields else []
    words += [word for word in fields.get_all("Classifier") or [] if word.startswith("License :: OSI")]
    for word in words:
        spdx = SPDX_OF_WORDS.get(word.strip().lower(), word.strip())
        # Some packages put the whole text there.
        if 0 < len(spdx) <= 80 and "::" not in spdx:
            return spdx
    return ""


def problems() -> list[str]:
    """Return one line per dependency whose licence is unknown or not allowed."""
    found = []
    crates = rust_licences()
    distributions = {name: python_licence(name) for name in locked_distributions()}
    for name, expression in sorted({**crates, **distributions}.items()):
        if TOOLS_ONLY.get(name) == expression:
            continue
        try:
            good = is_allowed(expression)
        except ValueError:
            good = False
        if not good:
            found.append(f"{name}: {expression or 'no licence given'}")
    if not found:
        print(f"licences: {len(crates)} crates and {len(distributions)} distributions, all allowed")
    return found


def main() -> int:
    """Print what is not allowed; 1 if there is any."""
    found = problems()
    for line in found:
        print(f"licence not on the allow-list: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
