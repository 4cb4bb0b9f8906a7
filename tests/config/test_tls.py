"""What is configured about TLS, as the engine gets it."""

from __future__ import annotations

from tests.config.conftest import Folder
from tests.support.certificates import install

LAN = '[receive_connector.lan]\nremote_ip_ranges = ["10.20.0.0/16"]\nbindings = ["127.0.0.1:25"]\n'
MAIL = '[certificate.mail]\nchain = "mail.chain.pem"\nkey = { file = "mail.key" }\n'
ALONE = '[certificate.alone]\nchain = "alone.chain.pem"\nkey = { file = "alone.key" }\n'


def test_a_connector_speaks_no_tls_unless_told(folder: Folder) -> None:
    (connector,) = folder.load(LAN).receive_connectors
    assert (connector.certificates, connector.require_tls, connector.implicit_tls_listeners) == (
        (),
        False,
        (),
    )
    assert (connector.tls_minimum, connector.tls_client_certificate) == ("1.2", "none")


def test_certificates_are_found_by_name_and_listeners_told_apart(folder: Folder) -> None:
    install(folder.path, "mail")
    install(folder.path, "alone")
    config = folder.load(
        MAIL + ALONE + LAN + 'implicit_tls_bindings = ["127.0.0.1:465", "[::1]:465"]\n'
        'tls_certificate_name = ["alone", "mail"]\ntls_minimum = "1.3"\nrequire_tls = true\n'
        'tls_client_certificate = "ask"\n'
    )
    assert config.warnings == (), "a certificate that vouches for itself is whole"
    (connector,) = config.receive_connectors
    assert [one.name for one in connector.certificates] == ["alone", "mail"]
    assert connector.certificates[1].chain_file == str(folder.path / "mail.chain.pem")
    assert connector.certificates[1].key_file == str(folder.path / "mail.key")
    assert [str(listener) for listener in config.listeners] == ["127.0.0.1:25", "127.0.0.1:465", "[::1]:465"]
    assert (connector.listeners, connector.implicit_tls_listeners) == ((0, 1, 2), (1, 2))
    assert (connector.tls_minimum, connector.require_tls) == ("1.3", True)
    assert connector.tls_client_certificate == "ask"


def test_one_name_needs_no_list(folder: Folder) -> None:
    install(folder.path, "mail")
    (connector,) = folder.load(f'{MAIL}{LAN}tls_certificate_name = "mail"\n').receive_connectors
    assert [one.name for one in connector.certificates] == ["mail"]


def test_a_connector_has_at_most_64_certificates(folder: Folder) -> None:
    install(folder.path, "mail")
    names = ", ".join(['"mail"'] * 64)
    folder.load(f"{MAIL}{LAN}tls_certificate_name = [{names}]\n")
    (problem,) = folder.problems(f'{MAIL}{LAN}tls_certificate_name = [{names}, "mail"]\n')
    assert problem.code == "C106"
