"""Fetch what the clients of tests/clients need and Debian's packages do not have: `make clients`.

nodemailer comes by npm, with the version and integrity that tests/clients/programs/package-lock.json has;
Jakarta Mail by Maven, with the digests below; the Go program, which needs no module, is compiled. All of it
goes into .cache/clients, and so do the caches of the three. What cannot be had is said and left out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools import debian

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tests" / "clients" / "programs"
CACHE = ROOT / ".cache" / "clients"
NODE = CACHE / "node"
JARS = CACHE / "jars"
GO_PROGRAM = CACHE / "go" / "send"

MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:2.8:get"
JAKARTA_MAIL = "2.0.5"
ARTIFACTS = {
    f"org.eclipse.angus:jakarta.mail:{JAKARTA_MAIL}": (
        "f48001755a4a591bb1b602965337fcf316d794c43783052f88ede05130539358"
    ),
    "org.eclipse.angus:angus-activation:2.0.3": (
        "a6bd35c538cf90fff941ad6258c40c08fca0b5c9c3f536c657114f27ce0527a7"
    ),
    "jakarta.activation:jakarta.activation-api:2.1.4": (
        "c9db52100ce6c8aac95cc39075f95720d2e561b11f8051b81c121ad4effd7004"
    ),
}
"""By coordinates, the SHA-256 of the jar."""

TIMEOUT_S = 300


class Unavailable(Exception):
    """A client cannot be had here; the text says why."""


def go_environment() -> dict[str, str]:
    """Return an environment in which Go leaves nothing outside of .cache and fetches no toolchain."""
    return {
        **os.environ,
        "GOCACHE": str(CACHE / "go" / "cache"),
        "GOPATH": str(CACHE / "go" / "path"),
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }


def fetch_node() -> None:
    """Install nodemailer as locked."""
    npm = _tool("npm")
    NODE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(PROGRAMS / name, NODE / name)
    _run(
        [
            *(npm, "ci", "--prefix", str(NODE), "--cache", str(CACHE / "npm")),
            *("--ignore-scripts", "--no-audit", "--no-fund", "--silent"),
        ]
    )


def fetch_java() -> None:
    """Have Maven fetch the jars; only those with the digests that we know are used."""
    _tool("java")
    maven, repository = _tool("mvn"), CACHE / "maven"
    _run(
        [
            *(maven, "--batch-mode", "--quiet", f"-Dmaven.repo.local={repository}", MAVEN_GOAL),
            f"-Dartifact=org.eclipse.angus:jakarta.mail:{JAKARTA_MAIL}",
        ]
    )
    shutil.rmtree(JARS, ignore_errors=True)
    JARS.mkdir(parents=True)
    for coordinates, digest in ARTIFACTS.items():
        group, name, version = coordinates.split(":")
        jar = repository.joinpath(*group.split("."), name, version, f"{name}-{version}.jar")
        if hashlib.sha256(jar.read_bytes()).hexdigest() != digest:
            raise Unavailable(f"{coordinates} is not the one that was pinned")
        shutil.copyfile(jar, JARS / jar.name)


def fetch_go() -> None:
    """Compile the Go program."""
    GO_PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    _run([_tool("go"), "build", "-o", str(GO_PROGRAM), str(PROGRAMS / "send.go")], go_environment())


def fetch_exim() -> None:
    """Unpack Debian's Exim, unless it is there."""
    if not (debian.EXIM / "usr/sbin/exim4").exists():
        debian.fetch_exim()


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not here")
    return found


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout)[-300:].strip()}")


def main() -> int:
    """Fetch all; 0 when all is there."""
    missing = 0
    for name, fetch in (
        ("nodemailer", fetch_node),
        ("Jakarta Mail", fetch_java),
        ("Go net/smtp", fetch_go),
        ("Exim", fetch_exim),
    ):
        try:
            fetch()
            print(f"{name}: fetched")
        except (Unavailable, debian.Unavailable, OSError, subprocess.SubprocessError) as error:
            missing += 1
            print(f"{name}: not available: {error}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
