"""What the owner of a session does for a command that waits for him: drafts, handshakes, verifications."""

from __future__ import annotations

from typing import Any, TypeAlias

from penstock.errors import DraftRefused
from penstock.receive.authentication import Authentication
from penstock.receive.connections import Connection
from penstock.receive.core import Core
from penstock.receive.speakers import Speakers
from penstock.receive.storage import Storage
from penstock.smtp import server_tls

__all__ = ["Owner"]

Action: TypeAlias = tuple[Any, ...]


class Owner:
    """Acts where a session's `commands` has returned a verb."""

    def __init__(
        self, core: Core, storage: Storage, authentication: Authentication, speakers: Speakers
    ) -> None:
        """Join what is needed.

        Args:
            core: Opens drafts.
            storage: Is told why none could be opened.
            authentication: Goes on with AUTH.
            speakers: Goes on with XCLIENT.
        """
        self._core = core
        self._storage = storage
        self._authentication = authentication
        self._speakers = speakers

    def act(
        self,
        waiting: str,
        connection: Connection,
        item: tuple[Any, ...],
        early: bool,
        actions: list[Action],
        now_ms: int,
    ) -> None:
        """Answer the last command of an event.

        Args:
            waiting: Its verb.
            connection: Its connection, in the event's turn.
            item: The command.
            early: Whether octets followed that had to wait for a reply.
            actions: Where the answer goes.
            now_ms: Unix time in milliseconds.
        """
        if waiting == "DATA":
            self._take(connection, early, actions)
        elif waiting == "BDAT":
            self._take_chunk(connection, item, actions)
        elif waiting == "AUTH":
            self._authentication.began(connection, connection.turn, item[2], early, actions, now_ms)
        elif waiting == "XCLIENT":
            self._speakers.act(connection, item[1], actions, now_ms)
        else:
            _start_tls(connection, actions)

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
