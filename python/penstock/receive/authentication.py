"""Verifies what a client proves itself with, in a thread, and tells its session.

A verification takes some 25 ms of a core and 19 MiB, so few run at a time, others wait in line, and beyond
that a client is told to come again. The event loop never waits for one.

Whether a user exists is not to be found out: for a name that nobody has, as for a user who is disabled, the
same work is done, and the same is said.

Printers and applications log in anew for each message. So a password that has just been found right is
recognised for a minute, by a digest under a key that this process alone has and that never leaves its memory;
the digest is of the stored hash, too, so that it is of no use once the user's line has changed. Wrong ones
are never remembered: each guess costs a verification. Who could read the key could read passwords as they
come in.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from penstock.receive.connections import Connection
from penstock.receive.passwords import matches
from penstock.receive.users import User, UserFile
from penstock.receive.verdicts import Verdicts
from penstock.smtp import server_auth
from penstock.smtp.sasl import Password
from penstock.smtp.tables import ServerState

__all__ = ["Authentication"]

Action: TypeAlias = tuple[Any, ...]

VERIFY_WITHIN_S: Final = 15.0
"""How long a client waits for its turn and the verification; a quarter of what net allows us."""
THREADS_MAX: Final = 4
RECENT_MAX: Final = 1_024
RECENT_MS: Final = 60_000
KEY_OCTETS: Final = 32


class Authentication:
    """Answers AUTH for all sessions."""

    def __init__(
        self,
        file: str | None,
        verdicts: Verdicts,
        *,
        cores: int | None = None,
        matches: Callable[[str, str], bool] = matches,
    ) -> None:
        """Read the users.

        Args:
            file: Where they are; None if there are none.
            verdicts: Runs the verifications.
            cores: How many there are; None to ask the system.
            matches: Whether a password is the one that is stored.

        Raises:
            OSError: The file cannot be read.
            ValueError: It cannot be used.
        """
        self._file = UserFile(file) if file is not None else None
        self._verdicts = verdicts
        self._matches = matches
        threads = (cores or len(os.sched_getaffinity(0))) // 2
        self._limiter = trio.CapacityLimiter(min(max(1, threads), THREADS_MAX))
        self._recent = _Recent()

    def refresh(self) -> None:
        """Look whether the users have changed. **Blocking**: on their file."""
        if self._file is not None:
            self._file.refresh()

    def known(self, login: str) -> str | None:
        """Return the name of a user who may log in, for a peer that has seen to the rest; or None."""
        user = None if self._file is None else self._file.users.get(login.lower())
        return None if user is None or user.is_disabled else user.name

    def problems(self) -> list[str]:
        """Return what an operator should know of the users' file."""
        return list(self._file.problems()) if self._file is not None else []

    def began(
        self,
        connection: Connection,
        turn: int,
        response: bytes | None,
        early: bool,
        actions: list[Action],
        now_ms: int,
    ) -> None:
        """Go on with an exchange that AUTH has begun."""
        given = server_auth.respond(connection.session, turn, response, early, actions)
        if given is not None:
            self._verify(connection, turn, given, actions, now_ms)

    def line(
        self, connection: Connection, event: tuple[Any, ...], actions: list[Action], now_ms: int
    ) -> None:
        """Go on with what a client has said to a challenge."""
        _, _, turn, what, response, early = event
        given = server_auth.line(connection.session, turn, what, response, early, actions)
        if given is not None:
            self._verify(connection, turn, given, actions, now_ms)

    def _verify(
        self, connection: Connection, turn: int, given: Password, actions: list[Action], now_ms: int
    ) -> None:
        if self._file is None:
            raise AssertionError("invariant: AUTH is offered only where there are users")
        user = self._file.users.get(given.login.lower())
        digest = b""
        if user is not None and not user.is_disabled:
            digest = self._recent.digest(user, given.password)
            if self._recent.knows(digest, now_ms):
                connection.logged_in(turn, user.name, actions)
                return
        stored = self._file.stand_in if user is None else user.stored
        question = partial(self._is_right, stored, given.password)
        then = partial(self._tell, connection, turn, user, digest, now_ms)
        if not self._verdicts.ask(connection.session.conn, question, then, within_s=VERIFY_WITHIN_S):
            server_auth.put_off(connection.session, turn, actions)

    async def _is_right(self, stored: str, password: str) -> bool:
        return await trio.to_thread.run_sync(
            self._matches, stored, password, abandon_on_cancel=True, limiter=self._limiter
        )

    def _tell(
        self,
        connection: Connection,
        turn: int,
        user: User | None,
        digest: bytes,
        now_ms: int,
        is_right: bool | None,
        actions: list[Action],
    ) -> None:
        session = connection.session
        if session.state is ServerState.CLOSED:
            # It was told that the service stops.
            return
        if is_right is None:
            server_auth.put_off(session, turn, actions)
        elif is_right and user is not None and not user.is_disabled and self._is_as_before(user):
            self._recent.remember(digest, now_ms)
            connection.logged_in(turn, user.name, actions)
        else:
            server_auth.refuse(session, turn, actions)

    def _is_as_before(self, user: User) -> bool:
        """Whether a user's line is still the one that was verified."""
        return self._file is not None and self._file.users.get(user.name) == user


class _Recent:
    """Passwords that were found right a moment ago, as digests."""

    def __init__(self) -> None:
        """Take a key."""
        self._key = secrets.token_bytes(KEY_OCTETS)
        self._until_ms: dict[bytes, int] = {}

    def digest(self, user: User, password: str) -> bytes:
        """Return what stands for a user's line and a password; neither part can be taken for the other."""
        line, octets = user.line().encode(), password.encode()
        state = hashlib.blake2b(len(line).to_bytes(4, "big"), key=self._key, digest_size=32)
        state.update(line)
        state.update(octets)
        return state.digest()

    def knows(self, digest: bytes, now_ms: int) -> bool:
        """Whether it was found right less than a minute ago. The clock may have been set back meanwhile."""
        until_ms = self._until_ms.get(digest, 0)
        return 0 < until_ms - now_ms <= RECENT_MS

    def remember(self, digest: bytes, now_ms: int) -> None:
        """Take note of one; the oldest makes room."""
        if len(self._until_ms) >= RECENT_MAX:
            del self._until_ms[next(iter(self._until_ms))]
        self._until_ms[digest] = now_ms + RECENT_MS
