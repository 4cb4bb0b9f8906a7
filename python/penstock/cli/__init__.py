"""The command line: a client of the control API, but for `serve`, `config` and `version`.

Importing it loads click and the client, nothing of the engine: a command starts in a tenth of a second. What
needs more loads it inside its function.
"""

from penstock.cli.program import main

__all__ = ["main"]
