"""The Rust half of Penstock: bytes, sockets, durability. No decision is taken in it.

Everything here is called from one thread. Nothing calls back: what happens below is fetched with
`Engine.poll`, what is decided above is handed down with `Engine.apply`.

Numbers: queue ids are 64-bit; a hop is a small number valid in this process; times are Unix milliseconds;
sizes are octets. A connection's *turn* is the number of the event that hands it over; an action names the
turn that it answers, and one whose turn has passed is dropped.

Events, each a tuple that begins with its name:

    ("opened", conn, turn, listener, peer_ip, peer_port, local_ip, local_port, proxy_ip or None)
        proxy_ip: who has told the addresses, by the PROXY protocol
    ("proxy_refused", listener, peer_ip, peer_port, why)     gone; no connection was told of
        why: absent, malformed, too_long, checksum, timed_out, ended
    ("commands", conn, turn, items, early, eof, answered)
        items: ("EHLO", domain) ("LHLO", domain) ("HELO", domain) ("MAIL", address, domain, params)
        ("RCPT", ...) ("DATA",)
        ("RSET",) ("NOOP",) ("VRFY", text) ("EXPN", text) ("HELP", text) ("QUIT",) ("STARTTLS",)
        ("AUTH", mechanism, initial or None) ("BDAT", octets, is_last) ("unknown", verb)
        ("XCLIENT", params) ("XFORWARD", params)
        ("malformed", kind, offset, verb);
        initial: the initial response, decoded; a secret, to be neither kept nor told
        params: tuple of (key, value or None)
        answered: how many of the first ones were answered under a grant; no action counts them
    ("tls_up", conn, turn, version, cipher, sni or None, client_certificate or None, is_resumed)
        version: 1.2, 1.3; cipher: as IANA names it; client_certificate: (facts, fingerprint), facts as of
        `read_certificate`, fingerprint the SHA-256 in hexadecimal digits; nobody has looked at who vouches.
        Answered by a reply to one command: the banner, or nothing after STARTTLS. Nothing of before survives.
    ("auth_line", conn, turn, what, response, early)
        what: response (decoded, a secret), cancel, or as the kind of a malformed line; the latter two with
        an empty response; early: octets came behind it
    ("content", conn, turn, draft, status, flags, size, received, message_id, subject, from, header)
        status: complete, too_large, bad_line_ending, nul, starved; header: (octets, has a Date, has a
        Message-ID, changes), changes the bits of what was changed of the content: 2 line feeds, 4 Bcc
    ("closed", conn, reason, draft or None)         tls: a handshake failed, or what followed was no TLS
    ("connected", conn, turn, local_ip)
    ("dial_failed", conn, stage, errno, text)       stage: socket, bind, connect
    ("replies", conn, turn, first, [(code, enhanced or None, lines), ...])
    ("client_closed", conn, reason, replies_seen, content)       content: none, partial, terminated
    ("committed", ticket, queue_id, lsn)
    ("commit_failed", ticket, queue_id, why)        why: full, poisoned
    ("checkpoint", watermark)
    ("answer", request, answer)                     answer: None if the index could not be read
    ("dropped", request, ok, detail)
    ("damaged", queue_id)                           before whatever was reading the content ends
    ("poisoned", errno, text)

Actions:

    ("begin", conn, turn, limits, banner, delay_ms[, tls])         begins with TLS, without a banner
    ("start_tls", conn, turn, tls, reply)           octets behind the STARTTLS end the connection, unanswered
    ("restart", conn, turn, limits, banner)         answers XCLIENT; octets behind it end the connection
    ("reply", conn, turn, octets, answers, delay_ms, close[, grant])
        octets may be empty and answers 0: the answer will come, and the turn is kept anew; an end of the
        connection is then told without waiting for it
    ("take", conn, turn, draft, limit_bytes, reply)
    ("take_chunk", conn, turn, draft or None, limit_bytes, is_binary, reply)
        None: the draft of the chunks before; reply: when the chunk has come, unless it is the last
    ("discard", conn, turn, reply, delay_ms)        refuses a BDAT; its chunk is passed over
    ("forget", conn, turn)                          drops the chunks so far; does not end the turn
    ("challenge", conn, turn, octets)               what the peer sends next is an auth_line
    ("await_durable", conn, turn, ticket, ok, failed[, grant])
    ("flight", conn, turn, [(octets, replies, deadline_ms), ...])
    ("content", conn, turn, queue_id, hop, attempt, peer, flight)
    ("park", conn, turn, idle_ms)
    ("close", conn, turn, quit)
    ("abort", conn)
    ("drop", request, queue_id, hop, attempt, directory, prepend)

A grant, MAIL or DATA, lets that command be answered with the standard reply of `server_limits` if it is the
next, alone, and nothing is unusual about it; the `commands` event that follows has the MAIL, and the
`content` event a draft that nobody has opened.

Facts:

    ("settled", queue_id, hop, attempt, due_ms or None, outcomes, peer, session)
        outcomes: [(recipient, address, state, stage, code, enhanced, text), ...]
    ("hop", hop, state, last_error, next_retry_ms, failures)       state: ready, retry, suspended
    ("routed", queue_id, hop, [(hop, [recipient, ...], due_ms), ...])

Edits: ("suspend", cause) with cause operator or restored, ("resume",), ("remove",), ("redirect", hop,
due_ms), ("expire", expires_ms), ("prioritise", priority), ("due", due_ms). An author is (who, why, at_ms). An
entry is (queue_id, hop, version or None); its version is the number of the last record that changed it.

The envelope of a commit: (received_ms, sender, params, (connector, peer_ip, helo, session), size, flags,
message_id, subject, [(address, notify, orcpt), ...], [(hop, [recipient, ...], priority, due_ms, expires_ms),
...]). Params are (ret, envid, eight_bit), with a fourth item if there is more: (smtp_utf8, binary,
require_tls, deliver_by or None, release_ms or None, mt_priority or None, auth_sender or None, changes), the
last no parameter but what was changed of the content: 1 missing fields were prepended, 2 and 4 as above.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias, final

__all__ = [
    "DraftReader",
    "Engine",
    "Execution",
    "MemoryPeer",
    "Progress",
    "content_flags",
    "forbid_core_dumps",
    "format_queue_id",
    "parse_queue_id",
    "parse_toml",
    "read_certificate",
    "spool_backup",
    "spool_check",
    "spool_count",
    "spool_release",
    "spool_restore",
    "spool_salvage",
]

_Event: TypeAlias = tuple[Any, ...]
_Action: TypeAlias = tuple[Any, ...]
_Fact: TypeAlias = tuple[Any, ...]

def forbid_core_dumps() -> None:
    """Have the system write no image of this process when it dies, and let nobody but root look into it.

    Raises:
        OSError: The system refuses (prctl(2), PR_SET_DUMPABLE).
    """

def format_queue_id(queue_id: int) -> str:
    """Return the 13 base-32 characters by which operators know a message."""

def parse_queue_id(text: str) -> int:
    """Return the number behind a queue id; case, i/l for 1 and o for 0 are forgiven.

    Raises:
        ValueError: The text is no queue id.
    """

def content_flags(content: bytes) -> int:
    """Return the flags of content in plain form (not dot-stuffed).

    Bits: 1 bare CR, 2 bare LF, 4 NUL, 8 lines that begin with a dot, 16 octets above 127,
    32 lines of more than 998 octets, 64 does not end with CRLF.
    """

def parse_toml(text: str) -> tuple[tuple[str, Any, int, int, int], list[tuple[str, int, int, int]]]:
    """Parse TOML 1.1; return its top table, and what is wrong with it as (what, line, column, width).

    A node is (kind, value, line, column, width); kinds are `string`, `integer`, `float`, `boolean`,
    `datetime` (its text), `array` (list of nodes) and `table` (list of (key, line, column, width, node), as
    written). Lines and columns count from 1, columns and widths in characters. If anything is wrong, nothing
    in the table is to be believed.
    """

def read_certificate(
    chain: bytes, key: bytes
) -> tuple[tuple[str, str, tuple[str, ...], int, int], int, bool]:
    """Read a certificate with those that vouch for it, and its key, in PEM; return (facts, length, is_own).

    Facts are (subject, issuer, DNS names, not before, not after), times in seconds since 1970; length is the
    number of certificates in the chain; is_own, whether the certificate names itself as its issuer.

    Raises:
        CertificateUnusable: One cannot be read, or they do not belong together.
    """

@final
class Engine:
    """Spool, sockets, Maildirs and journal.

    Raises on construction: `SpoolLocked`, `SpoolFormat`, `SpoolFailed`, `SpoolDamaged` of
    `penstock.errors`, or `OSError`. **Blocking**: recovers the spool; the interpreter's lock is released.
    """

    def __new__(
        cls,
        *,
        spool: str,
        io_threads: int = 1,
        inline: bool = False,
        connections_max: int = 50_000,
        options: dict[str, int] = ...,
        journal: str | None = None,
    ) -> Engine:
        """Open the spool in directory `spool`.

        Args:
            spool: Directory of the spool; made (0700) if it does not exist.
            io_threads: Reactor threads, 1 or more.
            inline: No threads at all: everything happens in `step`. For tests.
            connections_max: Incoming connections at a time; one more is told 421 4.3.2.
            options: `segment_bytes`, `checkpoint_ms`, `checkpoint_bytes`, `checkpoint_records`, `map_bytes`,
                `blob_bytes`, `draft_budget_bytes`, `free_min_bytes`, `clean_bytes_per_s`, `kept_ms`,
                `kept_max_bytes`, `node`.
            journal: File for one JSON line per message event.
        """

    @property
    def recovery(self) -> dict[str, Any]:
        """What was found at open: `messages`, `records`, `took_ms`, `in_doubt`, `damaged`."""

    def fileno(self) -> int:
        """Return the eventfd that is readable while `poll` has something."""

    def ring(self) -> None:
        """Make the eventfd readable once although nothing has happened."""

    def poll(self, limit: int) -> list[_Event]:
        """Return up to `limit` events; never blocks.

        With events a turn begins that ends with the next `apply`: what `commit` and `append` are given
        meanwhile is passed on there, all at once.
        """

    def apply(self, actions: list[_Action]) -> None:
        """Carry out actions, in order, and end the turn; never blocks on a disk or a peer.

        Raises:
            ValueError: No action has this name.
        """

    def listen(
        self,
        listener: int,
        host: str,
        port: int,
        *,
        proxies: list[tuple[str, str]] = ...,
        proxy_header_ms: int = 0,
    ) -> tuple[str, int]:
        """Listen on an IP address; return what was bound. Never shares a port.

        Args:
            listener: A number, by which `opened` names it.
            host: The address.
            port: The port; 0 for any that is free.
            proxies: Ranges of addresses, first and last, of peers that have to begin with the PROXY protocol.
            proxy_header_ms: How long that may take.

        Raises:
            OSError: The address cannot be bound.
            ValueError: An address is none.
        """

    def stop_listening(self, listener: int) -> None:
        """Stop accepting; connections that exist go on."""

    def server_limits(self, limits: dict[str, int], standard: tuple[bytes, bytes, int] | None = None) -> int:
        """Register limits for incoming connections; return their number.

        `standard` has what may be granted: the reply to MAIL, the one to DATA, and the largest message.

        Keys: `idle_ms`, `total_ms`, `command_ms`, `min_rate_bytes_s`, `rate_window_ms`, `header_bytes`,
        `handshake_ms`, `output_bytes` (how much may wait for the peer); `changes` (bits of what is changed of
        content: 2 bare LFs, 4 Bcc); and 0 or 1 for `is_lenient` (commands are read as devices write them; 0
        unless given), `takes_utf8` (paths may have UTF-8; 0 unless given), `takes_size` and `takes_body`
        (what a granted MAIL may say), `takes_codes` (replies of net's own have enhanced status codes).

        Raises:
            ValueError: A key is unknown.
        """

    def server_tls(
        self,
        certificates: Sequence[tuple[bytes, bytes]],
        *,
        minimum: str,
        client_certificates: str,
        number: int | None = None,
    ) -> int:
        """Register what is shown in handshakes, or replace it from the next one on; return its number.

        Args:
            certificates: Chain and key of each, in PEM. The client's SNI picks; the first is for all others.
            minimum: The oldest version of TLS: `1.2` or `1.3`.
            client_certificates: `none` or `ask`.
            number: What is replaced; on an error that stays as it is.

        Raises:
            CertificateUnusable: One cannot be used.
            ValueError: There is none, or a word or number is unknown.
        """

    def client_limits(self, limits: dict[str, int]) -> int:
        """Register limits for outgoing connections; return their number.

        Keys: `connect_ms`, `banner_ms`, `block_ms`, `dot_ms`.

        Raises:
            ValueError: A key is unknown.
        """

    def dial(self, ip: str, port: int, source: str | None, limits: int) -> int:
        """Ask for a connection; return its token. `connected` or `dial_failed` follows."""

    def hop(self, connector: str, kind: str, destination: str) -> int:
        """Return the number of a next hop, the same one for the same three values."""

    def draft(self, size_hint: int) -> int:
        """Open a draft; return its number, which is its message's queue id.

        Raises:
            DraftRefused: There is no room now.
        """

    def write_draft(self, draft: int, chunk: bytes) -> bool:
        """Add content; return False when the budget is full and the same chunk must be offered again."""

    def draft_reader(self) -> DraftReader:
        """Return what reads drafts that no connection is filling, from any thread."""

    def drop_draft(self, draft: int) -> None:
        """Forget a draft; one that is gone already is no error."""

    def commit(
        self,
        draft: int,
        envelope: tuple[Any, ...],
        prepend: bytes,
        form: Literal["wire", "plain"],
        cause: list[_Fact],
        notes: tuple[tuple[str, str], ...],
    ) -> int:
        """Hand a draft to the writer; return the ticket of its `committed` or `commit_failed` event.

        `notes` are fields that the journal's line has besides: pairs of a name and a text.

        **Durability**: none on return. After `committed` the message and every fact in `cause` survive
        power loss, as one: both or neither.
        """

    def append(self, facts: list[_Fact]) -> int:
        """Append facts to the log, in order; return the last one's log sequence number.

        **Durability**: written at once, so they survive the process; synced within some 10 ms.
        """

    def request(self, kind: str, *arguments: Any) -> int:
        """Ask the index; return the number of the `answer` event.

        It reflects everything that was appended before. Kinds, their arguments, and their answers:

            hops                     (watermark, [(hop, connector, kind, destination, count, bytes, oldest_ms,
                                     earliest_due_ms, state, last_error, next_retry_ms, failures,
                                     suspended), ...])
            refill hop limit now_ms  (watermark, complete, next_due_ms, entries)
            expired now_ms limit     the same; an entry: (queue_id, hop, priority, lane, due_ms, attempts,
                                     expires_ms, received_ms, sender, [(recipient, address, notify, orcpt),
                                     ...], size, flags, form, message_id, params, in_doubt,
                                     version, suspended: operator, restored or None)
            entry queue_id hop       the same, with that entry or none
            messages after limit hop (watermark, next, [message, ...])
            message queue_id         (watermark, message or None)
            kept after limit         (watermark, next, [kept message, ...]); `after` and `next` are None or
                                     (until_ms, queue_id)
            header queue_id limit    the header section, or None
            sync, checkpoint         the log sequence number up to which it is done

        Queries, each answered by an `Execution` after one step within a budget of `rows` looked at and `ms`
        milliseconds (at most 1,000,000 and 1,000); the first step reflects everything appended before:

            query_messages tree standing select sort cursor limit rows ms
            query_queues   the same
            count          table tree standing rows ms
            group          table tree standing by top rows ms
            go_on          execution rows ms          (the execution that was handed in is spent)

            tree: ("and", tree, ...) ("or", tree, ...) ("not", tree) ("in", property, (value, ...))
                ("null", property) (operator, property, value); operator: eq, ne, lt, le, gt, ge, like;
                value: text, number, True or False
            standing: (now_ms, [(queue_id, hop) of attempts under way, ...], [hop being connected to, ...])
            select: [property, ...]; sort: [(property, is_descending), ...]; cursor: octets or None
            table: messages, queues; properties: `penstock.queries`

        Raises:
            ValueError: No question has this name.
            QueryRefused: The query cannot be asked; see `penstock.errors`.
        """

    def edit(
        self,
        edit: tuple[Any, ...],
        author: tuple[str, str, int],
        entries: Sequence[tuple[int, int, int | None]],
    ) -> int:
        """Edit entries, each by itself; return the number of the `answer` event.

        It has a result for each, in order: ("done", lsn), ("unchanged", version), ("conflict", version),
        ("gone", 0) or ("busy", 0), which says that nothing was changed; None if the log has failed, and
        nobody knows.

        **Durability**: none on return; what the answer says is done survives power loss.

        Raises:
            ValueError: There is no such edit, hop or priority.
        """

    def remove(
        self,
        author: tuple[str, str, int],
        entry: tuple[int, int, int | None],
        draft: int,
        envelope: tuple[Any, ...],
    ) -> int:
        """Remove an entry and store the report of that, in plain form, as one: both or neither.

        The answer is as for `edit`; there is no `committed` event.
        """

    def suspended_queues(self) -> list[tuple[int, str, str, int]]:
        """Return the queues that operators have suspended: hop, who, why, when."""

    def suspend_queue(self, hop: int, author: tuple[str, str, int] | None) -> int:
        """Keep that a queue is suspended, or without an author resumed; return the number of the `answer`.

        **Durability**: what was answered with a number survives power loss; after None the next open finds
        the old or the new.
        """

    def metrics(self) -> list[tuple[str, tuple[str, ...], float]]:
        """Return every counter as (name without prefix, label values, value)."""

    def log(self, line: str) -> None:
        """Add a line, with its line feed, to the journal."""

    def close(self) -> None:
        """End connections, sync, checkpoint, release the lock.

        **Durability**: on return all facts survive power loss. **Blocking**: on the disk.
        """

    def step(self, now_ms: int) -> None:
        """Inline mode: run until nothing moves."""

    def next_deadline_ms(self) -> int | None:
        """Inline mode: return when the next deadline is."""

    def memory_connect(self, listener: int, peer_ip: str) -> MemoryPeer:
        """Inline mode: connect a peer in memory to a listener number."""

    def memory_accept(self) -> MemoryPeer | None:
        """Inline mode: return the far end of the next dialled connection."""

@final
class DraftReader:
    """Reads drafts; its methods may be called from any thread, also when the engine is closed."""

    def read(self, draft: int, offset: int, length: int) -> bytes:
        """Return up to `length` octets of a draft from an offset on, perhaps fewer; none behind the last.

        **Blocking**: on the disk if the content is large; the interpreter's lock is released.

        Raises:
            LookupError: There is no such draft, or not any more.
            OSError: The octets cannot be had: the content could not be stored.
        """

@final
class Execution:
    """A query with what it has found so far. One that is dropped is over."""

    @property
    def is_complete(self) -> bool:
        """Whether another step would find nothing new: the page is full, or all rows were looked at."""

    @property
    def is_busy(self) -> bool:
        """Whether the step was not taken, because too many queries wait."""

    @property
    def examined(self) -> int:
        """How many rows were looked at."""

    @property
    def watermarks(self) -> tuple[int, int] | None:
        """What the first and the last snapshot reflect, as log sequence numbers; None before the first."""

    def result(self, core: Engine) -> Any:
        """Return what was found.

        For a page (rows, cursor or None); for a count (count, bytes); for a group
        ([(value, count, bytes), ...], (count, bytes) of all others, is_exact, (count, bytes) of all).

        A row is a tuple of what was selected; a hop is its number, or None if it has none in this process.
        """

@final
class MemoryPeer:
    """The far end of a connection in memory."""

    def send(self, data: bytes) -> None:
        """Send octets to the engine."""

    def recv(self) -> bytes:
        """Return all octets that the engine has sent since the last call."""

    def shutdown_write(self) -> None:
        """End our sending side, as a FIN does."""

    def reset(self) -> None:
        """Break the connection, as a RST does."""

    def is_closed(self) -> bool:
        """Return whether the engine has closed the connection."""

@final
class Progress:
    """How far a tool is; may be read from another thread."""

    def __new__(cls) -> Progress:
        """Begin at 0."""

    def octets(self) -> int:
        """Return how many octets of the log were read or copied."""

def spool_check(path: str | PathLike[str], progress: Progress) -> dict[str, Any]:
    """Check a spool; `problems` has what is wrong, the first 1,000 of `problems_count`.

    With `is_in_use` an engine has it open: then its log was read, and neither index nor blobs.

    The functions on spools raise SpoolLocked, SpoolFormat, SpoolFailed, or SpoolDamaged, and block as long as
    it takes, without the interpreter's lock.
    """

def spool_salvage(
    path: str | PathLike[str], keep_until_ms: int | None, dry_run: bool, progress: Progress
) -> dict[str, Any]:
    """Make the index of a spool anew from its log, or tell what that would come to.

    **Durability**: on return the new index survives power loss.
    """

def spool_count(path: str | PathLike[str]) -> dict[str, Any]:
    """Tell what a spool takes and holds.

    With `is_in_use` an engine has it open: then `live_bytes`, `messages` and `epoch` are None.
    """

def spool_backup(
    path: str | PathLike[str], directory: str | PathLike[str], progress: Progress
) -> dict[str, Any]:
    """Copy a spool, also while it is in use. **Durability**: on return the copy survives power loss."""

def spool_restore(
    directory: str | PathLike[str], path: str | PathLike[str], progress: Progress
) -> dict[str, Any]:
    """Bring a backup back where there is no spool. **Durability**: on return it survives power loss."""

def spool_release(path: str | PathLike[str]) -> bool:
    """Let what was brought back be tried from the next open on; return whether it was held back."""
