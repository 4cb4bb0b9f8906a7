"""What is done to boundary actions after a session has said them; `_core.pyi` says which there are."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from penstock.smtp.server_session import TARPIT_MAX_MS

__all__ = ["held_back", "hold_back", "hold_back_in_all", "pending"]

Action: TypeAlias = tuple[Any, ...]

DELAY: Final = 5
"""Where a reply says how long it is held back."""


def pending(conn: int, turn: int) -> Action:
    """Return the action by which net learns that the answer will come."""
    return ("reply", conn, turn, b"", 0, 0, False)


def hold_back(actions: list[Action], first: int, delay_ms: int) -> None:
    """Hold back the first answer from there on, and so all behind it, unless it is for as long already."""
    for index in range(first, len(actions)):
        if actions[index][0] == "reply":
            actions[index] = _held_back(actions[index], max(actions[index][DELAY], delay_ms))
            return


def held_back(actions: list[Action], first: int) -> int:
    """Return for how long the answers from there on are held back in all."""
    return sum(action[DELAY] for action in actions[first:] if action[0] == "reply")


def hold_back_in_all(actions: list[Action], first: int, spent_ms: int) -> int:
    """See that the answers from there on are not held back too long in all; return for how long in all.

    Args:
        actions: Where they are.
        first: The first of them.
        spent_ms: How long answers to the same event were held back before.
    """
    for index in range(first, len(actions)):
        if actions[index][0] == "reply":
            # Where MAIL has to wait, more may be spent already than is allowed here.
            delay_ms = min(actions[index][DELAY], max(0, TARPIT_MAX_MS - spent_ms))
            actions[index] = _held_back(actions[index], delay_ms)
            spent_ms += delay_ms
    return spent_ms


def _held_back(action: Action, delay_ms: int) -> Action:
    return (*action[:DELAY], delay_ms, *action[DELAY + 1 :])
