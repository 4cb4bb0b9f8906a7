"""Unpack Debian's mail programs into .cache/debian, without installing anything and without root.

The tests and benchmarks use Debian's own swaks, msmtp, smtp-source, smtp-sink and, as a rival and a client,
its Postfix. MTAs conflict as packages and want a system of their own, so the archives are only downloaded and
unpacked. apt runs on state and cache directories of its own, with the system's list of installed packages, so
that it fetches exactly the libraries that are missing here and touches nothing outside the project.

Run as a program it fetches what is missing; imported it says where a program is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "debian"
UNPACKED = CACHE / "root"
REASON_FILE = CACHE / "unavailable"
PACKAGES = ("postfix", "swaks", "libnet-ssleay-perl", "msmtp", "strace")
"""swaks has no TLS without the Perl module."""
PROGRAMS = ("smtp-source", "smtp-sink", "swaks", "msmtp", "strace")
EXIM = CACHE / "exim"
EXIM_PACKAGES = ("exim4-daemon-light",)
"""Fetched only when asked for, and unpacked by itself: it has files of the same names as Postfix."""
APT_TIMEOUT_S = 300
# Without a network every attempt costs a minute; `make test` is not to pay it each time.
TRY_AGAIN_S = 3600


class Unavailable(Exception):
    """The packages cannot be had here; the text says why."""


def environment() -> dict[str, str]:
    """Return an environment in which unpacked programs find their libraries and Perl modules."""
    found = dict(os.environ)
    libraries = [
        UNPACKED / "usr/lib/postfix",
        *UNPACKED.glob("usr/lib/*-linux-gnu"),
        *UNPACKED.glob("lib/*-linux-gnu"),
    ]
    perl = [UNPACKED / "usr/share/perl5", *UNPACKED.glob("usr/lib/*-linux-gnu/perl5/*")]
    found["LD_LIBRARY_PATH"] = ":".join(str(path) for path in libraries if path.is_dir())
    found["PERL5LIB"] = ":".join(str(path) for path in perl if path.is_dir())
    found["PATH"] = f"{UNPACKED}/usr/sbin:{UNPACKED}/usr/bin:{found.get('PATH', '/usr/bin:/bin')}"
    return found


def program(name: str) -> Path | None:
    """Return where a program is, unpacked or installed; None if it is in neither place."""
    for folder in ("usr/sbin", "usr/bin", "sbin", "bin"):
        candidate = UNPACKED / folder / name
        if candidate.is_file():
            return candidate
    installed = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return Path(installed) if installed else None


def perl_has_tls() -> bool:
    """Return whether swaks can use TLS."""
    command = ["perl", "-MNet::SSLeay", "-e", "1"]
    try:
        done = subprocess.run(command, env=environment(), capture_output=True, timeout=20, check=False)
    except OSError:
        return False
    return done.returncode == 0


def reason() -> str:
    """Return why programs are missing, for a test's skip message."""
    if REASON_FILE.is_file():
        return REASON_FILE.read_text(encoding="utf-8").strip()
    return "not unpacked: run `make debian`"


def fetch() -> None:
    """Download and unpack what the system lacks.

    Raises:
        Unavailable: Not a Debian system, no network, or the archive has no such package.
    """
    _unpack(PACKAGES, UNPACKED)


def fetch_exim() -> None:
    """Download and unpack Exim, as `fetch` does the rest; raises Unavailable."""
    _unpack(EXIM_PACKAGES, EXIM)


def _unpack(packages: Sequence[str], folder: Path) -> None:
    """Download packages with what they need and the system lacks, and unpack all that into a folder."""
    for tool in ("apt-get", "dpkg", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not here, so this is not a Debian system")
    _apt("update", "--quiet")
    _apt("clean")
    _apt("install", "--download-only", "--assume-yes", "--no-install-recommends", "--quiet", *packages)
    archives = sorted((CACHE / "apt" / "archives").glob("*.deb"))
    # Unpacked beside and renamed, so that an interrupted run leaves nothing that looks whole.
    staging = CACHE / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    for archive in archives:
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(staging)], check=True)
    if not staging.is_dir():
        staging.mkdir(parents=True)
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)


def _apt(*arguments: str) -> None:
    """Run apt-get on directories of our own."""
    state, archives = CACHE / "apt" / "state", CACHE / "apt" / "archives"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    shutil.copyfile("/var/lib/dpkg/status", state / "status")
    options = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::State::extended_states": state / "extended_states",
        "Dir::Cache": CACHE / "apt",
        "Dir::Cache::archives": archives,
        "Dir::Log": CACHE / "apt",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
    }
    command = ["apt-get", *(f"-o{key}={value}" for key, value in options.items()), *arguments]
    try:
        done = subprocess.run(
            command,
            timeout=APT_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"apt-get {arguments[0]} did not end within {APT_TIMEOUT_S} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))]
        raise Unavailable(f"apt-get {arguments[0]} failed: {' '.join(lines) or done.stdout[-300:]}")


def main() -> int:
    """Fetch what is missing; 0 when everything is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="say nothing when all is there")
    quiet = parser.parse_args().quiet
    if all(program(name) for name in PROGRAMS) and perl_has_tls():
        if not quiet:
            print("\n".join(f"{name}: {program(name)}" for name in PROGRAMS))
        return 0
    if quiet and REASON_FILE.is_file() and time.time() - REASON_FILE.stat().st_mtime < TRY_AGAIN_S:
        print(f"Debian's test programs are not available; tests that need them skip. {reason()}")
        return 1
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        fetch()
    except (Unavailable, OSError, subprocess.CalledProcessError) as error:
        REASON_FILE.write_text(f"{error}\n", encoding="utf-8")
        print(
            f"Debian's test programs are not available; tests that need them skip. {error}", file=sys.stderr
        )
        return 1
    REASON_FILE.unlink(missing_ok=True)
    print("\n".join(f"{name}: {program(name)}" for name in PROGRAMS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
