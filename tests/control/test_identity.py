"""What operators may write for a queue or a message."""

from __future__ import annotations

import pytest

from penstock.control.identity import find_queue, split_message
from penstock.errors import Ambiguous, NotFound

QUEUES = [(3, "m365"), (17, "fabrikam.example"), (21, "fabrikam.example"), (22, "17"), (23, "99")]


@pytest.mark.parametrize(
    ("identity", "number"),
    [
        ("m365", 3),
        ("M365", 3),
        ("relay1\\m365", 3),
        ("RELAY1/m365", 3),
        (" m365 ", 3),
        ("21", 21),
        ("relay1\\21", 21),
        ("17", 17),
        ("99", 23),
    ],
)
def test_queue_by_name_or_number_with_or_without_server(identity: str, number: int) -> None:
    assert find_queue(identity, "relay1", QUEUES) == number


@pytest.mark.parametrize(
    "identity", ["", " ", "gone", "relay2\\m365", "a\\relay1\\m365", "relay1\\", "\\m365", "²", "-3"]
)
def test_no_such_queue(identity: str) -> None:
    with pytest.raises(NotFound) as caught:
        find_queue(identity, "relay1", QUEUES)
    assert caught.value.identity == identity


def test_a_name_that_fits_two_is_answered_with_their_numbers() -> None:
    with pytest.raises(Ambiguous) as caught:
        find_queue("fabrikam.example", "relay1", QUEUES)
    assert list(caught.value.candidates) == ["relay1\\17", "relay1\\21"]


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("0saj3v6580402", (None, "0saj3v6580402")),
        ("*\\0saj3v6580402", (None, "0saj3v6580402")),
        ("m365/0saj3v6580402", ("m365", "0saj3v6580402")),
        ("relay1\\m365\\0saj3v6580402", ("m365", "0saj3v6580402")),
        ("Relay1/*/0saj3v6580402", (None, "0saj3v6580402")),
    ],
)
def test_message_with_or_without_queue_and_server(identity: str, expected: tuple[str | None, str]) -> None:
    assert split_message(identity, "relay1") == expected


@pytest.mark.parametrize("identity", ["", "m365\\", "relay2\\m365\\0saj3v6580402", "a/b/c/d", "..//"])
def test_no_such_message(identity: str) -> None:
    with pytest.raises(NotFound):
        split_message(identity, "relay1")
