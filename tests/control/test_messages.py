"""How a target is read, and how answers are written."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.messages import ROWS_PER_TURN, Refused, json_response, problem, read_target

PRINTABLE = st.text(st.characters(codec="utf-8").filter(str.isprintable))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", (None, (), {})),
        ("/v1/status", (None, ("v1", "status"), {})),
        ("/v1/status/", (None, ("v1", "status", ""), {})),
        ("//v1", (None, ("", "v1"), {})),
        ("/v1/messages/relay1%5Cm365%2F0sa", (None, ("v1", "messages", "relay1\\m365/0sa"), {})),
        ("/v1/messages/%252e%252e", (None, ("v1", "messages", "%2e%2e"), {})),
        ("/v1/../v1/status", (None, ("v1", "..", "v1", "status"), {})),
        ("/v1/messages?limit=5&queue=a%26b", (None, ("v1", "messages"), {"limit": "5", "queue": "a&b"})),
        ("/v1/messages?queue=", (None, ("v1", "messages"), {"queue": ""})),
        ("/metrics?", (None, ("metrics",), {})),
        ("http://relay1:9925/metrics", ("relay1:9925", ("metrics",), {})),
        ("HTTP://relay1/metrics?a=b", ("relay1", ("metrics",), {"a": "b"})),
    ],
)
def test_target_is_split_first_and_decoded_once(target: str, expected: object) -> None:
    assert read_target(target) == expected


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "relay1:443",
        "v1/status",
        "https://relay1/metrics",
        "/v1/status#here",
        "/v1/%",
        "/v1/%4",
        "/v1/%zz",
        "/v1/%FF",
        "/v1/%C0%AE%C0%AE",
        "/v1/%00",
        "/v1/%1b%5b2J",
        "/v1/%E2%80%AE",
        "/v1/messages?queue=%0a",
        "/v1/messages?queue",
        "/v1/messages?limit=1&limit=2",
        "/v1/messages?" + "&".join(f"p{n}=1" for n in range(17)),
    ],
)
def test_target_that_cannot_be_read_in_one_way_is_a_400(target: str) -> None:
    with pytest.raises(Refused) as caught:
        read_target(target)
    assert caught.value.response.status == 400


@given(PRINTABLE.filter(bool), st.dictionaries(PRINTABLE.filter(bool), PRINTABLE, max_size=16))
def test_what_a_client_encodes_is_read_back(segment: str, query: dict[str, str]) -> None:
    target = f"/v1/{quote(segment, safe='')}?{urlencode(query)}"
    assert read_target(target) == (None, ("v1", segment), query)


@given(st.text())
def test_no_target_breaks_the_reader(target: str) -> None:
    for text in (target, "/" + target, "http://" + target):
        try:
            _, path, query = read_target(text)
        except Refused:
            continue
        assert all(part.isprintable() for part in (*path, *query, *query.values()))


@pytest.mark.parametrize("rows", [0, 1, ROWS_PER_TURN, ROWS_PER_TURN + 1, ROWS_PER_TURN * 3])
async def test_long_lists_are_the_same_json_as_short_ones(rows: int) -> None:
    page = {"complete": True, "items": [{"id": n, "name": "ü\x1b"} for n in range(rows)], "next": None}
    response = await json_response(page)
    assert json.loads(response.body) == page
    assert response.body.isascii()
    assert b"\x1b" not in response.body
    assert response.body.count(b"\n") == 1


async def test_a_long_list_alone_is_an_object() -> None:
    page = {"items": list(range(ROWS_PER_TURN + 1))}
    assert json.loads((await json_response(page)).body) == page


def test_problem_has_the_members_of_problem_details() -> None:
    response = problem(503, "unavailable", "Later.", retry_after_s=0.2)
    assert response.content_type == "application/problem+json"
    assert json.loads(response.body) == {
        "type": "urn:penstock:unavailable",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "Later.",
        "retry_after_s": 0.2,
    }
    assert response.headers == (("Retry-After", "1"),)
