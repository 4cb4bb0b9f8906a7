"""The control API for programs: standard library only, so that a command or a web worker can afford it."""

from penstock.client.client import DEFAULT_URL, Client, Page

__all__ = ["DEFAULT_URL", "Client", "Page"]
