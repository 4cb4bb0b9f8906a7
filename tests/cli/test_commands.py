"""What the commands print and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.cli.program import run
from penstock.errors import Ambiguous, BackPressure
from tests.control.fake import FakeViews, message_row, queue_row

Penstock = Callable[..., tuple[int, str, str]]


def test_queue_list_has_the_worst_first(penstock: Penstock, views: FakeViews) -> None:
    old, new = "2026-11-24T08:00:00.000Z", "2026-11-24T09:20:09.000Z"
    plain = {"next_retry_at": None, "last_error": None, "retry_count": 0}
    views.queue_rows = [
        queue_row(1, "new.example", status="Ready", oldest_at=new, count=1, **plain),
        queue_row(2, "old.example", status="Ready", oldest_at=old, count=2, **plain),
        queue_row(3, "m365", oldest_at=new),
        queue_row(4, "held", status="Suspended", oldest_at=new, count=1, **plain),
    ]
    code, out, err = penstock("queue", "list")
    assert code == 0
    assert out.splitlines() == [
        " ID  NAME         TYPE       STATUS     COUNT  RETRY  NEXT TRY  OLDEST  LAST ERROR",
        "  4  held         SmartHost  Suspended      1      0             4m02s",
        "  3  m365         SmartHost  Retry         38      5  in 1m49s   4m02s"
        "  connect: timed out (4.4.1) 198.51.100.7:25",
        "  2  old.example  SmartHost  Ready          2      0             1h24m",
        "  1  new.example  SmartHost  Ready          1      0             4m02s",
    ]
    assert err == "42 messages in 4 queues; Unreachable is empty\n"
    code, out, err = penstock("--json", "queue", "list")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [4, 3, 2, 1]


def test_json_rows_are_what_the_engine_says(penstock: Penstock, views: FakeViews) -> None:
    views.message_rows = [message_row(f"{n:013}", subject="Grüße\x1b[2J") for n in range(3)]
    for arguments, rows in (
        (("queue", "list"), views.queue_rows),
        (("message", "list"), views.message_rows),
        (("status",), [views.state]),
    ):
        code, out, _ = penstock(*arguments, "--json")
        assert code == 0
        assert [json.loads(line) for line in out.splitlines()] == rows
        assert out.isascii()
        assert "\x1b" not in out


def test_an_empty_queue_says_so_and_is_no_failure(penstock: Penstock, views: FakeViews) -> None:
    views.queue_rows, views.message_rows = [], []
    for noun in ("queue", "message"):
        assert penstock(noun, "list") == (0, "", "Nothing is waiting.\n")
        assert penstock("-q", noun, "list") == (0, "", "")
        assert penstock("--json", noun, "list")[:2] == (0, "")


def test_message_list_shows_where_each_waits_and_why(penstock: Penstock, views: FakeViews) -> None:
    recipients = [{"address": f"r{n}@contoso.example", "state": "pending", "reply": None} for n in range(10)]
    views.message_rows = [
        message_row("0saj3v6580402", recipients=recipients, recipient_count=12, **{"from": ""}),
        message_row("0saj3vqtg0402", "b.example", status="Active", reason="active", next_try_at=None),
    ]
    code, out, err = penstock("message", "list")
    assert (code, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()[1:]] == [
        "0saj3v6580402 m365 Retry <> r0@contoso.example 11 1.4 MB 12m03s queue_retry in 1m49s",
        "0saj3vqtg0402 b.example Active scan-3f@contoso.example info@contoso.example 0 1.4 MB 12m03s active",
    ]
    _, out, _ = penstock("message", "list", "--queue", "relay1/m365")
    assert "QUEUE" not in out
    assert len(out.splitlines()) == 2


def test_message_list_goes_on_where_it_ended(penstock: Penstock, views: FakeViews) -> None:
    views.message_rows = [message_row(f"{n:013}") for n in range(5)]
    seen = []
    arguments: list[str] = []
    for _ in range(3):
        code, out, err = penstock("--json", "message", "list", "--limit", "2", *arguments)
        assert code == 0
        seen += [json.loads(line)["queue_id"] for line in out.splitlines()]
        arguments = err.split()[1:]
    assert seen == [f"{n:013}" for n in range(5)]
    assert arguments == []


def test_message_show_has_the_whole_message(penstock: Penstock, views: FakeViews) -> None:
    views.message_rows = [
        message_row(
            subject="in\u202evoice\x1b]0;x\x07",
            recipients=[
                {"address": "a@contoso.example", "state": "pending", "reply": "451 4.2.1 busy\x1b[31m"},
                {"address": "b@contoso.example", "state": "delivered", "reply": None},
            ],
        ),
        message_row(queue="other", in_doubt=True),
    ]
    code, out, _ = penstock("--utc", "message", "show", "0saj3v6580402")
    assert code == 0
    assert out.splitlines() == [
        "Message     0saj3v6580402",
        "From        scan-3f@contoso.example",
        "Subject     in\\u202evoice\\x1b]0;x\\x07",
        "Message-ID  <41@scan.contoso.example>",
        "Size        1.4 MB",
        "Received    2026-11-24 09:12:08Z (12m03s ago), from 10.20.3.4 through devices",
        "Asked for   BODY=8BITMIME",
        "Changed     fixups, bcc",
        "",
        "Queue       m365, Retry, queue_retry",
        "Tried       2 times",
        "Last error  connect: timed out (4.4.1)",
        "Next try    2026-11-24 09:26:00Z (in 1m49s)",
        "Expires     2026-11-28 09:12:08Z (in 3d23h)",
        "To          a@contoso.example, pending: 451 4.2.1 busy\\x1b[31m",
        "            b@contoso.example, delivered",
        "",
        "Queue       other, Retry, queue_retry; in doubt: the peer may have it already",
        "Tried       2 times",
        "Last error  connect: timed out (4.4.1)",
        "Next try    2026-11-24 09:26:00Z (in 1m49s)",
        "Expires     2026-11-28 09:12:08Z (in 3d23h)",
        "To          info@contoso.example, pending",
    ]
    _, out, _ = penstock("--json", "message", "show", "other/0saj3v6580402")
    (detail,) = [json.loads(line) for line in out.splitlines()]
    assert [entry["queue"] for entry in detail["entries"]] == ["other"]


def test_a_message_of_our_own_and_one_without_headers(penstock: Penstock, views: FakeViews) -> None:
    views.message_rows = [message_row(connector=None, peer=None, subject=None, message_id=None)]
    code, out, _ = penstock("message", "show", "0saj3v6580402")
    assert code == 0
    assert "Subject\nMessage-ID\n" in out
    assert "made by Penstock" in out


def test_status_ends_with_1_while_an_alarm_is_up(penstock: Penstock, views: FakeViews) -> None:
    code, out, err = penstock("status")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Server      relay1, ready, up 3h12m, penstock 0.1.0, profile relay, generation 1, pid 812",
        "Listening   127.0.0.1:2525 (apps)",
        "Sending     m365",
        "In          312 messages; 3 sessions now",
        "Out         271 recipients delivered, 2 failed, 0 in doubt",
        "Waiting     38 messages in 1 queue (38 retry), oldest 12m03s",
        "Disk        12 GB free at /var/lib/penstock/spool; mail is refused below 2.0 GB",
        "Alarms      none",
    ]
    views.state["alarms"] = [{"name": "a", "message": "The disk\x07."}, {"name": "b", "message": "Two."}]
    code, out, _ = penstock("status")
    assert code == 1
    assert out.endswith("Alarms      The disk\\x07.\n            Two.\n")
    assert penstock("status", "--json")[0] == 1


def test_status_of_a_daemon_with_nothing_to_do(penstock: Penstock, views: FakeViews) -> None:
    views.state["listeners"] = views.state["send_connectors"] = []
    views.state["waiting"] |= {"messages": 0, "queues": 0, "oldest_at": None, "retry": 0}
    _, out, _ = penstock("status")
    assert "Listening   nowhere\nSending     no send connector\n" in out
    assert "Waiting     nothing\n" in out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("message", "show", "gone"), 1, "penstock: not found: gone\nWhat waits is listed by"),
        (("message", "show", "a\x1b[2J"), 1, "penstock: not found: a [2J\n"),
        (("message", "show", "\udcff"), 1, "penstock: not found:"),
        (("message", "list", "--queue", "\n"), 1, "penstock: not found:"),
        (("message", "show", ""), 1, "penstock: not found:"),
        (("message", "list", "--queue", "gone"), 1, "penstock: not found: gone\n"),
        (("message", "list", "--cursor", "x"), 2, "cursor"),
        (("message", "list", "--limit", "0"), 2, "--limit"),
        (("message", "list", "--limit", "250001"), 2, "--limit"),
        (("message", "show"), 2, "MESSAGE"),
        (("message", "lsit"), 2, "lsit"),
        (("queue", "list", "--colour"), 2, "--colour"),
        ((), 2, "Usage:"),
    ],
)
def test_mistakes_are_a_sentence_and_a_code(
    penstock: Penstock, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    ended, out, err = penstock(*arguments)
    assert (ended, out) == (code, "")
    assert sentence in err
    assert "Traceback" not in err
    assert "\x1b" not in err


def test_an_ambiguous_name_is_answered_with_what_it_could_be(penstock: Penstock, views: FakeViews) -> None:
    views.failure = Ambiguous(["relay1\\17", "relay1\\21"])
    code, out, err = penstock("message", "list", "--queue", "fabrikam.example")
    assert (code, out) == (1, "")
    assert err.splitlines()[1:] == ["  relay1\\17", "  relay1\\21"]


@pytest.mark.parametrize("failure", [BackPressure("behind", 5), ZeroDivisionError()])
def test_a_daemon_that_cannot_answer_is_a_4(penstock: Penstock, views: FakeViews, failure: Exception) -> None:
    views.failure = failure
    code, out, err = penstock("queue", "list")
    assert (code, out, err.count("\n")) == (4, "", 1)


def test_without_a_daemon_the_socket_is_named_and_how_to_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("queue", "list"), ("message", "show", "x"), ("status",)):
        assert run(["--socket", str(tmp_path / "s"), *arguments]) == 3
        printed = capsys.readouterr()
        assert printed.out == ""
        assert str(tmp_path / "s") in printed.err
        assert "penstock --config FILE serve" in printed.err


def test_a_slow_daemon_is_not_mistaken_for_an_empty_one(penstock: Penstock, views: FakeViews) -> None:
    async def queues() -> dict[str, object]:
        return {"items": views.queue_rows, "complete": False, "snapshot": {"watermark": 9, "at": "x"}}

    views.queues = queues  # type: ignore[method-assign]
    views.queue_rows = []
    assert "too slow" in penstock("queue", "list")[2]


def test_colour_on_a_terminal_only_and_only_if_wanted(
    penstock: Penstock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in penstock("queue", "list")[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\x1b[33mRetry\x1b[0m" in penstock("queue", "list")[1]
    assert "\x1b" not in penstock("queue", "list", "--no-color")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in penstock("queue", "list")[1]
