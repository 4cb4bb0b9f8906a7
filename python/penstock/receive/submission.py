"""Mail from the program that embeds the engine: the same way to the spool, without a connection.

Content is stored as given; nothing is added to it, no trace header either, because no SMTP took place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from penstock.envelope import Envelope, QueueId, Receipt
from penstock.errors import BackPressure, ContentRefused, DraftRefused, EngineStopping, SpoolFailed, SpoolFull
from penstock.receive.entries import Entries, records
from penstock.receive.fresh import FreshMessage, Recipient

__all__ = ["Submissions"]

CHUNK_BYTES: Final = 64 * 1024
RETRY_AFTER_S: Final = 1.0
BUDGET_PAUSE_S: Final = 0.005
"""How long a program waits before it offers a chunk again that found the budget full."""
BUDGET_WAIT_S: Final = 10.0
COMMIT_GRACE_S: Final = 5.0
"""How long a cancelled submission waits for the sync that decides whether the message is stored."""

# Flags of content in plain form, as `_core.content_flags` returns them.
BARE_LINE_ENDS: Final = 1 | 2
EIGHT_BIT: Final = 16
NO_FINAL_CRLF: Final = 64


class Core(Protocol):
    """What is needed of `_core.Engine`."""

    def draft(self, size_hint: int) -> int: ...
    def write_draft(self, draft: int, chunk: bytes) -> bool: ...
    def drop_draft(self, draft: int) -> None: ...
    def commit(
        self,
        draft: int,
        envelope: tuple[Any, ...],
        prepend: bytes,
        form: Any,
        cause: list[tuple[Any, ...]],
        notes: tuple[tuple[str, str], ...],
    ) -> int: ...


class _Commit:
    """A commit under way."""

    __slots__ = ("done", "failure", "fresh")

    def __init__(self, fresh: FreshMessage) -> None:
        self.fresh = fresh
        self.done = trio.Event()
        self.failure: str | None = None


class Submissions:
    """All submissions, and those whose commit is under way."""

    def __init__(
        self,
        core: Core,
        entries: Entries,
        on_accepted: Callable[[FreshMessage], None],
        *,
        content_flags: Callable[[bytes], int],
        format_queue_id: Callable[[int], str],
        max_message_bytes: int,
        now_ms: Callable[[], int],
    ) -> None:
        """Begin with none.

        Args:
            core: Drafts and commits.
            entries: Groups recipients by next hop.
            on_accepted: Takes each message when it has become durable.
            content_flags: Says what is unusual about a content.
            format_queue_id: Writes a queue id as operators see it.
            max_message_bytes: Larger content is refused.
            now_ms: Unix time in milliseconds.
        """
        self._core = core
        self._entries = entries
        self._on_accepted = on_accepted
        self._content_flags = content_flags
        self._format_queue_id = format_queue_id
        self._max_message_bytes = max_message_bytes
        self._now_ms = now_ms
        self._committing: dict[int, _Commit] = {}
        self._is_stopping = False

    @property
    def is_idle(self) -> bool:
        """Whether no commit is under way."""
        return not self._committing

    def drain(self) -> None:
        """Take no more."""
        self._is_stopping = True

    async def submit(self, envelope: Envelope, content: bytes) -> Receipt:
        """Store a message and queue it.

        **Durability**: on return the message survives power loss. If it is cancelled before the content is
        handed over nothing is stored; after that it waits up to 5 s for the sync, and if the disk stalls
        longer than that it is not known whether the message is stored.

        Args:
            envelope: Who sends it, to whom.
            content: The message, lines ended by CRLF.

        Raises:
            ContentRefused: The content is too large, or is no message that SMTP can carry.
            SpoolFull: There is no room on the disk; nothing was stored.
            BackPressure: The spool cannot keep up; nothing was stored.
            EngineStopping: The engine is being stopped; nothing was stored.
            SpoolFailed: The disk has failed.
        """
        flags = self._judge(content)
        if self._is_stopping:
            raise EngineStopping(RETRY_AFTER_S)
        try:
            draft = self._core.draft(len(content))
        except DraftRefused as refused:
            raise _unavailable(refused.reason) from None
        try:
            await self._fill(draft, content)
            commit = self._commit(draft, envelope, content, flags)
        except BaseException:
            self._core.drop_draft(draft)
            raise
        with trio.CancelScope(shield=True) as scope:
            scope.deadline = trio.current_time() + COMMIT_GRACE_S
            await commit.done.wait()
        if not commit.done.is_set():
            # Cancellation was held back long enough; without one, there is nothing to do but wait on.
            await commit.done.wait()
        if commit.failure is not None:
            raise _unavailable(commit.failure)
        return Receipt(QueueId(self._format_queue_id(draft)), commit.fresh.received_ms)

    def _judge(self, content: bytes) -> int:
        if len(content) > self._max_message_bytes:
            raise ContentRefused("too_large", self._max_message_bytes)
        flags = self._content_flags(content)
        if flags & BARE_LINE_ENDS:
            raise ContentRefused("bad_line_ending")
        if flags & NO_FINAL_CRLF:
            # DATA cannot carry a last line without an end, and nothing is added to what was given.
            raise ContentRefused("no_final_crlf")
        return flags

    async def _fill(self, draft: int, content: bytes) -> None:
        """Write content to a draft, chunk by chunk.

        Raises:
            BackPressure: The budget of half-finished messages was full for too long.
        """
        with trio.move_on_after(BUDGET_WAIT_S):
            for start in range(0, len(content), CHUNK_BYTES):
                # The core wakes connections when there is room again, not programs.
                while not self._core.write_draft(  # noqa: ASYNC110
                    draft, content[start : start + CHUNK_BYTES]
                ):
                    await trio.sleep(BUDGET_PAUSE_S)
            return
        raise BackPressure("budget", RETRY_AFTER_S)

    def _commit(self, draft: int, envelope: Envelope, content: bytes, flags: int) -> _Commit:
        now_ms = self._now_ms()
        recipients: list[Recipient] = [
            (index, recipient.address, 0, None) for index, recipient in enumerate(envelope.recipients)
        ]
        domains = {recipient.address: recipient.domain for recipient in envelope.recipients}
        entries = self._entries.of(domains, recipients, now_ms)
        params = (None, None, bool(flags & EIGHT_BIT))
        sender = envelope.sender or ""
        size = len(content)
        ticket = self._core.commit(
            draft,
            (
                now_ms,
                sender,
                params,
                ("", "", "", ""),
                size,
                flags,
                "",
                "",
                [recipient[1:] for recipient in recipients],
                records(entries),
            ),
            b"",
            "plain",
            [],
            (),
        )
        fresh = FreshMessage(draft, sender, now_ms, size, flags, "plain", "", params, entries)
        commit = self._committing[ticket] = _Commit(fresh)
        return commit

    def committed(self, event: tuple[Any, ...]) -> bool:
        """Hand on a message that has become durable; return whether the ticket was one of ours."""
        _, ticket, _, lsn = event
        commit = self._committing.pop(ticket, None)
        if commit is None:
            return False
        commit.fresh.lsn = lsn
        self._on_accepted(commit.fresh)
        commit.done.set()
        return True

    def commit_failed(self, event: tuple[Any, ...]) -> bool:
        """Tell the caller that the spool could not store its message; return whether it was one of ours."""
        _, ticket, _, reason = event
        commit = self._committing.pop(ticket, None)
        if commit is None:
            return False
        commit.failure = reason
        commit.done.set()
        return True


def _unavailable(reason: str) -> Exception:
    """Return what a caller is told, by the spool's reason."""
    if reason in ("disk_full", "full"):
        return SpoolFull(RETRY_AFTER_S)
    if reason == "poisoned":
        return SpoolFailed("the spool's log", 0)
    return BackPressure(reason, RETRY_AFTER_S)
