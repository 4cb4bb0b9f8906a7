"""Permission groups as the profile has them, for tests that build settings by hand."""

from __future__ import annotations

from penstock.route.permissions import Member, PermissionGroup, Right

_SEND = Right.SUBMIT | Right.ACCEPT_ANY_SENDER | Right.ACCEPT_AUTHORITATIVE_DOMAIN_SENDER

ANONYMOUS = PermissionGroup("anonymous_users", Member.ANONYMOUS, _SEND)
RELAY = PermissionGroup("relay_clients", Member.ANONYMOUS, _SEND | Right.ACCEPT_ANY_RECIPIENT)
USERS = PermissionGroup("authenticated_users", Member.USERS, Right.SUBMIT | Right.ACCEPT_ANY_RECIPIENT)
SERVERS = PermissionGroup("exchange_servers", Member.SERVERS, RELAY.rights | Right.BYPASS_MESSAGE_SIZE_LIMIT)
