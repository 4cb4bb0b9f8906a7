"""The journal's lines have one shape, whatever is in them."""

from __future__ import annotations

import json

import pytest

from penstock.observe.journal import Journal, line


def test_a_line_is_one_line_of_printable_ascii() -> None:
    text = line("QUEUE", 1_700_000_000_007, reply='a"\\\r\n\x1b[31m\x7f\u202eé', failures=3, peer=None)
    assert text.endswith("}\n")
    assert all(" " <= character <= "~" for character in text[:-1])
    assert json.loads(text) == {
        "at": "2023-11-14T22:13:20.007Z",
        "event": "QUEUE",
        "reply": 'a"\\\r\n\x1b[31m\x7f\u202eé',
        "failures": 3,
    }


def test_an_undocumented_event_is_refused() -> None:
    written: list[str] = []
    journal = Journal(written.append)
    journal.event("START", 0, version="0.1.0")
    with pytest.raises(ValueError, match="HELLO"):
        journal.event("HELLO", 0)
    assert written == ['{"at":"1970-01-01T00:00:00.000Z","event":"START","version":"0.1.0"}\n']
