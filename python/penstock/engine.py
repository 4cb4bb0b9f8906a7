"""The engine: builds everything once, starts and stops it in order, hands events to those they concern.

Stopping goes in this order: no new connections; idle peers are told 421, transactions under way may finish;
no new attempts, those past the final dot wait for their reply; outcomes synced; checkpoint; lock released.
What the grace cuts off is in doubt, never lost.
"""

from __future__ import annotations

import platform
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from os import PathLike
from typing import Any, Final, TypeAlias

import trio

from penstock import _core
from penstock.alarms import disk_alarms, spool_alarms
from penstock.assembly import (
    about,
    asking,
    deliver_settings,
    listen,
    open_core,
    pressure,
    receive_settings,
    refuse_open_relay,
    router,
    servers,
)
from penstock.config.loader import load
from penstock.config.settings import Config
from penstock.control.views import State
from penstock.deliver.deliverer import Deliverer
from penstock.deliver.resolver import Resolver
from penstock.dispatcher import Dispatcher, Handler, now_ms
from penstock.edits import Edits
from penstock.envelope import Envelope, Receipt
from penstock.errors import EngineClosed, SpoolFailed
from penstock.groups import bare
from penstock.hooks import HOOK_TIMEOUT_S, ReceiveHooks
from penstock.observe.journal import Journal
from penstock.observe.lag import LAG_BOUNDS_S, watch
from penstock.observe.metrics import Counts, Histogram, Sample, registry_of, render
from penstock.overload import Overload
from penstock.querying import Queries, Queryable, Standing
from penstock.questions import Questions
from penstock.receive.entries import Entries
from penstock.receive.receiver import Receiver
from penstock.receive.settings import MESSAGE_BYTES_MAX
from penstock.receive.submission import Submissions
from penstock.views import EngineViews, Now

__all__ = ["Engine", "open_engine"]

Action: TypeAlias = tuple[Any, ...]
Event: TypeAlias = tuple[Any, ...]

GRACE_S: Final = 30.0
"""How long a stop waits for what is under way."""
DRAIN_STEP_S: Final = 0.02
SYNC_S: Final = 10.0
"""How long a stop waits for the last sync before it leaves that to the closing of the spool."""
GENERATION: Final = 1
"""Of the configuration; it counts reloads, of which there are none yet."""


class Engine(Queryable):
    """A running engine; `open_engine` makes one.

    Attributes:
        edits: Changes of messages that wait and of queues; see `Edits.messages` and `Edits.queue`.
    """

    def __init__(
        self, config: Config, core: _core.Engine, receive: Sequence[ReceiveHooks], hook_timeout_s: float
    ) -> None:
        """Build everything on an open spool; nothing runs yet."""
        self._config = config
        self._core = core
        self._started_ms = now_ms()
        self._state: State = "starting"
        self._failure: SpoolFailed | None = None
        self._on_failure: Callable[[], None] = lambda: None
        self._bound: list[tuple[str, int]] = []
        self._is_over = trio.Event()
        self._grace = trio.CancelScope()
        self._dispatcher = Dispatcher(core, now_ms)
        self._counts = Counts()
        self._lag = Histogram("event_loop_lag_seconds", LAG_BOUNDS_S)
        self._journal = Journal(core.log)
        self._questions = Questions(core)
        self._queries = Queries(self._questions.ask, core, self._standing)
        routes = router(config)
        reception = self._reception = receive_settings(config)
        self._deliverer = Deliverer(
            core,
            deliver_settings(config),
            routes,
            Resolver(),
            wake=self._dispatcher.wake,
            count=self._counts.add,
            journal=self._journal.event,
            format_queue_id=_core.format_queue_id,
            content_flags=_core.content_flags,
            jitter=random.random,
        )
        short = pressure(config)
        journal = self._journal.event
        hooks = asking(receive, core, routes, hook_timeout_s, journal, now_ms)
        self._receiver = Receiver(
            core, reception, routes, self._deliverer.accepted, _core.format_queue_id, short, journal, hooks
        )
        refuse_open_relay(config, self._receiver)
        self._overload = Overload(
            short,
            core_samples=core.metrics,
            queue_samples=self._deliverer.samples,
            act=self._receiver.press,
            journal=self._journal.event,
            now_ms=now_ms,
        )
        self._submissions = Submissions(
            core,
            Entries(core, routes, reception.message_expiration_ms),
            self._deliverer.accepted,
            content_flags=_core.content_flags,
            format_queue_id=_core.format_queue_id,
            max_message_bytes=MESSAGE_BYTES_MAX,
            now_ms=now_ms,
        )
        self.edits = Edits(
            core,
            self._deliverer.edits,
            ask=self._questions.ask,
            wait=self._questions.wait,
            count=self._counts.add,
            journal=self._journal.event,
            now_ms=now_ms,
            format_queue_id=_core.format_queue_id,
        )
        self._sources: tuple[Callable[[], Iterator[Sample]], ...] = (
            self._own_samples,
            self._dispatcher.samples,
            self._counts.samples,
            self._lag.samples,
            self._receiver.samples,
            self._deliverer.samples,
            self._overload.samples,
        )
        self._registry = registry_of(core.metrics, *self._sources)

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """What was bound: IP address and port of each listener, in the order of the configuration."""
        return tuple(self._bound)

    @property
    def waiting(self) -> int:
        """Messages that were in the spool when it was opened."""
        return int(self._core.recovery["messages"])

    @property
    def send_connectors(self) -> tuple[str, ...]:
        """Names of the send connectors that are enabled."""
        return tuple(connector.name for connector in self._config.send_connectors if connector.enabled)

    async def submit(self, envelope: Envelope, content: bytes) -> Receipt:
        """Store a message and queue it; see `Submissions.submit`.

        **Durability**: on return the message survives power loss.

        Raises:
            EngineClosed: The engine has been stopped.
            SubmissionError: The message cannot be taken as it is.
            Unavailable: It cannot be taken now; nothing was stored.
            SpoolFailed: The disk has failed.
        """
        if self._is_over.is_set():
            raise EngineClosed
        return await self._submissions.submit(envelope, content)

    async def stop(self, *, grace_s: float = GRACE_S) -> None:
        """Stop in order; may be called while the context that made the engine goes on.

        **Durability**: on return every outcome that is known survives power loss.

        Args:
            grace_s: How long transactions and attempts under way may take to finish.
        """
        if self._state == "draining":
            await self._is_over.wait()
        if self._is_over.is_set():
            return
        self._state = "draining"
        for listener in range(len(self._bound)):
            self._core.stop_listening(listener)
        self._receiver.drain()
        self._submissions.drain()
        self._deliverer.drain()
        self._dispatcher.wake()
        with trio.move_on_after(grace_s) as self._grace:
            await self._come_to_rest()
        if self._failure is None:
            with trio.move_on_after(SYNC_S):
                await self._questions.ask("sync")
        self._questions.end()
        self._journal.event("STOP", now_ms())
        self._is_over.set()

    def hurry(self) -> None:
        """End the grace of a stop that is under way: what is still under way then is cut off."""
        self._grace.cancel()

    async def _come_to_rest(self) -> None:
        """Wait until nothing is under way any more; say goodbye to peers as they fall idle."""
        while self._failure is None:
            farewells: list[Action] = []
            self._receiver.dismiss_idle(farewells)
            self._core.apply(farewells)
            if self._receiver.is_idle and self._submissions.is_idle and self._deliverer.is_idle:
                return
            await trio.sleep(DRAIN_STEP_S)

    # Life; called by `open_engine`.

    async def _start(self, nursery: trio.Nursery) -> None:
        """Bind, serve, deliver.

        Raises:
            BindFailed: An address cannot be had.
        """
        config = self._config
        self._on_failure = nursery.cancel_scope.cancel
        self._bound.extend(listen(self._core, config, self._reception))
        for serve in servers(config, self._views()):
            await nursery.start(serve)
        if self._core.recovery["is_restored"]:
            self._deliverer.drain()
        self._deliverer.start(now_ms())
        await nursery.start(self._receiver.run)
        nursery.start_soon(self._dispatcher.run, self._handlers(), self._deliverer.turn)
        nursery.start_soon(self._deliverer.run)
        nursery.start_soon(watch, self._lag)
        nursery.start_soon(self._overload.run)
        self._journal.event(
            "START",
            now_ms(),
            version=version("penstock"),
            generation=GENERATION,
            listeners=len(self._bound),
            waiting=self.waiting,
        )
        self._state = "ready"

    def _handlers(self) -> dict[str, Handler]:
        """Return who handles which event."""
        receiver, deliverer, submissions = self._receiver, self._deliverer, self._submissions

        def committed(event: Event, _actions: list[Action], _now_ms: int) -> None:
            # Most tickets are the receiver's.
            _ = receiver.committed(event) or deliverer.committed(event) or submissions.committed(event)

        def commit_failed(event: Event, _actions: list[Action], _now_ms: int) -> None:
            # All of them: that the disk is full is news for each.
            receiver.commit_failed(event)
            deliverer.commit_failed(event)
            submissions.commit_failed(event)

        def answer(event: Event, actions: list[Action], at_ms: int) -> None:
            _ = deliverer.answer(event, actions, at_ms) or self._questions.answer(event)

        def closed(event: Event, _actions: list[Action], _now_ms: int) -> None:
            receiver.closed(event)

        return {
            "opened": receiver.opened,
            "proxy_refused": receiver.proxy_refused,
            "commands": receiver.commands,
            "tls_up": receiver.tls_up,
            "auth_line": receiver.auth_line,
            "content": receiver.content,
            "closed": closed,
            "committed": committed,
            "commit_failed": commit_failed,
            "connected": deliverer.connected,
            "dial_failed": deliverer.dial_failed,
            "replies": deliverer.replies,
            "client_closed": deliverer.client_closed,
            "dropped": deliverer.dropped,
            "damaged": deliverer.damaged,
            "answer": answer,
            "checkpoint": deliverer.checkpoint,
            "poisoned": self._poisoned,
        }

    def _poisoned(self, event: Event, _actions: list[Action], _now_ms: int) -> None:
        """A sync has failed: no ack, no attempt, no second try of that sync (see ARCHITECTURE.md)."""
        _, code, _ = event
        self._failure = SpoolFailed(self._config.spool_path, code)
        self._state = "failed"
        self._receiver.poisoned()
        self._deliverer.drain()
        self._on_failure()

    # What operators see.

    def _views(self) -> EngineViews:
        return EngineViews(
            about(self._config, self._bound, started_ms=self._started_ms, generation=GENERATION),
            ask=self._questions.ask,
            delivering=self._deliverer,
            now=self._now,
            now_ms=now_ms,
            metrics=partial(render, self._registry),
            format_queue_id=_core.format_queue_id,
            parse_queue_id=_core.parse_queue_id,
        )

    def _now(self) -> Now:
        samples = {(name, labels): value for name, labels, value in self._core.metrics()}
        for source in self._sources:
            samples.update({(name, labels): value for name, labels, value in source()})
        problems = [*self._receiver.alarms(now_ms()), *spool_alarms(samples, self._core.recovery)]
        if self._failure is not None:
            problems.append(("spool_failed", str(self._failure)))
        problems += self._overload.alarms()
        problems += disk_alarms(samples, self._config.spool_path, self._config.refuse_mail_below_bytes)
        return Now(
            state=self._state,
            sessions=self._receiver.connections,
            samples=samples,
            problems=tuple(problems),
        )

    def _standing(self) -> Standing:
        return now_ms(), *self._deliverer.standing()

    def _own_samples(self) -> Iterator[Sample]:
        yield "build_info", (version("penstock"), platform.python_version(), self._config.profile), 1.0
        yield "config_generation", (), float(GENERATION)


@asynccontextmanager
async def open_engine(
    config: Config | PathLike[str] | str,
    *,
    receive: Sequence[ReceiveHooks] = (),
    hook_timeout_s: float = HOOK_TIMEOUT_S,
) -> AsyncIterator[Engine]:
    """Run an engine for as long as the context lasts.

    Exceptions of the body come out as they are. If the engine fails by itself the body is cancelled and the
    context raises the one error that says why.

    **Blocking**: opening recovers the spool, in a thread.

    Args:
        config: A configuration, or the file to read it from.
        receive: What is asked about mail that comes in, in this order; see `ReceiveHooks`.
        hook_timeout_s: How long each of them may take each time, at most 30 s.

    Raises:
        TypeError: One of `receive` is no hook.
        ValueError: Two of them have the same name, or there is no such time.
        ConfigError: The file has errors.
        SpoolError: The spool is locked, of a newer format, or its disk has failed.
        BindFailed: A listener's address cannot be had.
        CertificateFailed: A certificate cannot be used.
    """
    if not isinstance(config, Config):
        config = load(config)
    core = await trio.to_thread.run_sync(partial(open_core, config))
    try:
        engine = Engine(config, core, receive, hook_timeout_s)
        from_body: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                await engine._start(nursery)
                try:
                    yield engine
                except BaseException as error:
                    from_body = error
                    raise
                finally:
                    with trio.CancelScope(shield=True):
                        await engine.stop()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise bare(group, from_body) from None
        if engine._failure is not None:
            raise engine._failure
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(core.close)
