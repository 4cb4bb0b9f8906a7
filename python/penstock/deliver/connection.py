"""An outgoing connection and the hop it belongs to."""

from __future__ import annotations

import sys

from penstock.deliver.seams import Event
from penstock.deliver.settings import SendConnectorSettings
from penstock.deliver.targets import Target, Targets
from penstock.queue.delivery_queue import DeliveryQueue
from penstock.queue.entry import Entry
from penstock.smtp.client_session import ClientSession
from penstock.smtp.terms import ClientTerms

__all__ = ["Connection", "SmartHostHop"]


class SmartHostHop:
    """A send connector as a next hop.

    Attributes:
        connector: Its settings.
        queue: What waits for it.
        limits: Number of the deadlines of its connections.
        terms: How it speaks.
        transactions_max: Mail transactions of a connection.
        targets: Where it connects to.
        idle: Connections that are parked; the last one is used first, so that the others can go.
    """

    __slots__ = ("connector", "idle", "limits", "queue", "targets", "terms", "transactions_max")

    def __init__(
        self, connector: SendConnectorSettings, queue: DeliveryQueue, *, fqdn: str, limits: int
    ) -> None:
        """Begin without connections.

        Args:
            connector: Its settings.
            queue: What waits for it.
            fqdn: The server's name.
            limits: Number of the deadlines of its connections.
        """
        self.connector = connector
        self.queue = queue
        self.limits = limits
        self.terms = ClientTerms(
            fqdn=connector.fqdn or fqdn,
            banner_ms=connector.banner_ms,
            reply_ms=connector.reply_ms,
            data_ms=connector.data_ms,
        )
        self.transactions_max = connector.smtp_max_messages_per_connection or sys.maxsize
        self.targets = Targets(connector.smart_hosts, connector.source_ip_address)
        self.idle: list[Connection] = []


class Connection:
    """A connection that is being made, is up, or is on its way out.

    Attributes:
        conn: Its name.
        hop: The hop it belongs to.
        target: Where it leads.
        peer: The same as it is written to records and logs.
        session: What is said on it.
        session_id: How the session is called in records and logs.
        turn: The turn of its last event.
        entry: What it delivers now.
        is_up: Whether its peer has greeted us.
        is_new: Whether no transaction has ended on it in order.
        is_parked: Whether it rests at net, with the turn ours.
        is_leaving: Whether it is on its way out: nothing that it says counts any more.
        replies_seen: Replies that were handed to the session.
        closure: The event of its end, if that came before replies that were read earlier.
    """

    __slots__ = (
        "closure",
        "conn",
        "entry",
        "hop",
        "is_leaving",
        "is_new",
        "is_parked",
        "is_up",
        "peer",
        "replies_seen",
        "session",
        "session_id",
        "target",
        "turn",
    )

    def __init__(self, conn: int, hop: SmartHostHop, target: Target, session_id: str) -> None:
        """Begin with a connection that is being made.

        Args:
            conn: Its name.
            hop: The hop it belongs to.
            target: Where it leads.
            session_id: How the session is called.
        """
        self.conn = conn
        self.hop = hop
        self.target = target
        self.peer = target.peer
        self.session = ClientSession(conn, hop.terms, target.peer)
        self.session_id = session_id
        self.turn = 0
        self.entry: Entry | None = None
        self.is_up = False
        self.is_new = True
        self.is_parked = False
        self.is_leaving = False
        self.replies_seen = 0
        self.closure: Event | None = None
