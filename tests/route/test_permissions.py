from __future__ import annotations

import pytest

from penstock.route.permissions import Member, PermissionGroup, Right, rights_of
from tests.support.groups import ANONYMOUS, RELAY, SERVERS, USERS


@pytest.mark.parametrize(
    ("groups", "is_user", "is_server", "rights"),
    [
        ((), False, False, Right(0)),
        ((), True, True, Right(0)),
        ((ANONYMOUS,), False, False, ANONYMOUS.rights),
        ((ANONYMOUS,), True, False, ANONYMOUS.rights),
        ((USERS,), False, False, Right(0)),
        ((USERS,), True, False, USERS.rights),
        ((USERS,), False, True, Right(0)),
        ((ANONYMOUS, USERS), True, False, RELAY.rights),
        ((SERVERS,), True, False, Right(0)),
        ((SERVERS, ANONYMOUS), False, True, SERVERS.rights),
    ],
)
def test_a_session_has_the_rights_of_all_groups_that_it_belongs_to(
    groups: tuple[PermissionGroup, ...], is_user: bool, is_server: bool, rights: Right
) -> None:
    assert rights_of(groups, is_user=is_user, is_server=is_server) == rights


def test_words_are_those_of_exchange() -> None:
    assert [right.word for right in Right] == [
        "submit",
        "accept_any_sender",
        "accept_authoritative_domain_sender",
        "accept_any_recipient",
        "bypass_message_size_limit",
    ]
    assert {member.value for member in Member} == {"anonymous", "users", "servers"}
