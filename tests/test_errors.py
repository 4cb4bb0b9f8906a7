from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest

from penstock import errors


@dataclass(frozen=True)
class Problem:
    severity: str


EXAMPLES: list[tuple[errors.PenstockError, str]] = [
    (errors.ConfigError([Problem("error")]), "configuration refused: 1 error"),
    (
        errors.ConfigError([Problem("error"), Problem("warning"), Problem("error")]),
        "configuration refused: 2 errors, 1 warning",
    ),
    (
        errors.ConfigError([Problem("error"), *[Problem("warning")] * 2]),
        "configuration refused: 1 error, 2 warnings",
    ),
    (errors.CertificateUnusable(1, "key", "it is encrypted"), "certificate 1, key: it is encrypted"),
    (errors.CertificateFailed("/tls/a.key", "it is empty"), "/tls/a.key: it is empty"),
    (errors.InvalidEnvelope("recipients[2]", "is empty"), "recipients[2]: is empty"),
    (errors.ContentRefused("too_large", 65_536), "content refused: too_large (the limit is 65536)"),
    (errors.ContentRefused("bad_line_ending"), "content refused: bad_line_ending"),
    (errors.Unavailable(2.5), "no mail is taken now; try again in 2.5 s"),
    (errors.SpoolFull(60), "the disk of the spool is full; try again in 60 s"),
    (errors.BackPressure("behind", 1), "too much mail at once: behind; try again in 1 s"),
    (errors.EngineStopping(5), "the engine is stopping; try again in 5 s"),
    (errors.DraftRefused("budget"), "the spool takes no new message now: budget"),
    (errors.SpoolError("it broke"), "it broke"),
    (errors.SpoolLocked(812), "the spool is in use by process 812"),
    (errors.SpoolLocked(0), "the spool is in use by another process"),
    (errors.SpoolFormat(2, 1), "the spool has format 2, this version reads up to 1"),
    (errors.SpoolFailed("/spool/log", 5), "/spool/log: error 5"),
    (errors.SpoolDamaged("no log"), "no log"),
    (
        errors.BindFailed("127.0.0.1:25", 98, "Address already in use"),
        "cannot listen on 127.0.0.1:25: Address already in use",
    ),
    (errors.BindFailed("[::]:25", 13), "cannot listen on [::]:25: error 13"),
    (errors.NotFound("0saj3v6580402"), "not found: 0saj3v6580402"),
    (errors.Ambiguous(["a\\17", "b\\18"]), "ambiguous, could be a\\17 or b\\18"),
    (errors.QueryRefused("and[1].not", "it has no order"), "query refused: and[1].not: it has no order"),
    (errors.QueryRefused("", "it is no tuple"), "query refused: it is no tuple"),
    (errors.ControlError("it broke"), "it broke"),
    (errors.Unreachable("/run/s", "refused"), "no daemon answers at /run/s: refused"),
    (errors.Unreachable("/run/s"), "no daemon answers at /run/s"),
    (
        errors.ProtocolMismatch("9.0"),
        "the daemon has version 9.0, which this client does not understand",
    ),
    (errors.Misuse("called twice"), "called twice"),
    (errors.EngineClosed(), "the engine is closed"),
]


@pytest.mark.parametrize(("error", "text"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_each_error_is_one_sentence(error: errors.PenstockError, text: str) -> None:
    assert str(error) == text


def test_every_error_is_listed_and_has_an_example() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.PenstockError)
    }
    assert classes <= set(errors.__all__)
    bases = {"PenstockError", "SubmissionError"}
    assert classes - bases == {type(error).__name__ for error, _ in EXAMPLES}


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (errors.InvalidEnvelope, [errors.SubmissionError]),
        (errors.ContentRefused, [errors.SubmissionError]),
        (errors.SpoolFull, [errors.Unavailable]),
        (errors.BackPressure, [errors.Unavailable]),
        (errors.EngineStopping, [errors.Unavailable]),
        (errors.SpoolLocked, [errors.SpoolError]),
        (errors.SpoolFormat, [errors.SpoolError]),
        (errors.SpoolFailed, [errors.SpoolError]),
        (errors.SpoolDamaged, [errors.SpoolError]),
        (errors.Unreachable, [errors.ControlError]),
        (errors.ProtocolMismatch, [errors.ControlError]),
        (errors.EngineClosed, [errors.Misuse, RuntimeError]),
    ],
)
def test_errors_are_arranged_by_who_must_act(
    error: type[errors.PenstockError], parents: list[type[Exception]]
) -> None:
    assert issubclass(error, errors.PenstockError)
    assert all(issubclass(error, parent) for parent in parents)


def test_fields_are_those_that_the_reader_acts_on() -> None:
    problems = [Problem("warning"), Problem("error")]
    assert errors.ConfigError(problems).problems == tuple(problems)
    assert errors.SpoolFull(60).retry_after_s == 60
    assert errors.BackPressure("behind", 1).resource == "behind"
    assert errors.Ambiguous(["a", "b"]).candidates == ("a", "b")
    assert errors.ProtocolMismatch("9.0").server_version == "9.0"
    assert errors.Unreachable("/run/s", "refused").socket == "/run/s"
    assert (errors.BindFailed("x", 98).address, errors.BindFailed("x", 98).errno) == ("x", 98)


@pytest.mark.parametrize(
    "error",
    [
        errors.SpoolDamaged("a\nb\r\n\tc\x1b[2J\x00\N{RIGHT-TO-LEFT OVERRIDE}d"),
        errors.NotFound("a\nb"),
        errors.Unreachable("/run/\n", "a\nb"),
    ],
)
def test_no_error_is_more_than_one_printable_line(error: errors.PenstockError) -> None:
    assert str(error).isprintable()
