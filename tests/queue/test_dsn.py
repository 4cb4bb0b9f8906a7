from __future__ import annotations

import email
import re
from email import policy
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.envelope import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS
from penstock.queue.advice import advice
from penstock.queue.dsn import HEADER_OCTETS_MAX, Failure, Original, Report, Reporter, is_owed, report

RECEIVED = 1_763_951_400_000
DAY = 86_400_000
NOW = RECEIVED + 4 * DAY
REPORTER = Reporter(fqdn="relay1.contoso.example", postmaster="postmaster@contoso.example")
HEADER = b"From: it@contoso.example\r\nSubject: Rota\r\nMessage-ID: <7.114@erp.contoso.example>\r\n"


def original(
    header: bytes = HEADER + b"\r\nnot a header\r\n",
    sender: str = "it@contoso.example",
    received_from: str = "erp.contoso.example",
) -> Original:
    return Original(
        queue_id="0sahkvcpw0404",
        sender=sender,
        received_ms=RECEIVED,
        received_from=received_from,
        header=header,
    )


def failure(
    address: str = "sales@fabrikam.example",
    state: str = "failed",
    stage: str = "rcpt",
    code: int = 550,
    enhanced: str = "5.1.1",
    text: str = "User unknown",
    *,
    index: int = 2,
    notify: int = 0,
    orcpt: str | None = None,
    peer: str = "mx1.fabrikam.example",
    attempted_ms: int = RECEIVED + 2_000,
) -> Failure:
    outcome = (index, address, state, stage, code, enhanced, text)
    return Failure(outcome, notify, orcpt, peer, attempted_ms)


EXPIRED = failure("b@fabrikam.example", "expired", "rcpt", 451, "4.7.1", "Greylisted", index=3)
UNREACHED = failure(
    "c@elsewhere.example", "expired", "connect", 0, "4.4.1", "connection refused", index=4, peer=""
)


def made(message: Original, *failures: Failure, reporter: Reporter = REPORTER) -> Report:
    written = report(message, failures, reporter=reporter, now_ms=NOW)
    assert written is not None
    return written


def parsed(written: Report) -> EmailMessage:
    message = email.message_from_bytes(written.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert part.defects == []
    return message


def parts(written: Report) -> list[Message]:
    return messages(parsed(written))


def messages(message: Message) -> list[Message]:
    payload = message.get_payload()
    assert isinstance(payload, list)
    assert all(isinstance(part, Message) for part in payload)
    return cast("list[Message]", payload)


def status(written: Report) -> list[Message]:
    """Return the groups of fields for programs."""
    return messages(parts(written)[1])


def words(written: Report) -> str:
    """Return the words for the person."""
    payload = parts(written)[0].get_payload()
    assert isinstance(payload, str)
    return payload.replace("\r\n", "\n")


def returned(written: Report) -> bytes:
    content = parts(written)[2].get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def check_form(written: Report) -> None:
    """What must hold of every report, whatever went into it."""
    content = written.content
    lines = content.split(b"\r\n")
    assert content.endswith(b"\r\n")
    assert all(b"\r" not in line and b"\n" not in line for line in lines)
    assert max(map(len, lines)) <= 998
    assert re.search(rb"[^\t -~\r\n]", content) is None
    boundary = parsed(written).get_boundary()
    assert boundary is not None
    delimiter = f"--{boundary}".encode()
    # Outside the delimiters themselves and the field that declares it, the boundary is nowhere.
    assert content.count(boundary.encode()) == 1 + sum(line.startswith(delimiter) for line in lines)
    assert [line for line in lines if line.startswith(delimiter)][-1] == delimiter + b"--"
    assert sum(line == delimiter for line in lines) == len(parts(written))


GOLDEN = """\
Date: Fri, 28 Nov 2025 02:30:00 +0000
From: Mail Delivery System <postmaster@contoso.example>
To: <it@contoso.example>
Subject: Undeliverable: Rota
Message-ID: <0sahkvcpw0404.2.failed@relay1.contoso.example>
In-Reply-To: <7.114@erp.contoso.example>
References: <7.114@erp.contoso.example>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="=_0sahkvcpw0404.2"

--=_0sahkvcpw0404.2
Content-Type: text/plain; charset=us-ascii

This is the mail system of relay1.contoso.example.

Your message of Mon, 24 Nov 2025 02:30:00 +0000 was not delivered to:

    sales@fabrikam.example

The receiving server knows no such address.
Check the address for typing errors, then send the message again.

    mx1.fabrikam.example answered: 550 5.1.1 User unknown

Nor was it delivered to:

    c@elsewhere.example

It was tried for 4 days without success.
Send it again later, or reach the recipient in another way.

    connection refused

Recipients who are not named here are not concerned. What follows is for
mail administrators, who know the message by the number 0sahkvcpw0404.

--=_0sahkvcpw0404.2
Content-Type: message/delivery-status

Reporting-MTA: dns; relay1.contoso.example
Received-From-MTA: dns; erp.contoso.example
Arrival-Date: Mon, 24 Nov 2025 02:30:00 +0000
X-Penstock-Queue-ID: 0sahkvcpw0404

Original-Recipient: rfc822;Sales@fabrikam.example
Final-Recipient: rfc822; sales@fabrikam.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx1.fabrikam.example
Diagnostic-Code: smtp; 550 5.1.1 User unknown
Last-Attempt-Date: Mon, 24 Nov 2025 02:30:02 +0000

Final-Recipient: rfc822; c@elsewhere.example
Action: failed
Status: 4.4.7
Diagnostic-Code: X-Penstock; connection refused
Last-Attempt-Date: Mon, 24 Nov 2025 02:30:02 +0000

--=_0sahkvcpw0404.2
Content-Type: text/rfc822-headers

From: it@contoso.example
Subject: Rota
Message-ID: <7.114@erp.contoso.example>

--=_0sahkvcpw0404.2--
"""


def test_golden_report() -> None:
    written = made(original(), failure(orcpt="rfc822;Sales@fabrikam.example"), UNREACHED)
    assert written.content.decode("ascii") == GOLDEN.replace("\n", "\r\n")
    assert written[0] == "it@contoso.example"
    assert written[2:] == (
        "<0sahkvcpw0404.2.failed@relay1.contoso.example>",
        "Undeliverable: Rota",
    )


def test_structure_is_that_of_a_delivery_status_report() -> None:
    written = made(original(), failure(), EXPIRED, UNREACHED)
    check_form(written)
    message = parsed(written)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["To"] == "it@contoso.example"
    assert parsedate_to_datetime(message["Date"]).timestamp() * 1000 == NOW
    assert [part.get_content_type() for part in parts(written)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    groups = status(written)
    assert [group["Final-Recipient"] for group in groups] == [
        None,
        "rfc822; sales@fabrikam.example",
        "rfc822; b@fabrikam.example",
        "rfc822; c@elsewhere.example",
    ]
    assert {group["Action"] for group in groups[1:]} == {"failed"}
    assert parsedate_to_datetime(groups[0]["Arrival-Date"]).timestamp() * 1000 == RECEIVED


def test_an_expired_recipient_has_the_status_of_expiry_and_the_last_reply() -> None:
    group = status(made(original(), EXPIRED))[1]
    assert group["Status"] == "4.4.7"
    assert group["Diagnostic-Code"] == "smtp; 451 4.7.1 Greylisted"


def test_what_is_not_known_is_left_out() -> None:
    written = made(
        original(header=b"", received_from=""),
        failure(code=0, enhanced="", text="", peer="", attempted_ms=0),
    )
    check_form(written)
    assert len(parts(written)) == 2
    groups = status(written)
    assert groups[0]["Received-From-MTA"] is None
    for field in ("Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date", "Original-Recipient"):
        assert groups[1][field] is None
    assert groups[1]["Status"] == "5.0.0"


@pytest.mark.parametrize(
    ("notify", "owed"),
    [
        (0, True),
        (NOTIFY_FAILURE, True),
        (NOTIFY_FAILURE | NOTIFY_SUCCESS | NOTIFY_DELAY, True),
        (NOTIFY_NEVER, False),
        (NOTIFY_SUCCESS, False),
        (NOTIFY_DELAY, False),
    ],
)
def test_a_sender_is_told_of_failures_unless_it_said_otherwise(notify: int, owed: bool) -> None:
    assert is_owed("it@contoso.example", notify) is owed
    assert not is_owed("", notify)
    one = failure(notify=notify)
    assert (report(original(), [one], reporter=REPORTER, now_ms=NOW) is not None) is owed
    assert report(original(sender=""), [one], reporter=REPORTER, now_ms=NOW) is None


def test_only_recipients_of_whom_a_report_is_owed_are_in_it() -> None:
    silent = failure("secret@fabrikam.example", index=0, notify=NOTIFY_NEVER)
    written = made(original(), silent, failure(index=1))
    assert b"secret" not in written.content
    assert written.message_id.startswith("<0sahkvcpw0404.1.")
    assert report(original(), [], reporter=REPORTER, now_ms=NOW) is None


def test_recipients_that_failed_alike_are_named_together() -> None:
    failures = [failure(f"r{index}@fabrikam.example", index=index) for index in range(3)]
    text = words(made(original(), *failures, EXPIRED))
    assert text.count("550 5.1.1 User unknown") == 1
    assert "    r0@fabrikam.example\n    r1@fabrikam.example\n    r2@fabrikam.example\n" in text
    assert text.index("r2@") < text.index("b@fabrikam.example")


def test_the_same_failure_gives_the_same_report() -> None:
    assert made(original(), failure(), EXPIRED) == made(original(), failure(), EXPIRED)
    assert made(original(), failure()).message_id != made(original(), EXPIRED).message_id


@pytest.mark.parametrize(
    ("subject", "reported"),
    [
        (b"Subject: Rota", "Undeliverable: Rota"),
        (b"SUBJECT:Rota", "Undeliverable: Rota"),
        (b"Subject : Rota", "Undeliverable: Rota"),
        (b"Subject: a\r\n  b\r\n\tc", "Undeliverable: a b c"),
        (
            b"Subject: =?utf-8?q?D=C3=A4?=\r\n =?utf-8?q?nk?=",
            "Undeliverable: =?utf-8?q?D=C3=A4?= =?utf-8?q?nk?=",
        ),
        (b"Subject: one\r\nSubject: two", "Undeliverable: one"),
        (b"Subject: " + b"x" * 200, "Undeliverable: " + "x" * 200),
        (b"Subject: " + b"x" * 201, "Undeliverable message"),
        (b"Subject:", "Undeliverable message"),
        (b"Subject: D\xe4nk", "Undeliverable message"),
        (b"Subject: \x1b[2J", "Undeliverable message"),
        (b"X-Subject: Rota", "Undeliverable message"),
        (b"To: a\r\n Subject: b", "Undeliverable message"),
        (b"To: a", "Undeliverable message"),
    ],
)
def test_the_subject_is_taken_over_if_it_is_plain_text(subject: bytes, reported: str) -> None:
    written = made(original(b"From: a\r\n" + subject + b"\r\n\r\nSubject: no\r\n"), failure())
    check_form(written)
    assert written.subject == reported


@pytest.mark.parametrize(
    ("field", "known"),
    [
        (b"Message-ID: <a@b>", "<a@b>"),
        (b"message-id:\r\n <a@b> ", "<a@b>"),
        (b"Message-ID: <a@b> <c@d>", None),
        (b"Message-ID: a@b", None),
        (b"Message-ID: <a b>", None),
        (b"Message-ID: <a@" + b"b" * 300 + b">", None),
        (b"Message-ID: <a@\xff>", None),
        (b"Message-ID: <a@b>\x00", None),
    ],
)
def test_the_report_refers_to_the_message_if_that_has_a_name(field: bytes, known: str | None) -> None:
    message = parsed(made(original(b"From: a\r\n" + field + b"\r\n\r\n"), failure()))
    assert message["In-Reply-To"] == known
    assert message["References"] == known


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: D\xe4nk\r\n",
        b"X: a\x00b\r\n",
        b"X: \x1b[2J\x7f\r\n",
        b"X: " + b"y" * 996 + b"\r\n",
        b"X: a\rb\r\n",
        b"X: a\nb\r\n",
        b"X: trailing \xff \r\n",
    ],
)
def test_a_header_section_that_is_not_clean_text_is_encoded(header: bytes) -> None:
    written = made(original(header + b"\r\nbody"), failure())
    check_form(written)
    assert parts(written)[2]["Content-Transfer-Encoding"] == "quoted-printable"
    # Line ends that are none become some; nothing else changes.
    whole = re.sub(rb"\r(?!\n)|(?<!\r)\n", b"\r\n", header)
    assert returned(written) == whole


@pytest.mark.parametrize("header", [HEADER, b"X: " + b"y" * 995 + b"\r\n", b"X: a\t b \r\n .x\r\n"])
def test_a_clean_header_section_is_returned_as_it_is(header: bytes) -> None:
    written = made(original(header + b"\r\nbody"), failure())
    check_form(written)
    assert parts(written)[2]["Content-Transfer-Encoding"] is None
    assert b"text/rfc822-headers\r\n\r\n" + header + b"\r\n--" in written.content


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"\r\nbody: x\r\n", None),
        (b"", None),
        (b"A: b\r\n\r\n", b"A: b\r\n"),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"A: b", b"A: b\r\n"),
        (b"A: b\r\n\r\nC: d\r\n\r\n", b"A: b\r\n"),
    ],
)
def test_nothing_but_the_header_section_is_returned(content: bytes, header: bytes | None) -> None:
    written = made(original(content), failure())
    check_form(written)
    assert (returned(written) if len(parts(written)) == 3 else None) == header


def test_a_long_header_section_is_cut_between_lines() -> None:
    line = b"X-Filler: " + b"f" * 88 + b"\r\n"
    header = HEADER + line * 1_000
    part = returned(made(original(header + b"\r\nbody"), failure()))
    assert HEADER_OCTETS_MAX - len(line) < len(part) <= HEADER_OCTETS_MAX
    assert header.startswith(part)
    assert part.endswith(line)


def test_a_header_section_of_one_endless_line_is_cut_within_it() -> None:
    written = made(original(b"X: " + b"y" * 200_000), failure())
    check_form(written)
    assert len(returned(written)) == HEADER_OCTETS_MAX + 2
    assert len(written.content) < 2 * HEADER_OCTETS_MAX


def test_the_boundary_avoids_what_the_header_section_contains() -> None:
    hostile = b"--=_0sahkvcpw0404.2\r\nX: =_0sahkvcpw0404.2_1\r\n--=_0sahkvcpw0404.2--\r\n"
    written = made(original(hostile + b"\r\n"), failure())
    check_form(written)
    assert parsed(written).get_boundary() == "=_0sahkvcpw0404.2_2"
    assert len(parts(written)) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no\r\nBcc: all@contoso.example", "no??Bcc: all@contoso.example"),
        ("no\r\n\r\n--=_0sahkvcpw0404.2--", "no????--=_0sahkvcpw0404.2--"),
        ("\x1b]0;owned\x07", "?]0;owned?"),
        ("gelöscht \N{RIGHT-TO-LEFT OVERRIDE}", "gel?scht ?"),
        ("  far   apart  ", "far apart"),
    ],
)
def test_what_a_peer_says_stays_text_on_its_line(text: str, shown: str) -> None:
    written = made(original(), failure(text=text, peer=f"mx\r\n{'x' * 10}"))
    check_form(written)
    group = status(written)[1]
    assert group["Diagnostic-Code"] == f"smtp; 550 5.1.1 {shown}"
    assert group["Remote-MTA"] == "dns; mx??xxxxxxxxxx"
    assert group["Bcc"] is None
    assert len(parts(written)) == 3


def test_long_replies_are_broken_between_words() -> None:
    written = made(original(), failure(text="word " * 100))
    check_form(written)
    assert max(map(len, written.content.split(b"\r\n"))) <= 80
    assert status(written)[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 " + " ".join(["word"] * 100)


PEER_TEXT = st.text(max_size=512)
OCTETS = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b" ", b"\t", b"A:", b"--", b"=_", b"0sahkvcpw0404.2", b"_1", b"."]
    )
    | st.binary(max_size=20),
    max_size=40,
).map(b"".join)


@given(
    OCTETS,
    st.lists(
        st.builds(
            failure,
            st.text(max_size=254),
            st.sampled_from(["failed", "expired"]),
            st.sampled_from(["connect", "mail", "rcpt", "dot", "queue"]),
            st.sampled_from([0, 450, 550]),
            st.sampled_from(["", "4.4.2", "5.7.1"]),
            PEER_TEXT,
            orcpt=st.none() | PEER_TEXT,
            peer=PEER_TEXT,
            attempted_ms=st.sampled_from([0, NOW]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.text(min_size=1, max_size=254),
    st.text(max_size=255),
)
def test_every_report_is_well_formed(
    header: bytes, failures: list[Failure], sender: str, received_from: str
) -> None:
    written = made(original(header, sender, received_from), *failures)
    check_form(written)
    assert len(status(written)) == 1 + len(failures)


@given(st.binary(max_size=500))
def test_a_header_section_comes_back_whole(header: bytes) -> None:
    # With line ends that are some: of other CR and LF nothing is promised but that they end lines.
    header = header.replace(b"\r", b"x").replace(b"\n", b"\r\n").strip()
    written = made(original(b"A: b\r\n" + header.replace(b"\r\n\r\n", b"\r\n")), failure())
    if b"\r\n\r\n" not in header:
        assert returned(written) == b"A: b\r\n" + (header + b"\r\n" if header else b"")


@pytest.mark.parametrize(
    ("state", "stage", "code", "enhanced", "cause", "action"),
    [
        ("failed", "rcpt", 550, "5.1.1", "knows no such address", "Check the address"),
        ("failed", "rcpt", 550, "5.1.10", "takes no mail", "after the @"),
        ("failed", "rcpt", 552, "5.2.2", "mailbox is full", "when there is room"),
        ("failed", "mail", 0, "5.3.4", "larger than the receiving server", "smaller"),
        ("failed", "mail", 0, "5.6.3", "characters", "seven-bit"),
        ("failed", "dot", 554, "5.7.1", "rules", "administrator"),
        ("failed", "mail", 550, "5.7.26", "rules", "administrator"),
        ("failed", "mail", 550, "5.0.0", "from your address", "administrator"),
        ("failed", "rcpt", 550, "5.0.0", "for the address", "Check the address"),
        ("failed", "dot", 554, "5.0.0", "refused the message", "administrator"),
        ("failed", "data", 554, "", "refused the message", "administrator"),
        ("expired", "connect", 0, "4.4.1", "tried for 4 days", "later"),
        (
            "expired",
            "rcpt",
            452,
            "4.2.2",
            "4 days without success. The mailbox is full",
            "when there is room",
        ),
        ("expired", "rcpt", 451, "4.7.1", "tried for 4 days", "later"),
        ("expired", "dot", 0, "4.4.2", "never said", "before you send it again"),
        ("expired", "dot", 451, "4.3.0", "tried for 4 days", "later"),
    ],
)
def test_one_cause_and_one_action(
    state: str, stage: str, code: int, enhanced: str, cause: str, action: str
) -> None:
    told = advice(state=state, stage=stage, has_reply=code != 0, enhanced=enhanced, waited_ms=4 * DAY)
    assert cause in told.cause
    assert action in told.action
    written = words(made(original(), failure(state=state, stage=stage, code=code, enhanced=enhanced)))
    assert " ".join(told) in " ".join(written.split())


@pytest.mark.parametrize(
    ("ms", "words_"),
    [
        (4 * DAY, "4 days"),
        (2 * DAY, "2 days"),
        (2 * DAY - 1, "47 hours"),
        (7_200_000, "2 hours"),
        (7_199_999, "119 minutes"),
        (119_999, "119 seconds"),
        (0, "0 seconds"),
        (-5_000, "0 seconds"),
    ],
)
def test_how_long_was_tried_in_words(ms: int, words_: str) -> None:
    told = advice(state="expired", stage="rcpt", has_reply=True, enhanced="4.0.0", waited_ms=ms)
    assert told.cause == f"It was tried for {words_} without success."
