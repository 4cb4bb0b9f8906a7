from __future__ import annotations

from penstock.smtp.tables import CLIENT, SERVER, ClientState, ServerState


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        state = waiting.pop()
        if state not in seen:
            seen.add(state)
            waiting.extend(edges[state])
    return seen


def test_every_server_state_has_a_row_and_can_be_reached() -> None:
    assert set(SERVER) == set(ServerState)
    edges: dict[str, set[str]] = {
        state: {s for pair in row.values() for s in pair} for state, row in SERVER.items()
    }
    assert reachable(ServerState.START, edges) == set(ServerState)


def test_no_state_but_the_last_is_a_dead_end() -> None:
    for state, row in SERVER.items():
        assert (state is ServerState.CLOSED) == (not row)


def test_quit_is_possible_whenever_commands_are() -> None:
    for state, row in SERVER.items():
        if state not in (ServerState.CONTENT, ServerState.CLOSED):
            assert row["QUIT"] == (ServerState.CLOSED, ServerState.CLOSED)
            assert {"NOOP", "RSET", "EHLO", "HELO", "VRFY", "HELP"} <= row.keys()


def test_data_is_answered_354_only_with_a_recipient() -> None:
    allowing = {state for state, row in SERVER.items() if row.get("DATA", (None,))[0] is ServerState.CONTENT}
    assert allowing == {ServerState.RECIPIENTS}


def test_every_client_state_has_a_row_and_can_be_reached() -> None:
    assert set(CLIENT) == set(ClientState)
    edges: dict[str, set[str]] = {state: set(row.values()) for state, row in CLIENT.items()}
    # What is sent of the session's own accord: no reply leads there.
    edges[ClientState.READY] |= {ClientState.RSET, ClientState.MAIL, ClientState.CLOSED}
    edges[ClientState.DATA].add(ClientState.EMPTY)
    assert reachable(ClientState.BANNER, edges) == set(ClientState)
