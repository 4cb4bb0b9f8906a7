from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.errors import CertificateFailed, CertificateUnusable
from penstock.receive.certificates import FILE_BYTES_MAX, read_pair
from penstock.receive.received import ReceivedField
from penstock.receive.settings import CertificateSettings, TlsSettings
from penstock.smtp import replies
from tests.receive.test_receiver import ENVELOPE, HELLO, NOW_MS, Rig
from tests.support.certificates import install

LONGEST = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"


def settings(folder: Path, **changed: Any) -> TlsSettings:
    chain, key = install(folder, "mail")
    certificate = CertificateSettings(name="mail", chain=str(chain), key=str(key))
    return TlsSettings(certificates=(certificate,), **changed)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, tls=settings(tmp_path))


def up(rig: Rig, conn: int = 1, cipher: str = "TLS_AES_256_GCM_SHA384") -> list[tuple[Any, ...]]:
    return rig.tell("tls_up", conn, "1.3", cipher, None, None, False)


def ask(rig: Rig, *items: tuple[Any, ...], early: bool = False) -> list[tuple[Any, ...]]:
    return rig.tell("commands", 1, list(items), early, False, 0)


def content(rig: Rig) -> bytes:
    """Send a message and return the field that it got."""
    rig.tell("content", 1, 500, "complete", 0, 100, 0, "<a@b>", "", "", (50, True, True, 0))
    prepend: bytes = rig.core.commits[-1][2]
    return prepend


def test_starttls_is_followed_by_a_session_that_knows_nothing(rig: Rig) -> None:
    rig.open(1)
    assert b"250-STARTTLS" in ask(rig, *HELLO)[0][1]
    assert ask(rig, ("STARTTLS",)) == [("start_tls", 40, replies.START_TLS)]
    assert up(rig) == [("reply", b"", 1, 0, False)]
    assert ask(rig, ENVELOPE[0])[0][1] == replies.GREET_FIRST
    assert b"STARTTLS" not in ask(rig, *HELLO)[0][1]
    ask(rig, *ENVELOPE)
    field = content(rig).decode()
    assert "\r\n\t(version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384)\r\n\tby relay1" in field
    assert " with ESMTPS id q500" in field
    assert rig.core.journalled == [{"tls": "1.3 TLS_AES_256_GCM_SHA384"}]


def test_a_message_without_tls_says_nothing_of_it(rig: Rig) -> None:
    rig.open(1)
    ask(rig, *HELLO)
    ask(rig, *ENVELOPE)
    field = content(rig).decode()
    assert "with ESMTP id" in field
    assert "cipher" not in field
    assert rig.core.journalled == [{}]


def test_lines_about_tls_are_short() -> None:
    from penstock.receive.received import tls_comment

    field = ReceivedField().make(
        greeting="a",
        peer="[10.0.0.1]",
        fqdn="b",
        protocol="ESMTPS",
        queue_id="q",
        recipient="",
        now_ms=NOW_MS,
        tls=tls_comment("1.2", LONGEST),
    )
    assert max(map(len, field.split(b"\r\n"))) < 78


def test_a_connector_without_certificate_offers_none(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.open(1)
    assert b"STARTTLS" not in ask(rig, *HELLO)[0][1]
    assert ask(rig, ("STARTTLS",))[0][1] == replies.NOT_IMPLEMENTED


def test_a_listener_may_begin_with_tls(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tls=settings(tmp_path, implicit_listeners=(1,)))
    assert rig.open(1) == [("begin", 0, b"", 0, 40)]
    ((kind, banner, *_),) = up(rig)
    assert (kind, banner) == ("reply", b"220 relay1.contoso.example ESMTP Penstock\r\n")
    rig.open(2)
    assert rig.open(3) == [("reply", b"", 0, 0, True)], "who waits for a handshake is told nothing"


def test_mail_waits_for_tls_where_it_is_required(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tls=settings(tmp_path, is_required=True))
    rig.open(1)
    ask(rig, *HELLO)
    assert ask(rig, ENVELOPE[0])[0][1] == replies.TLS_REQUIRED
    ask(rig, ("STARTTLS",))
    up(rig)
    ask(rig, *HELLO)
    assert ask(rig, ENVELOPE[0])[0][1] == replies.SENDER_OK


def test_a_handshake_of_a_connection_that_is_gone_is_no_news(rig: Rig) -> None:
    rig.open(1)
    rig.receiver.closed(("closed", 1, "reset", None))
    assert up(rig) == []


def test_renewed_files_are_used_and_bad_ones_are_not(rig: Rig, tmp_path: Path) -> None:
    chain, key = tmp_path / "mail.chain.pem", tmp_path / "mail.key"
    assert rig.core.tls == [([(chain.read_bytes(), key.read_bytes())], "1.2", "none", None)]
    rig.open(1)

    def look() -> list[str]:
        rig.now_ms += 1_000
        ask(rig, ("NOOP",))
        return [text for name, text in rig.receiver.alarms(rig.now_ms) if name == "certificate_unusable"]

    assert look() == []
    assert len(rig.core.tls) == 1, "nothing has changed"
    install(tmp_path, "renewed", under="mail")
    assert look() == []
    assert rig.core.tls[1:] == [([(chain.read_bytes(), key.read_bytes())], "1.2", "none", 40)]
    rig.core.unusable = CertificateUnusable(0, "key", "it is not the key of the certificate")
    install(tmp_path, "other", key="mail", under="mail")
    assert look() == [f"{key}: it is not the key of the certificate"]
    rig.core.unusable = None
    key.unlink()
    assert look() == [f"{key}: it cannot be read: No such file or directory"]
    install(tmp_path, "mail")
    assert look() == []
    key.chmod(0o640)
    assert look() == [], "no other octets, and the look is at size and time"
    assert len(rig.core.tls) == 3


def test_a_certificate_that_cannot_be_used_refuses_the_start(tmp_path: Path) -> None:
    tls = settings(tmp_path)
    Path(tls.certificates[0].key).chmod(0o604)
    with pytest.raises(CertificateFailed) as failed:
        Rig(tmp_path, tls=tls)
    assert (failed.value.file, failed.value.is_exposed) == (tls.certificates[0].key, True)


def test_files_are_read_up_to_a_limit(tmp_path: Path) -> None:
    (certificate,) = settings(tmp_path).certificates
    Path(certificate.chain).write_bytes(b"x" * FILE_BYTES_MAX)
    assert len(read_pair(certificate)[0]) == FILE_BYTES_MAX
    Path(certificate.chain).write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(CertificateFailed, match="more than"):
        read_pair(certificate)
