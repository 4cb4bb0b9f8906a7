"""What each path answers, to whom, and what becomes of what goes wrong behind it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio
import trio.testing

from penstock.control.messages import Request, Response
from penstock.control.routes import ANSWER_S, LIMIT_DEFAULT, LIMIT_MAX, mail_site, public_site
from penstock.errors import Ambiguous, BackPressure, SpoolFailed
from tests.control.fake import AT, FakeViews, message_row, queue_row


async def get(views: FakeViews, path: str, method: str = "GET", **query: str) -> Response:
    """Ask the mail side."""
    segments = tuple(path.split("/")) if path else ()
    return await mail_site(views, "0.1.0").answer(Request(method=method, path=segments, query=query))


async def scrape(views: FakeViews, path: str, **given: Any) -> Response:
    """Ask the public side."""
    request = Request(method="GET", path=tuple(path.split("/")), **given)
    return await public_site(views, ["relay1.contoso.example", "Relay1"]).answer(request)


def kind(response: Response) -> tuple[int, str]:
    """Return the status and the kind of a problem."""
    members = json.loads(response.body)
    assert members["status"] == response.status
    return response.status, members["type"].removeprefix("urn:penstock:")


async def test_about_names_the_version_and_the_role() -> None:
    assert json.loads((await get(FakeViews(), "v1")).body) == {
        "api": "v1",
        "version": "0.1.0",
        "role": "admin",
        "server": "relay1",
        "generation": 1,
        "at": AT,
    }


async def test_status_queues_and_messages_are_what_the_engine_says() -> None:
    views = FakeViews()
    assert json.loads((await get(views, "v1/status")).body) == views.state
    assert json.loads((await get(views, "v1/queues")).body) == await views.queues()
    page = await views.messages(queue=None, limit=LIMIT_DEFAULT, cursor=None)
    assert json.loads((await get(views, "v1/messages")).body) == page
    detail = json.loads((await get(views, "v1/messages/0saj3v6580402")).body)
    assert detail == await views.message("0saj3v6580402")


async def test_messages_come_in_pages() -> None:
    views = FakeViews()
    views.message_rows = [message_row(f"{n:013}") for n in range(5)]
    seen: list[str] = []
    query: dict[str, str] = {}
    while True:
        page = json.loads((await get(views, "v1/messages", limit="2", **query)).body)
        seen += [row["queue_id"] for row in page["items"]]
        if page["next"] is None:
            break
        query = {"cursor": page["next"]}
    assert seen == [f"{n:013}" for n in range(5)]


async def test_messages_of_one_queue() -> None:
    views = FakeViews()
    views.queue_rows = [queue_row(17, "m365"), queue_row(21, "fabrikam.example")]
    views.message_rows = [message_row("a", "m365"), message_row("b", "fabrikam.example")]
    page = json.loads((await get(views, "v1/messages", queue="relay1/21")).body)
    assert [row["queue_id"] for row in page["items"]] == ["b"]


@pytest.mark.parametrize("limit", ["1", str(LIMIT_MAX)])
async def test_limit_within_its_bounds(limit: str) -> None:
    assert (await get(FakeViews(), "v1/messages", limit=limit)).status == 200


@pytest.mark.parametrize("limit", ["", "0", str(LIMIT_MAX + 1), "-1", "+1", "1.0", "1_0", "١", "9" * 5000])
async def test_limit_outside_its_bounds_is_a_400(limit: str) -> None:
    response = await get(FakeViews(), "v1/messages", limit=limit)
    assert kind(response) == (400, "bad-parameter")
    assert json.loads(response.body)["parameter"] == "limit"


@pytest.mark.parametrize("path", ["v1", "v1/status", "v1/queues", "v1/messages", "v1/messages/x"])
async def test_unknown_parameter_is_a_400(path: str) -> None:
    response = await get(FakeViews(), path, colour="red")
    assert kind(response) == (400, "bad-parameter")
    assert json.loads(response.body)["parameter"] == "colour"


async def test_foreign_cursor_is_a_400() -> None:
    assert kind(await get(FakeViews(), "v1/messages", cursor="eyJ")) == (400, "bad-parameter")


@pytest.mark.parametrize(
    "path",
    ["", "v2", "v1/", "v1/gone", "v1/status/", "v1/messages/a/b", "V1/status", "metrics", "readyz", "*"],
)
async def test_unknown_path_is_a_404(path: str) -> None:
    assert kind(await get(FakeViews(), path)) == (404, "no-route")


async def test_unknown_message_is_a_404_of_its_own() -> None:
    response = await get(FakeViews(), "v1/messages/..")
    assert kind(response) == (404, "not-found")
    assert json.loads(response.body)["identity"] == ".."


async def test_ambiguous_queue_is_a_409_with_candidates() -> None:
    views = FakeViews()
    views.failure = Ambiguous(["relay1\\17", "relay1\\21"])
    response = await get(views, "v1/messages", queue="fabrikam.example")
    assert kind(response) == (409, "ambiguous")
    assert json.loads(response.body)["candidates"] == ["relay1\\17", "relay1\\21"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "PATCH"])
async def test_other_methods_are_a_405_that_says_which_there_are(method: str) -> None:
    response = await get(FakeViews(), "v1/status", method=method)
    assert kind(response) == (405, "no-method")
    assert ("Allow", "GET, HEAD") in response.headers
    assert kind(await get(FakeViews(), "v1/gone", method=method)) == (404, "no-route")


async def test_head_is_answered_like_get() -> None:
    assert (await get(FakeViews(), "v1/status", method="HEAD")).status == 200


async def test_what_passes_is_a_503_with_a_time() -> None:
    views = FakeViews()
    views.failure = BackPressure("behind", 7)
    response = await get(views, "v1/queues")
    assert kind(response) == (503, "unavailable")
    assert ("Retry-After", "7") in response.headers
    views.failure = SpoolFailed("/spool/log", 5)
    assert kind(await get(views, "v1/queues")) == (503, "unavailable")


async def test_an_engine_that_does_not_answer_is_a_503(autojump_clock: trio.testing.MockClock) -> None:
    class Slow(FakeViews):
        async def queues(self) -> dict[str, Any]:
            await trio.sleep_forever()
            raise AssertionError

    begun = trio.current_time()
    assert kind(await get(Slow(), "v1/queues")) == (503, "deadline")
    assert trio.current_time() - begun == pytest.approx(ANSWER_S)


@pytest.mark.parametrize("failure", [ZeroDivisionError("secret"), ExceptionGroup("g", [KeyError("secret")])])
async def test_a_bug_is_a_500_and_a_line_in_the_log(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    views = FakeViews()
    views.failure = failure
    with caplog.at_level(logging.ERROR):
        response = await get(views, "v1/status")
    assert kind(response) == (500, "bug")
    assert b"secret" not in response.body
    assert "secret" in caplog.text


async def test_public_side_has_metrics_and_health_and_no_mail() -> None:
    views = FakeViews()
    metrics = await scrape(views, "metrics", query={"any": "thing"})
    assert (metrics.status, metrics.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert metrics.body == views.metrics()
    assert (await scrape(views, "livez")).status == 200
    assert (await scrape(views, "readyz")).status == 200
    views.ready = False
    assert (await scrape(views, "livez")).status == 200
    assert (await scrape(views, "readyz")).status == 503
    for path in ("v1", "v1/status", "v1/queues", "v1/messages"):
        assert kind(await scrape(views, path)) == (404, "no-route")


@pytest.mark.parametrize(
    "host",
    [
        None,
        "localhost",
        "LOCALHOST:9925",
        "127.0.0.1:9925",
        "10.1.2.3",
        "[::1]:9925",
        "[fd00::1]",
        "relay1",
        "relay1:9925",
        "relay1.contoso.example.:9925",
    ],
)
async def test_names_and_addresses_of_ours_are_answered(host: str | None) -> None:
    assert (await scrape(FakeViews(), "livez", host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":9925",
        "evil.example",
        "evil.example:9925",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "relay1@evil.example",
        "[evil.example]",
        "[]",
        "127.1",
        "2130706433",
        "0x7f.1",
        "::ffff:7f00:1:9925:x",
    ],
)
async def test_a_foreign_name_is_a_421(host: str) -> None:
    assert kind(await scrape(FakeViews(), "metrics", host=host)) == (421, "foreign-host")


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "https://relay1", "http://relay1.evil.example", "http://relay1:1"],
)
async def test_a_foreign_origin_is_a_403(origin: str) -> None:
    response = await scrape(FakeViews(), "metrics", host="relay1", origin=origin)
    assert kind(response) == (403, "foreign-origin")
    request = Request(method="GET", path=("v1", "status"), host="localhost", origin=origin)
    assert kind(await mail_site(FakeViews(), "0.1.0").answer(request)) == (403, "foreign-origin")


async def test_our_own_origin_is_answered() -> None:
    response = await scrape(FakeViews(), "metrics", host="relay1:9925", origin="http://relay1:9925")
    assert response.status == 200
