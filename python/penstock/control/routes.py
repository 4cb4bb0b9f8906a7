"""Which paths there are, who may ask, and what is answered: the mail side and the public side.

The mail side (`/v1/...`) is for the Unix socket alone. The public side has metrics and health and no mail
data; because browsers can reach it, a name in `Host` must be one of ours (a foreign page whose name resolves
to our address cannot fake that), and a foreign `Origin` is refused.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeAlias

import trio
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from penstock.control.messages import Refused, Request, Response, json_response, problem
from penstock.control.views import BadCursor, Views
from penstock.errors import Ambiguous, NotFound, PenstockError, Unavailable

__all__ = ["LIMIT_DEFAULT", "LIMIT_MAX", "Site", "mail_site", "public_site"]

LIMIT_DEFAULT: Final = 1_000
LIMIT_MAX: Final = 10_000
ANSWER_S: Final = 8.0
"""For the engine to answer; below the client's own 10 s, so that the client learns why."""
RETRY_S: Final = 5.0

Route: TypeAlias = Callable[[Request], Awaitable[Response]]

_ANY: Final = "*"
_METHODS: Final = ("GET", "HEAD")
_log = logging.getLogger(__name__)


class Site:
    """Finds the route of a request and turns what goes wrong into a problem."""

    def __init__(
        self, routes: Mapping[tuple[str, ...], Route], *, hosts: frozenset[str] | None = None
    ) -> None:
        """Take the routes.

        Args:
            routes: By path; `*` stands for any one segment.
            hosts: Names under which it may be asked, beside IP addresses and localhost; None: any.
        """
        self._routes = routes
        self._hosts = hosts

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises nothing but cancellation: a bug is a 500 and a line in the log."""
        try:
            self._check_source(request)
            route = self._route(request)
            with trio.fail_after(ANSWER_S):
                return await route(request)
        except Refused as refused:
            return refused.response
        except NotFound as error:
            return problem(404, "not-found", f"There is no {error.identity}.", identity=error.identity)
        except Ambiguous as error:
            return problem(
                409, "ambiguous", "The identity fits several things.", candidates=list(error.candidates)
            )
        except BadCursor:
            return problem(400, "bad-parameter", "The cursor is none of this daemon's.", parameter="cursor")
        except Unavailable as error:
            return problem(503, "unavailable", f"{error}.", retry_after_s=error.retry_after_s)
        except PenstockError as error:
            return problem(503, "unavailable", f"{error}.", retry_after_s=RETRY_S)
        except trio.TooSlowError:
            return problem(503, "deadline", f"No answer within {ANSWER_S:g} s.", retry_after_s=RETRY_S)
        except Exception:
            _log.exception("bug: no answer for %s %r", request.method, request.path)
            return problem(500, "bug", "Penstock has a bug; its log has the details.")

    def _check_source(self, request: Request) -> None:
        if self._hosts is not None and not _is_ours(request.host, self._hosts):
            raise Refused(421, "foreign-host", "This server does not go by that name.")
        if request.origin is not None and request.origin != f"http://{request.host}":
            raise Refused(403, "foreign-origin", "Pages from elsewhere may not ask.")

    def _route(self, request: Request) -> Route:
        path = request.path
        route = self._routes.get(path) or self._routes.get((*path[:-1], _ANY))
        if route is None or not path:
            raise Refused(404, "no-route", "There is no such path.")
        if request.method not in _METHODS:
            refused = Refused(405, "no-method", "Only GET and HEAD are answered.")
            refused.response = _with_header(refused.response, "Allow", ", ".join(_METHODS))
            raise refused
        return route


def mail_site(views: Views, version: str) -> Site:
    """Return the side that shows mail: for the owner of the Unix socket."""

    async def about(request: Request) -> Response:
        _parameters(request)
        status = await views.status()
        known = {key: status[key] for key in ("server", "generation", "at")}
        return await json_response({"api": "v1", "version": version, "role": "admin", **known})

    async def status(request: Request) -> Response:
        _parameters(request)
        return await json_response(await views.status())

    async def queues(request: Request) -> Response:
        _parameters(request)
        return await json_response(await views.queues())

    async def messages(request: Request) -> Response:
        given = _parameters(request, "queue", "limit", "cursor")
        page = await views.messages(
            queue=given.get("queue"), limit=_limit(given.get("limit")), cursor=given.get("cursor")
        )
        return await json_response(page)

    async def message(request: Request) -> Response:
        _parameters(request)
        return await json_response(await views.message(request.path[-1]))

    return Site(
        {
            ("v1",): about,
            ("v1", "status"): status,
            ("v1", "queues"): queues,
            ("v1", "messages"): messages,
            ("v1", "messages", _ANY): message,
        }
    )


def public_site(views: Views, hosts: Iterable[str]) -> Site:
    """Return the side without mail data: metrics and health.

    Args:
        views: What is shown.
        hosts: Names of this server, beside localhost and IP addresses.
    """

    async def metrics(request: Request) -> Response:
        # Parameters are left alone: scrapers may be told to send some.
        return Response(status=200, content_type=CONTENT_TYPE_PLAIN_0_0_4, body=views.metrics())

    async def livez(request: Request) -> Response:
        return _plain(200, "ok")

    async def readyz(request: Request) -> Response:
        return _plain(200, "ok") if views.is_ready() else _plain(503, "not ready")

    return Site(
        {("metrics",): metrics, ("livez",): livez, ("readyz",): readyz},
        hosts=frozenset(host.casefold().rstrip(".") for host in hosts) | {"localhost"},
    )


def _parameters(request: Request, *known: str) -> Mapping[str, str]:
    unknown = sorted(request.query.keys() - set(known))
    if unknown:
        raise Refused(400, "bad-parameter", "There is no such parameter here.", parameter=unknown[0])
    return request.query


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT_DEFAULT
    # No more digits than the greatest has: int() accepts much else.
    if text.isascii() and text.isdecimal() and len(text) <= len(str(LIMIT_MAX)):
        limit = int(text)
        if 1 <= limit <= LIMIT_MAX:
            return limit
    raise Refused(400, "bad-parameter", f"The limit is a number from 1 to {LIMIT_MAX}.", parameter="limit")


def _is_ours(host: str | None, names: frozenset[str]) -> bool:
    """Whether a request was meant for us: by name, or by an address, which no foreign page's name can be.

    Without `Host` it is HTTP/1.0, which health checks of load balancers speak and browsers do not.
    """
    if host is None:
        return True
    name = host
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        name = host.partition(":")[0]
    if name.casefold().rstrip(".") in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _plain(status: int, text: str) -> Response:
    return Response(status=status, content_type="text/plain; charset=utf-8", body=text.encode() + b"\n")


def _with_header(response: Response, name: str, value: str) -> Response:
    return Response(
        status=response.status,
        content_type=response.content_type,
        body=response.body,
        headers=(*response.headers, (name, value)),
    )
