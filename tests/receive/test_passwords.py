from __future__ import annotations

import pytest
from argon2.low_level import Type, hash_secret

from penstock.receive.passwords import (
    NEW_PARAMETERS,
    PASSWORD_CHARACTERS_MIN,
    PasswordRefused,
    hashed,
    matches,
    parameters_of,
    unknowable,
)

SALT, DIGEST = "c29tZXNhbHRzb21lc2FsdA", "A" * 43


def stored(
    memory: int = 19_456, passes: int = 2, lanes: int = 1, salt: str = SALT, digest: str = DIGEST
) -> str:
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${digest}"


def test_what_is_stored_matches_its_password_alone() -> None:
    kept = hashed("open sesame")
    assert parameters_of(kept) == NEW_PARAMETERS == (19_456, 2, 1)
    assert matches(kept, "open sesame")
    assert not matches(kept, "open sesamf")
    assert hashed("open sesame") != kept, "each has a salt of its own"


def test_a_password_is_stored_as_it_will_be_prepared() -> None:
    assert matches(hashed("mu\u0308ller-strasse"), "m\u00fcller-strasse")


@pytest.mark.parametrize(
    ("password", "is_taken"),
    [
        ("x" * PASSWORD_CHARACTERS_MIN, True),
        ("x" * (PASSWORD_CHARACTERS_MIN - 1), False),
        ("x" * 255, True),
        ("x" * 256, False),
        ("ü" * 127, True),
        ("ü" * 128, False),
        ("pass\0word", False),
        ("pass\nword", False),
        ("", False),
    ],
)
def test_a_password_has_limits(password: str, is_taken: bool) -> None:
    if is_taken:
        assert matches(hashed(password), password)
        return
    with pytest.raises(PasswordRefused) as refused:
        hashed(password)
    assert not password or password not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        (stored(), (19_456, 2, 1)),
        (stored(memory=7_168), (7_168, 2, 1)),
        (stored(memory=7_167), None),
        (stored(memory=65_536), (65_536, 2, 1)),
        (stored(memory=65_537), None),
        (stored(memory=4_194_304), None),
        (stored(passes=1), (19_456, 1, 1)),
        (stored(passes=0), None),
        (stored(passes=10), (19_456, 10, 1)),
        (stored(passes=11), None),
        (stored(lanes=4), (19_456, 2, 4)),
        (stored(lanes=5), None),
        (stored(lanes=0), None),
        (stored(salt="c2FsdA"), None),
        (stored(salt="A" * 87), None),
        (stored(salt="A" * 13), None),
        (stored(digest="A" * 21), None),
        (stored(digest="A" * 87), None),
        (stored().replace("argon2id", "argon2i"), None),
        (stored().replace("v=19", "v=16"), None),
        (stored() + "\n", None),
        (stored() + "=", None),
        ("", None),
    ],
)
def test_what_a_file_may_ask_for_is_bounded(text: str, parameters: tuple[int, int, int] | None) -> None:
    assert parameters_of(text) == parameters


def test_what_others_have_made_is_read() -> None:
    kept = hash_secret(b"open sesame", b"saltsaltsaltsalt", 3, 65_536, 4, 32, Type.ID).decode()
    assert parameters_of(kept) == (65_536, 3, 4)
    assert matches(kept, "open sesame")


def test_nobody_knows_the_password_of_nobody() -> None:
    nobody = unknowable(NEW_PARAMETERS)
    assert parameters_of(nobody) == NEW_PARAMETERS
    assert len(nobody) == len(hashed("open sesame"))
    assert not matches(nobody, "open sesame")
    assert unknowable(NEW_PARAMETERS) != nobody
