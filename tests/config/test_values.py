from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.values import (
    Endpoint,
    Refused,
    SmartHost,
    format_duration,
    format_size,
    quoted,
    read_address_space,
    read_connector_name,
    read_domain,
    read_duration,
    read_endpoint,
    read_ip,
    read_ip_range,
    read_path,
    read_send_connector_name,
    read_server_name,
    read_size,
    read_smart_host,
)
from penstock.route.address_space import AddressSpace

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@pytest.mark.parametrize(
    ("text", "value_ms"),
    [
        ("0s", 0),
        ("250ms", 250),
        ("10s", 10_000),
        ("5m", 5 * MINUTE_MS),
        ("12h", 12 * HOUR_MS),
        ("2d", 2 * DAY_MS),
        ("1h30m", 90 * MINUTE_MS),
        ("1d2h3m4s5ms", DAY_MS + 2 * HOUR_MS + 3 * MINUTE_MS + 4_005),
        ("90m", 90 * MINUTE_MS),
        ("00:05:00", 5 * MINUTE_MS),
        ("0:00:01", 1_000),
        ("23:59:59", DAY_MS - 1_000),
        ("2.00:00:00", 2 * DAY_MS),
        ("00:00:00.2500000", 250),
        ("00:00:00.250", 250),
        ("999999999ms", 999_999_999),
    ],
)
def test_duration_is_read_in_our_form_and_in_that_of_dotnet(text: str, value_ms: int) -> None:
    assert read_duration(text) == value_ms


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "s",
            "1",
            "5 m",
            " 5m",
            "5M",
            "-5m",
            "1.5h",
            "5min",
            "30m1h",
            "5m5m",
            "5m ",
            "٣s",
            "1ms1s",
            "∞",
        ),
        *("24:00:00", "00:60:00", "00:00:60", "00:05", "1.0:00", "00:00:00.1", "00:00:00.2500001"),
        *("1000000000ms", "9" * 10_000 + "s", "unlimited"),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_duration(text)
    assert refused.value.code == ("C104" if text == "1" else "C108")


@pytest.mark.parametrize(
    ("text", "value_bytes"),
    [
        ("0 B", 0),
        ("512 B", 512),
        ("64 KB", 65_536),
        ("36MB", 37_748_736),
        ("36 mb", 37_748_736),
        ("2 GB", 1 << 31),
        ("1 TB", 1 << 40),
        ("2048 KB", 1 << 21),
    ],
)
def test_size_is_a_whole_number_of_powers_of_1024(text: str, value_bytes: int) -> None:
    assert read_size(text) == value_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "36",
        "36  MB",
        "MB",
        "1.5 MB",
        "36 MiB",
        "-1 KB",
        "36 M",
        "36 MB ",
        "٣ MB",
        "1000000000 B",
        "unlimited",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_size(text)
    assert refused.value.code == ("C104" if text == "36" else "C108")


@given(st.integers(0, 999_999_999))
def test_duration_survives_writing_and_reading(value_ms: int) -> None:
    assert read_duration(format_duration(value_ms)) == value_ms


@given(st.integers(0, 999_999_999), st.sampled_from(["B", "KB", "MB", "GB", "TB"]))
def test_size_survives_writing_and_reading(number: int, unit: str) -> None:
    value_bytes = read_size(f"{number} {unit}")
    assert read_size(format_size(value_bytes)) == value_bytes


@given(st.text())
def test_no_text_breaks_a_reader(text: str) -> None:
    readers: list[Callable[[str], object]] = [
        *(read_address_space, read_connector_name, read_domain, read_duration, read_endpoint, read_ip),
        *(read_ip_range, read_path, read_server_name, read_size, read_smart_host),
    ]
    for reader in readers:
        with contextlib.suppress(Refused):
            reader(text)


@given(st.text())
def test_refusal_is_one_printable_line(text: str) -> None:
    for reader in (read_address_space, read_domain, read_endpoint, read_ip_range, read_smart_host):
        refused = refusal(reader, text)
        if refused is not None:
            assert refused.message.isprintable()
            assert refused.fix is None or refused.fix.isprintable()


def refusal(reader: Callable[[str], object], text: str) -> Refused | None:
    try:
        reader(text)
    except Refused as refused:
        return refused
    return None


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Contoso.Example", "contoso.example"),
        ("host", "host"),
        ("_srv.a-b.example", "_srv.a-b.example"),
        (f"{'a' * 63}.example", f"{'a' * 63}.example"),
        (".".join(["a" * 63] * 3 + ["b" * 63]), ".".join(["a" * 63] * 3 + ["b" * 63])),
    ],
)
def test_domain_is_lowered(text: str, domain: str) -> None:
    assert read_domain(text) == domain


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("", None),
        (".", None),
        ("a..b", None),
        ("-a.example", None),
        ("a-.example", None),
        ("a b.example", None),
        ("[10.0.0.1]", None),
        (f"{'a' * 64}.example", None),
        (".".join(["a" * 63] * 4) + ".b", None),
        ("contoso.example.", '"contoso.example"'),
        ("it@Contoso.example", '"contoso.example"'),
        ("büro.example", '"xn--bro-hoa.example"'),
        ("\ud800.example", None),
    ],
)
def test_what_is_no_domain_is_refused_and_what_was_meant_is_proposed(text: str, fix: str | None) -> None:
    with pytest.raises(Refused) as refused:
        read_domain(text)
    assert (refused.value.code, refused.value.fix) == ("C108", fix)


@pytest.mark.parametrize("name", ["m365", "a b", "A.b_c-d", "1a", "x" * 64, "-"])
def test_connector_name(name: str) -> None:
    assert read_connector_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " a", "a ", "a/b", "a\\b", "*", "ü", "a\n", "x" * 65, "17"],
)
def test_connector_name_that_identities_could_not_carry_is_refused(name: str) -> None:
    for read in (read_connector_name, read_send_connector_name):
        with pytest.raises(Refused):
            read(name)


@pytest.mark.parametrize("name", ["Unreachable", "submission", "POISON"])
def test_queues_that_are_always_there_give_their_names_to_no_send_connector(name: str) -> None:
    # No queue is called after a receive connector.
    assert read_connector_name(name) == name
    with pytest.raises(Refused):
        read_send_connector_name(name)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:25", ("127.0.0.1", 25)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::]:65535", ("::", 65_535)),
        ("[2001:DB8:0::1]:25", ("2001:db8::1", 25)),
    ],
)
def test_endpoint_is_an_address_and_a_port(text: str, endpoint: tuple[str, int]) -> None:
    assert read_endpoint(text) == endpoint
    assert read_endpoint(str(Endpoint(*endpoint))) == endpoint


@pytest.mark.parametrize(
    ("text", "code", "fix"),
    [
        ("25", "C108", '"0.0.0.0:25"'),
        (":25", "C108", '"0.0.0.0:25"'),
        ("*:25", "C108", '"0.0.0.0:25"'),
        ("localhost:25", "C108", '"127.0.0.1:25"'),
        ("::1:25", "C108", '"[::1]:25"'),
        ("127.0.0.1", "C108", None),
        ("[127.0.0.1]:25", "C108", None),
        ("[::1]", "C108", None),
        ("[fe80::1%eth0]:25", "C108", None),
        ("relay.example:25", "C108", None),
        ("127.0.0.1:65536", "C106", None),
        ("127.0.0.1:-1", "C106", None),
        ("127.0.0.1:", "C106", None),
    ],
)
def test_what_is_no_endpoint_is_refused(text: str, code: str, fix: str | None) -> None:
    with pytest.raises(Refused) as refused:
        read_endpoint(text)
    assert (refused.value.code, refused.value.fix) == (code, fix)


@pytest.mark.parametrize(
    ("text", "smart_host"),
    [
        ("mail.Example", SmartHost("mail.example")),
        ("mail.example:587", SmartHost("mail.example", 587)),
        ("10.0.0.1", SmartHost("10.0.0.1")),
        ("[10.0.0.1]", SmartHost("10.0.0.1")),
        ("10.0.0.1:1", SmartHost("10.0.0.1", 1)),
        ("[10.0.0.1]:65535", SmartHost("10.0.0.1", 65_535)),
        ("2001:db8::1", SmartHost("2001:db8::1")),
        ("[2001:db8::1]", SmartHost("2001:db8::1")),
        ("[2001:db8::1]:2525", SmartHost("2001:db8::1", 2_525)),
        ("localhost", SmartHost("localhost")),
    ],
)
def test_smart_host_is_a_name_or_an_address(text: str, smart_host: SmartHost) -> None:
    assert read_smart_host(text) == smart_host


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(
            (text, "C108")
            for text in (
                "",
                "[mail.example]",
                "[10.0.0.1",
                "a b",
                "0.0.0.0",
                "224.0.0.1",
                "::",
                "mail.example.",
            )
        ),
        *(
            (text, "C108")
            for text in ("fe80::1%eth0", "unix:/run/x", "mail.example:x", "2001:db8:1:2:3:4:5:6:25")
        ),
        *((text, "C106") for text in ("mail.example:0", "mail.example:65536", "[::1]:0")),
    ],
)
def test_what_is_no_smart_host_is_refused(text: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        read_smart_host(text)
    assert refused.value.code == code


@pytest.mark.parametrize("text", ["10.20.0.11", "10.20.0.0/16", "10.30.1.5-10.30.1.9", "fd00:20::/48", "::1"])
def test_ip_range_is_kept_as_written(text: str) -> None:
    assert read_ip_range(f" {text} ") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.0/33",
        "10.0.0.9-10.0.0.1",
        "10.0.0.1-::1",
        "lan",
        "10.20",
        "fe80::1%eth0",
        "10.0.0.256",
        "é",
    ],
)
def test_what_is_no_ip_range_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_ip_range(text)
    assert refused.value.code == "C108"


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("SMTP:contoso.example;1", AddressSpace("contoso.example", 1)),
        ("*.Contoso.example", AddressSpace("*.contoso.example", 1)),
        ("*;100", AddressSpace("*", 100)),
        ("--", AddressSpace("--", 1)),
    ],
)
def test_address_space(text: str, space: AddressSpace) -> None:
    assert read_address_space(text) == space


@pytest.mark.parametrize("text", ["", "*contoso.example", "*;0", "*;101", "*;x", "X400:*", "a b"])
def test_what_is_no_address_space_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_address_space(text)
    assert refused.value.code == "C108"


@pytest.mark.parametrize("text", ["10.0.0.1", "2001:db8::1"])
def test_ip_address(text: str) -> None:
    assert read_ip(text) == text


@pytest.mark.parametrize("text", ["", "0.0.0.0", "::", "ff02::1", "10.0.0.1:25", "[::1]", "host"])
def test_what_no_host_can_have_as_its_address_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        read_ip(text)


@pytest.mark.parametrize(("octets", "is_read"), [(4_096, True), (4_097, False)])
def test_path_has_a_longest_length(octets: int, *, is_read: bool) -> None:
    if is_read:
        assert len(read_path("a" * octets)) == octets
    else:
        with pytest.raises(Refused):
            read_path("a" * octets)


@pytest.mark.parametrize("text", ["", "a\0b", "a\nb", "a\x1bb"])
def test_path_has_no_control_characters(text: str) -> None:
    with pytest.raises(Refused):
        read_path(text)


@given(st.text())
def test_quoted_text_is_read_back_by_the_parser(text: str) -> None:
    from penstock._core import parse_toml

    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    (_, entries, *_), errors = parse_toml(f"a = {quoted(text)}")
    assert errors == []
    assert entries[0][4][1] == text
