"""Free TCP ports for programs that must be told a number."""

from __future__ import annotations

import os
import random
import socket

# Below the kernel's ephemeral range, so that an outgoing connection of some test never takes one first.
_FIRST, _LAST = 15_000, 31_000
_rng = random.Random(os.getpid())


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody had a moment ago."""
    for _ in range(200):
        port = _rng.randrange(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 15000 and 31000")
