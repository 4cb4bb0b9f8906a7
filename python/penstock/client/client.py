"""The daemon over its socket, for threads and pre-forked processes.

A client connects when it is first asked and keeps its connections. Each call takes one for itself, so threads
may share a client; a connection that was made before a fork is never used after it.
"""

from __future__ import annotations

import errno
import http.client
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

from penstock.client.connection import UnixConnection, read_answer
from penstock.errors import NotFound, ProtocolMismatch, Unreachable

__all__ = ["DEFAULT_URL", "Client", "Page"]

DEFAULT_URL: Final = "unix:///run/penstock/control.sock"
LIMIT_MAX: Final = 10_000
"""Rows that the daemon gives at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Part of a list.

    Attributes:
        items: Rows, as docs/control.md describes them.
        next: Cursor of the page after this, or None.
        complete: False when the daemon's own deadline came first.
        at: The daemon's time, RFC 3339.
    """

    items: tuple[dict[str, Any], ...]
    next: str | None
    complete: bool
    at: str


class Client:
    """Asks a running daemon.

    Every call may raise, beside what it says itself: `Unreachable` (no daemon answers, or not this user),
    `Unavailable` (ask again later), `ProtocolMismatch` (the daemon is another version), `ControlError` (the
    daemon failed). **Blocking**: up to `timeout_s` for each step.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = 10.0) -> None:
        """Remember where the daemon is; nothing is connected yet.

        Args:
            url: `unix:///PATH`.
            timeout_s: How long to wait for the daemon, seconds; for each step of a call.

        Raises:
            ValueError: The URL is of another kind.
        """
        scheme, _, path = url.partition("://")
        if scheme != "unix" or not path.startswith("/") or "\0" in path:
            raise ValueError(f"not the URL of a control socket: {url!r}")
        self._path = path
        self._timeout_s = timeout_s
        # Appending and popping need no lock of ours, so a fork cannot find one taken.
        self._idle: deque[tuple[int, UnixConnection]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are idle. The client can be used again."""
        while self._idle:
            self._idle.pop()[1].close()

    def status(self) -> dict[str, Any]:
        """Return what the daemon is and how it is."""
        return self._get("/v1/status")

    def queues(self) -> Page:
        """Return all delivery queues that hold something."""
        return _page(self._get("/v1/queues"))

    def messages(self, *, queue: str | None = None, limit: int = 1000, cursor: str | None = None) -> Page:
        """Return one page of messages, one row per message and queue, oldest first.

        Args:
            queue: Identity of a queue; None for all.
            limit: Rows at most, 1 to 10,000; the rows of one message are never split.
            cursor: `next` of the page before.

        Raises:
            NotFound: There is no such queue.
            Ambiguous: The name fits several.
            ValueError: The daemon refuses limit or cursor.
        """
        given = {"queue": queue, "limit": str(limit), "cursor": cursor}
        if queue is not None:
            _check_identity(queue)
        if cursor is not None and not cursor.isprintable():
            raise ValueError("The cursor is none of this daemon's.")
        query = urlencode({name: value for name, value in given.items() if value is not None})
        return _page(self._get(f"/v1/messages?{query}"))

    def message_pages(
        self, *, queue: str | None = None, limit: int = 1000, cursor: str | None = None
    ) -> Iterator[Page]:
        """Yield pages until `limit` rows have come, one is not complete, or there are no more.

        Raises as `messages` does.
        """
        while True:
            page = self.messages(queue=queue, limit=min(limit, LIMIT_MAX), cursor=cursor)
            yield page
            limit -= len(page.items)
            cursor = page.next
            if cursor is None or limit <= 0 or not page.complete:
                return

    def message(self, identity: str) -> dict[str, Any]:
        r"""Return a message with an entry for every queue that it waits in.

        Args:
            identity: `ID`, `QUEUE\ID` or `SERVER\QUEUE\ID`; `/` does as well.

        Raises:
            NotFound: There is no such message.
            Ambiguous: The queue's name fits several.
        """
        _check_identity(identity)
        return self._get(f"/v1/messages/{quote(identity, safe='')}")

    def _get(self, target: str) -> dict[str, Any]:
        try:
            kept = self._take()
            if kept is not None:
                try:
                    return self._ask(kept, target)
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    # The daemon has closed it while it was idle; a question may be asked again.
                    pass
            return self._ask(UnixConnection(self._path, self._timeout_s), target)
        except PermissionError:
            reason = "only its owner and root may use it"
            raise Unreachable(self._path, reason, is_forbidden=True) from None
        except TimeoutError:
            raise Unreachable(self._path, f"no answer within {self._timeout_s:g} s") from None
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            raise Unreachable(self._path, "it hung up") from None
        except http.client.HTTPException:
            raise ProtocolMismatch("unknown") from None
        except OSError as error:
            raise Unreachable(self._path, _reason(error)) from None

    def _take(self) -> UnixConnection | None:
        """Return an idle connection of this process; those from before a fork are dropped."""
        while self._idle:
            try:
                process, connection = self._idle.pop()
            except IndexError:
                # Another thread was faster.
                return None
            if process == os.getpid():
                return connection
            connection.close()
        return None

    def _ask(self, connection: UnixConnection, target: str) -> dict[str, Any]:
        is_reusable = False
        try:
            connection.request("GET", target, headers={"Accept": "application/json"})
            response = connection.getresponse()
            try:
                return read_answer(response)
            finally:
                # Read to its end, and neither side has said that it will close.
                is_reusable = response.isclosed() and not response.will_close
                response.close()
        finally:
            if is_reusable:
                self._idle.append((os.getpid(), connection))
            else:
                connection.close()


def _check_identity(identity: str) -> None:
    """Refuse what no queue or message is called and no request can carry.

    Raises:
        NotFound: It has characters that cannot be printed.
    """
    if not identity.isprintable():
        raise NotFound(identity)


def _page(answer: Mapping[str, Any]) -> Page:
    try:
        return Page(
            items=tuple(answer["items"]),
            next=answer.get("next"),
            complete=answer["complete"],
            at=answer["snapshot"]["at"],
        )
    except (KeyError, TypeError):
        raise ProtocolMismatch("unknown") from None


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return ""
    return error.strerror or str(error)
