"""Whether the crash tests can bite: defects are put into the spool one by one, and each must be caught.

A defect is a patch in `defects/`. Its head says what is wrong (`Defect:`) and which of the spool's test
programs must fail because of it (`Caught by:`, at least one of those named). Each is applied to a copy of the
Rust sources, never to the work tree. A patch that does not apply, or that does not compile, counts as missed:
whoever changes the code that it touches brings it up to date.

By hand: `make teeth`, or `python -m tests.rig.teeth sync-left-out old-nonce`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFECTS = Path(__file__).parent / "defects"
CRATE = "penstock-spool"
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A patch, and what its head says."""

    name: str
    text: str
    tests: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a defect."""

    name: str
    is_caught: bool
    how: str
    took_s: float


def defects() -> list[Defect]:
    """Return all defects, by name.

    Raises:
        ValueError: The head of one does not say what it has to.
    """
    return [_read(path) for path in sorted(DEFECTS.glob("*.patch"))]


def _read(path: Path) -> Defect:
    text, tests = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("--- "):
            break
        key, _, value = line.partition(": ")
        if key == "Defect":
            text = value
        elif key == "Caught by":
            tests.append(value)
    if not text or not tests:
        raise ValueError(f"{path.name}: the head says neither what is wrong nor who catches it")
    return Defect(name=path.stem, text=text, tests=tuple(tests), path=path)


class Bench:
    """A copy of the Rust sources, with its own place for what is built."""

    def __init__(self, folder: Path) -> None:
        self._tree = folder / "tree"
        self._target = folder / "target"

    def reset(self) -> None:
        """Make the copy like the work tree; what is the same keeps its times, so that little is built."""
        for source in ROOT.glob("Cargo.*"):
            _copy(source, self._tree / source.name)
        wanted = {path.relative_to(ROOT) for path in (ROOT / "rust").rglob("*") if path.is_file()}
        wanted = {path for path in wanted if "target" not in path.parts}
        for path in wanted:
            _copy(ROOT / path, self._tree / path)
        for path in list((self._tree / "rust").rglob("*")):
            if path.is_file() and path.relative_to(self._tree) not in wanted:
                path.unlink()

    def apply(self, defect: Defect) -> str | None:
        """Apply a patch; return what is wrong if it cannot be applied."""
        # Below a repository git would look for the files there.
        surroundings = {**os.environ, "GIT_CEILING_DIRECTORIES": str(self._tree.parent)}
        command = ["git", "apply", "-C1", "--recount", str(defect.path)]
        done = subprocess.run(
            command, cwd=self._tree, env=surroundings, capture_output=True, text=True, check=False
        )
        return None if done.returncode == 0 else f"does not apply: {done.stderr.strip()}"

    def cargo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the crate's tests, or some of them, with whatever arguments."""
        surroundings = {**os.environ, "CARGO_TARGET_DIR": str(self._target)}
        command = [os.environ.get("CARGO", "cargo"), "test", "--offline", "-p", CRATE, *arguments]
        return subprocess.run(
            command,
            cwd=self._tree,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def judge(self, defect: Defect) -> tuple[bool, str]:
        """Apply a defect and run the tests that are to catch it; return whether they do, and how."""
        self.reset()
        obstacle = self.apply(defect)
        if obstacle is not None:
            return False, obstacle
        chosen = [argument for test in defect.tests for argument in ("--test", test)]
        built = self.cargo("--no-run", *chosen)
        if built.returncode != 0:
            return False, f"does not compile\n{built.stderr[-2000:]}"
        for test in defect.tests:
            try:
                done = self.cargo("--test", test)
            except subprocess.TimeoutExpired:
                return False, f"{test} does not end"
            if done.returncode != 0 and "test result: FAILED" in done.stdout:
                return True, f"{test}: {_reason(done.stdout)}"
        return False, "no test has failed"


def _copy(source: Path, target: Path) -> None:
    octets = source.read_bytes()
    if target.exists() and target.read_bytes() == octets:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(octets)


def _reason(output: str) -> str:
    """Return what the first failure says."""
    lines = output.splitlines()
    for at, line in enumerate(lines):
        if "panicked at" in line and at + 1 < len(lines):
            return lines[at + 1].strip()[:110]
    return "failed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 when every defect is caught."""
    parser = argparse.ArgumentParser(
        description="put defects into the spool, and demand that tests catch them"
    )
    parser.add_argument("names", nargs="*", help="defects; all without any")
    parser.add_argument("--folder", type=Path, default=ROOT / "target" / "teeth")
    options = parser.parse_args(arguments)
    chosen = [defect for defect in defects() if not options.names or defect.name in options.names]
    missing = set(options.names) - {defect.name for defect in chosen}
    if missing:
        parser.error(f"there is no defect {', '.join(sorted(missing))}")
    bench = Bench(options.folder)
    bench.reset()
    programs = sorted({test for defect in chosen for test in defect.tests})
    sound = bench.cargo(*(argument for test in programs for argument in ("--test", test)))
    if sound.returncode != 0:
        print("without a defect the tests fail already", sound.stdout[-2000:], sound.stderr[-2000:], sep="\n")
        return 2
    results = []
    for defect in chosen:
        began = time.monotonic()
        is_caught, how = bench.judge(defect)
        result = Result(name=defect.name, is_caught=is_caught, how=how, took_s=time.monotonic() - began)
        results.append(result)
        mark = "caught" if is_caught else "MISSED"
        print(f"{mark}  {result.took_s:4.0f} s  {result.name:24} {defect.text}\n{'':16}{how}", flush=True)
    caught = sum(result.is_caught for result in results)
    print(f"{caught} of {len(results)} defects are caught")
    return 0 if caught == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
