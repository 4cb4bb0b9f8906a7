"""What the owner of a session does for a command that waits: drafts, handshakes, verifications, hooks."""

from __future__ import annotations

from typing import Any, TypeAlias

from penstock.errors import DraftRefused
from penstock.receive.actions import hold_back, hold_back_in_all
from penstock.receive.asking import Hooks
from penstock.receive.authentication import Authentication
from penstock.receive.connections import Connection
from penstock.receive.core import Core
from penstock.receive.pressure import Pressure
from penstock.receive.speakers import Speakers
from penstock.receive.storage import Storage
from penstock.smtp import server_tls
from penstock.smtp.server_commands import Item

__all__ = ["Owner"]

Action: TypeAlias = tuple[Any, ...]


class Owner:
    """Acts where a session's `commands` has returned a verb."""

    def __init__(
        self,
        core: Core,
        storage: Storage,
        authentication: Authentication,
        speakers: Speakers,
        hooks: Hooks | None,
        pressure: Pressure,
    ) -> None:
        """Join what is needed.

        Args:
            core: Opens drafts.
            storage: Is told why none could be opened.
            authentication: Goes on with AUTH.
            speakers: Goes on with XCLIENT.
            hooks: Are asked about MAIL and RCPT, where there are any.
            pressure: Says how long MAIL has to wait.
        """
        self._core = core
        self._storage = storage
        self._authentication = authentication
        self._speakers = speakers
        self._hooks = hooks
        self._pressure = pressure

    def act(
        self,
        waiting: str,
        connection: Connection,
        items: list[Item],
        early: bool,
        actions: list[Action],
        now_ms: int,
        spent_ms: int = 0,
    ) -> None:
        """Answer the command of an event at which the session has stopped.

        Args:
            waiting: Its verb.
            connection: Its connection, in the event's turn.
            items: The commands; it is the last of them, unless hooks are to be asked.
            early: Whether octets followed that had to wait for a reply.
            actions: Where the answer goes.
            now_ms: Unix time in milliseconds.
            spent_ms: How long answers to those before it are held back.
        """
        item = items[-1]
        if waiting == "DATA":
            self._take(connection, early, actions)
        elif waiting == "BDAT":
            self._take_chunk(connection, item, actions)
        elif waiting == "AUTH":
            self._authentication.began(connection, connection.turn, item[2], early, actions, now_ms)
        elif waiting == "XCLIENT":
            self._speakers.act(connection, item[1], actions, now_ms)
        elif waiting == "STARTTLS":
            _start_tls(connection, actions)
        else:
            self._ask(waiting, connection, items, early, actions, now_ms, spent_ms)

    def _ask(
        self,
        waiting: str,
        connection: Connection,
        items: list[Item],
        early: bool,
        actions: list[Action],
        now_ms: int,
        spent_ms: int,
    ) -> None:
        """Have hooks asked, and go on with the command and those behind it."""
        if self._hooks is None:
            raise AssertionError("invariant: a session stops at MAIL and RCPT only where there are hooks")
        rest = items[-1 - connection.session.behind :]

        def go_on(delay_ms: int, actions: list[Action]) -> None:
            before = len(actions)
            session = connection.session
            behind = session.commands(connection.turn, rest, early, actions)
            said = rest[: -1 - session.behind] if behind else rest
            is_mail = any(item[0] == "MAIL" for item in said)
            hold_back(actions, before, max(delay_ms, self._pressure.delay_ms if is_mail else 0))
            spent = hold_back_in_all(actions, before, spent_ms)
            if behind:
                self.act(behind, connection, rest, early, actions, now_ms, spent)

        self._hooks.command(connection, waiting, actions, go_on)

    def _take(self, connection: Connection, early: bool, actions: list[Action]) -> None:
        """Open a draft for a DATA."""
        session = connection.session
        try:
            draft = self._core.draft(session.size_declared)
        except DraftRefused as refused:
            connection.connector.counts.messages["spool"] += 1
            session.refuse_data(connection.turn, self._storage.refused(refused.reason), early, actions)
        else:
            session.take(connection.turn, draft, actions)

    def _take_chunk(self, connection: Connection, item: tuple[Any, ...], actions: list[Action]) -> None:
        """Take a chunk; open a draft for the first one."""
        session = connection.session
        draft = None
        if not session.has_chunks:
            try:
                draft = self._core.draft(session.size_declared or item[1])
            except DraftRefused as refused:
                connection.connector.counts.messages["spool"] += 1
                session.refuse_chunk(connection.turn, self._storage.refused(refused.reason), item, actions)
                return
        session.take_chunk(connection.turn, item, draft, actions)


def _start_tls(connection: Connection, actions: list[Action]) -> None:
    tls = connection.connector.tls
    if tls is None:
        raise AssertionError("invariant: STARTTLS is offered only with a certificate")
    server_tls.start(connection.session, connection.turn, tls, actions)
