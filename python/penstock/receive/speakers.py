"""Peers that speak for others by XCLIENT: whoever it is now is let in like one who has connected himself.

What XCLIENT says may come in several commands, so what was told before holds, until another address is told.
A login holds for the command that tells it, lest anybody inherits it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from penstock.receive.authentication import Authentication
from penstock.receive.connections import Connection
from penstock.receive.door import Door
from penstock.smtp import replies, server_peers
from penstock.smtp.parameters import Params
from penstock.smtp.told import Told, read_xclient, spelled

__all__ = ["Speakers"]

Action: TypeAlias = tuple[Any, ...]


class Speakers:
    """Answers XCLIENT for all sessions."""

    def __init__(self, door: Door, authentication: Authentication, journal: Callable[..., None]) -> None:
        """Join what is needed.

        Args:
            door: Lets in and out.
            authentication: Knows the users.
            journal: Takes the name of an event, its time and its fields.
        """
        self._door = door
        self._authentication = authentication
        self._journal = journal

    def act(self, connection: Connection, attributes: Params, actions: list[Action], now_ms: int) -> None:
        """Answer an XCLIENT that is in order."""
        said = read_xclient(attributes)
        if said is None:
            raise AssertionError("invariant: the session has read it")
        told = self._with(connection.told, said)
        peer_ip = told.get("ADDR", connection.met_ip)
        login = said.get("LOGIN", "")
        if login:
            user = self._user(connection, peer_ip, login)
            if user is None:
                server_peers.refuse(connection.session, connection.turn, actions)
                return
            login = user
        self._journal(
            "XCLIENT",
            now_ms,
            peer=connection.met_ip,
            session=connection.session_id,
            told=spelled(said),
        )
        # Its own place is free for whoever it is now.
        self._door.leave(connection.connector, connection.peer_ip)
        # Nobody knows which connector an address has that is not known.
        met = self._door.admit(connection.listener, peer_ip) if peer_ip else replies.NO_CONNECTOR
        if isinstance(met, bytes):
            connection.is_in = False
            server_peers.turn_away(connection.session, connection.turn, met, actions)
            return
        connection.become(met, peer_ip, told, login, actions)
        if connection.hooked is not None:
            connection.hooked.hooks.connected(connection, actions.pop(), actions)

    def _with(self, before: Told, said: Told) -> Told:
        is_another = "ADDR" in said and "ADDR" in before
        told = said if is_another else {**before, **said}
        return {name: value for name, value in told.items() if name != "LOGIN"}

    def _user(self, connection: Connection, peer_ip: str, login: str) -> str | None:
        """Return the user of a name, if that user could log in where the peer is."""
        met = self._door.find(connection.listener, peer_ip) if peer_ip else None
        if met is None or not met.settings.mechanisms:
            return None
        return self._authentication.known(login)
