"""The whole matrix against the real daemon: we keep all that RFCS.md claims."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from penstock.conformance.case import all_cases
from penstock.conformance.dialogue import Verdict
from penstock.conformance.runner import Target, probe, run
from tests.support.daemon import Daemon, Settings
from tests.support.matrix import RECIPIENT, USER, everything
from tests.support.receiver import Receiver

DEVIATIONS: Final = {
    "5321-6.3-many-hops": "the limit is 30 Received fields, which is Exchange's; max_hop_count changes it",
}
"""What we do not keep, and why. This may only become shorter."""


@pytest.mark.e2e
@pytest.mark.slow
def test_every_rule_is_kept_of_what_is_offered(tmp_path: Path) -> None:
    with Receiver() as sink, Daemon(tmp_path / "relay", everything(tmp_path, sink.port)) as daemon:
        target = Target(
            host="127.0.0.1",
            port=daemon.port,
            sender="me@sender.test",
            recipient=RECIPIENT,
            user=USER,
            relay_recipient="far@elsewhere.test",
            foreign_recipient="nobody@penstock.test",
            maildir=daemon.drop,
        )
        offer = probe(target)
        results = list(run(target, all_cases(), offer))
    wrong = {
        result.case.id: result.outcome
        for result in results
        if result.outcome.verdict not in (Verdict.PASS, Verdict.NOT_OFFERED)
        and not result.outcome.reason.startswith("the server offers ")
    }
    assert {name: outcome for name, outcome in wrong.items() if name not in DEVIATIONS} == {}
    assert set(DEVIATIONS) - set(wrong) == set(), "these are kept now: take them out of DEVIATIONS"
    passed = sum(result.outcome.verdict is Verdict.PASS for result in results)
    assert passed >= 400
    # What is not asked for is because its keyword is not announced, never because something went wrong.
    assert all(
        word.partition("=")[0] not in offer.plain
        for result in results
        if result.outcome.verdict is Verdict.NOT_OFFERED
        for word in result.outcome.reason.split(", ")
    )


@pytest.mark.e2e
@pytest.mark.slow
def test_every_rule_of_lmtp_is_kept(tmp_path: Path) -> None:
    connector = ['protocol = "lmtp"', 'tarpit_interval = "0s"']
    recipients = (RECIPIENT, "postmaster@penstock.test")
    settings = Settings(recipients=recipients, extra={"receive_connector.apps": connector})
    with Daemon(tmp_path / "relay", settings) as daemon:
        target = Target(
            host="127.0.0.1",
            port=daemon.port,
            is_lmtp=True,
            sender="me@sender.test",
            recipient=RECIPIENT,
            foreign_recipient="nobody@penstock.test",
        )
        cases = [case for case in all_cases() if case.rfc == 2033]
        results = list(run(target, cases, probe(target)))
    wrong = {each.case.id: each.outcome for each in results if each.outcome.verdict is not Verdict.PASS}
    assert wrong == {}
    assert len(results) >= 19
