"""docs/control.md, the typed dictionaries and the fake say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from penstock.control import views
from tests.control.fake import FakeViews, message_row
from tests.control.shape import conform

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "control.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
DOCUMENTED = {name: set(ROW.findall(body)) for name, body in SECTION.findall(TEXT)}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_every_key_is_documented(name: str) -> None:
    declared = set(get_type_hints(getattr(views, name)))
    if name == "MessageDetail":
        declared -= DOCUMENTED["Message"]
    assert DOCUMENTED[name] == declared


def test_every_object_is_documented() -> None:
    declared = {name for name in views.__all__ if hasattr(getattr(views, name), "__total__")}
    assert declared - DOCUMENTED.keys() == {"MessageItem"}
    assert get_type_hints(views.MessageItem).keys() == DOCUMENTED["Message"] | DOCUMENTED["Entry"]


def test_every_reason_is_documented() -> None:
    for reason in get_args(views.Reason):
        assert f"`{reason}`" in TEXT


async def test_the_fake_answers_as_the_engine_has_to() -> None:
    fake = FakeViews()
    fake.message_rows.append(message_row(queue="other", last_error=None, next_try_at=None))
    conform(await fake.status(), views.Status, "status")
    conform(await fake.queues(), views.QueuePage, "queues")
    conform(await fake.messages(queue=None, limit=10, cursor=None), views.MessagePage, "messages")
    conform(await fake.message("0saj3v6580402"), views.MessageDetail, "message")
