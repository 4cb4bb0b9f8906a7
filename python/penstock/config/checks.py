"""What single keys cannot show: rules that join several keys, tables or files."""

from __future__ import annotations

import difflib
import ipaddress
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from penstock.config import model
from penstock.config.auth_checks import TRUST, Finding, connector_findings, store_findings, trusts
from penstock.config.in_force import in_force, is_profiles_own, lacks_certificate, permission_groups
from penstock.config.problems import Problem
from penstock.config.settings import Config
from penstock.config.tls import check_tls
from penstock.config.tree import Entry, Node, Path, absolute, plain
from penstock.config.validate import Tables
from penstock.config.values import Endpoint, quoted
from penstock.receive.connectors import IpRange, is_open_to_the_public, parse_range
from penstock.receive.pressure import RESOURCES
from penstock.route.permissions import Right, rights_of
from penstock.route.router import UNREACHABLE, Router
from penstock.route.settings import RouteConnector, RouteDomain

__all__ = ["Checks", "check_outcome"]

SMTP_PORT: Final = 25
EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
"""Who meets a connector of usage `internet` that lists nobody."""
SOCKET_OCTETS_MAX: Final = 107
"""Linux' sun_path, without the octet that ends it."""
EXCHANGE_GROUPS: Final = {"exchangeusers": "authenticated_users"}
"""Groups of Exchange that are called otherwise here."""
GROUP_LIKENESS: Final = 0.9
"""Less would take Exchange's users for its servers, who may do everything."""
EXTENSION_NEEDS: Final = {
    "binary_mime_enabled": ("chunking_enabled", "eight_bit_mime_enabled"),
    "smtp_utf8_enabled": ("eight_bit_mime_enabled",),
}
NOT_HONOURED: Final = (
    "binary_mime_enabled",
    "delivery_status_notification_enabled",
    "smtp_utf8_enabled",
    "mt_priority_enabled",
    "deliver_by_enabled",
    "future_release_enabled",
    "require_tls_extension_enabled",
)
"""Extensions that delivery knows nothing of yet."""
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104


class Checks:
    """Judges the tables that could be read."""

    def __init__(self, tree: Node, tables: Tables, problems: list[Problem]) -> None:
        """Prepare.

        Args:
            tree: Where everything is written.
            tables: What could be read of it.
            problems: Takes what is found.
        """
        self._tree = tree
        self._tables = tables
        self._problems = problems

    def run(self) -> None:
        """Apply every rule. **Blocking**: looks at files that are named."""
        self._names()
        self._domains()
        for name in self._named("receive_connector"):
            self._ranges(("receive_connector", name))
        for name, connector in in_force(self._tree, self._tables):
            self._receive(("receive_connector", name), connector)
        for name, send in self._tables.send_connectors.items():
            if send.enabled:
                self._send(("send_connector", name), send)
        self._authentication()
        self._same_ranges()
        self._pressure()
        self._endpoints()
        self._socket()
        check_tls(self._tree, self._tables, dict(in_force(self._tree, self._tables)), self._add)

    def _entries(self, path: Path) -> Mapping[str, Entry]:
        node = self._tree.find(path)
        return node.entries if node is not None else {}

    def _named(self, kind: str) -> Iterable[str]:
        return self._entries((kind,)).keys()

    def _add(
        self, code: str, message: str, path: Path, *, is_key: bool = False, fix: str | None = None
    ) -> None:
        place = self._tree.place_of(path, key=is_key)
        self._problems.append(place.problem(code, message, path=path, fix=fix))

    def _names(self) -> None:
        """One name space for connectors of both kinds, in which case means nothing."""
        first: dict[str, Path] = {}
        used = dict(in_force(self._tree, self._tables))
        for kind in ("receive_connector", "send_connector"):
            for name in self._named(kind):
                path = (kind, name)
                if is_profiles_own(self._tree, path) and name not in used:
                    continue
                other = first.setdefault(name.lower(), path)
                if other is not path:
                    where = self._tree.place_of(other, key=True)
                    message = f"{other[0]} {other[1]} ({where}) has this name already."
                    self._add("C110", message, path, is_key=True)

    def _domains(self) -> None:
        seen: dict[str, Path] = {}
        for name in self._named("accepted_domain"):
            path: Path = ("accepted_domain", name)
            other = seen.setdefault(name.lower(), path)
            if other is not path:
                where = self._tree.place_of(other, key=True)
                self._add("C111", f"The domain is there already ({where}).", path, is_key=True)
        default = ""
        for name, domain in self._tables.accepted_domains.items():
            path = ("accepted_domain", name)
            if domain.default and default:
                self._add("C111", f"{default} is the default domain already.", (*path, "default"))
            if domain.default:
                default = default or name
            self._domain(path, domain)

    def _domain(self, path: Path, domain: model.AcceptedDomain) -> None:
        if domain.type == "authoritative":
            wanted = {
                "recipients": (domain.recipients, '{ file = "recipients" }'),
                "deliver_to": (domain.deliver_to, '{ maildir = "DIRECTORY" }'),
            }
            missing = [f"{key} = {example}" for key, (value, example) in wanted.items() if value is None]
            if missing:
                message = "An authoritative domain needs both recipients and deliver_to."
                self._add("C121", message, path, is_key=True, fix="\n".join(missing))
        elif domain.deliver_to is not None:
            message = f"Mail for a domain of type {domain.type} goes on through a send connector."
            self._add("C124", message, (*path, "deliver_to"), is_key=True)
        if domain.recipients is not None:
            self._readable((*path, "recipients", "file"), domain.recipients.file)

    def _readable(self, path: Path, file: str) -> None:
        full = absolute(self._tree, path, file)
        try:
            if not stat.S_ISREG(os.stat(full).st_mode):
                reason = "is not a regular file"
            elif not os.access(full, os.R_OK):
                reason = "may not be read"
            else:
                return
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        self._add("C125", f"{full} {reason}.", path)

    def _receive(self, path: Path, connector: model.ReceiveConnector) -> None:
        if connector.connection_inactivity_timeout > connector.connection_timeout:
            message = "connection_inactivity_timeout must not be longer than connection_timeout."
            self._add("C103", message, (*path, "connection_inactivity_timeout"))
        groups = permission_groups(self._tables)
        for index, group in enumerate(connector.permission_groups):
            if group not in groups and self._tree.find(("permission_group", group)) is None:
                known = ", ".join(quoted(name) for name in groups)
                message = f"There is no permission group {quoted(group)}; there are {known}."
                meant = _group_meant(group, groups)
                fix = None if meant is None else quoted(meant)
                self._add("C133", message, (*path, "permission_groups", index), fix=fix)
        # Of connectors that trust their peers `auth_checks` says so.
        may_relay = self._may_relay(connector.permission_groups, trusts_peers=False)
        if may_relay and TRUST not in connector.auth_mechanism and connector.remote_ip_ranges is None:
            message = "Whoever meets this connector may send to every domain, so it must list who may use it."
            fix = 'remote_ip_ranges = ["10.20.0.0/16"]'
            self._add("C122", message, path, is_key=True, fix=fix)
        self._extensions(path, connector)
        if connector.protocol == "lmtp":
            self._lmtp(path, connector)

    def _lmtp(self, path: Path, connector: model.ReceiveConnector) -> None:
        """RFC 2033 5: not on the port of SMTP, where mail would be lost on those who do not expect it."""
        for key in ("bindings", "implicit_tls_bindings"):
            for index, binding in enumerate(getattr(connector, key)):
                if binding.port == SMTP_PORT:
                    message = f"{binding} is where SMTP is spoken; take another port, 24 for instance."
                    self._add("C135", message, (*path, key, index))
        for key in ("pipelining_enabled", "enhanced_status_codes_enabled"):
            if not getattr(connector, key):
                self._add("C103", f"A server of LMTP has to offer {key[:-8]}.", (*path, key))

    def _extensions(self, path: Path, connector: model.ReceiveConnector) -> None:
        """Some extensions are extensions of others (RFC 3030 3, RFC 6531 3.1)."""
        for key in NOT_HONOURED:
            if not getattr(connector, key):
                continue
            missing = [needed for needed in EXTENSION_NEEDS.get(key, ()) if not getattr(connector, needed)]
            if missing:
                self._add("C103", f"{key} needs {' and '.join(missing)}.", (*path, key))
            else:
                message = f"{key}: what is asked for so is kept with the message, and delivery ignores it."
                self._add("C208", message, (*path, key))

    def _may_relay(self, groups: object, *, trusts_peers: bool) -> bool:
        """Whether groups, as they are written, let whoever meets their connector send to any recipient."""
        known = permission_groups(self._tables)
        named = [known[group] for group in groups if group in known] if isinstance(groups, tuple) else []
        return Right.ACCEPT_ANY_RECIPIENT in rights_of(named, is_server=trusts_peers)

    def _ranges(self, path: Path) -> None:
        """An open relay is told of whatever else is wrong with its connector."""
        table = {key: plain(entry.node) for key, entry in self._entries(path).items()}
        if table.get("enabled") is False:
            return
        for key in ("proxy_protocol_ranges", "xclient_ranges"):
            self._trusted(path, key, table.get(key))
        if not isinstance(table.get("remote_ip_ranges"), tuple):
            return
        trusts_peers = trusts(table.get("auth_mechanism"))
        may_relay = self._may_relay(table.get("permission_groups"), trusts_peers=trusts_peers)
        for index, text in enumerate(table["remote_ip_ranges"]):
            here = (*path, "remote_ip_ranges", index)
            try:
                span = parse_range(text)
            except (ValueError, AttributeError):
                continue
            if may_relay and is_open_to_the_public(span):
                message = (
                    f"Open relay: {text} could send mail to anybody without authentication. "
                    "A range of public addresses may be a /16 (IPv6 /32) at most; list those who may relay, "
                    "or take usage internet."
                )
                self._add("C120", message, here)
            network = _network_meant(text)
            if network is not None:
                self._add("C206", f"{text} means all of {network}.", here, fix=quoted(network))

    def _trusted(self, path: Path, key: str, texts: object) -> None:
        """Whoever may say who he is has the rights of everybody, those of who may relay among them."""
        for index, text in enumerate(texts if isinstance(texts, tuple) else ()):
            try:
                is_open = is_open_to_the_public(parse_range(text))
            except (ValueError, AttributeError):
                continue
            if is_open:
                message = f"Open relay: {text} could say that it is anybody. List the proxies alone."
                self._add("C120", message, (*path, key, index))

    def _send(self, path: Path, connector: model.SendConnector) -> None:
        if not connector.smart_hosts:
            message = "Delivery by MX is not possible in this version: a send connector needs smart_hosts."
            self._add("C123", message, path, is_key=True, fix='smart_hosts = ["mail.example.com"]')
        if connector.source_ip_address is None:
            return
        version = ipaddress.ip_address(connector.source_ip_address).version
        for index, smart_host in enumerate(connector.smart_hosts):
            try:
                other = ipaddress.ip_address(smart_host.host).version
            except ValueError:
                continue
            if other != version:
                message = f"{smart_host.host} cannot be reached from {connector.source_ip_address}."
                self._add("C103", message, (*path, "smart_hosts", index))

    def _pressure(self) -> None:
        """A level that is reached before the one below it is a mistake."""
        table = self._tables.back_pressure
        for resource in RESOURCES if table is not None else ():
            medium, high = (getattr(table, f"{resource}_{level}") for level in ("medium", "high"))
            if high is not None and (medium is None or medium >= high):
                message = f"{resource}_high has to be more than {resource}_medium."
                self._add("C103", message, ("back_pressure", f"{resource}_high"))

    def _authentication(self) -> None:
        found: list[Finding] = []
        for name, connector in in_force(self._tree, self._tables):
            ranges = connector.remote_ip_ranges or EVERYWHERE
            found += connector_findings(name, connector, ranges, self._tables)
        for name, store in self._tables.user_stores.items():
            file = absolute(self._tree, ("user_store", name, "file"), store.file)
            found += store_findings(name, file, self._tables)
        for code, message, path, is_key, fix in found:
            self._add(code, message, path, is_key=is_key, fix=fix)

    def _same_ranges(self) -> None:
        seen: dict[tuple[Endpoint, IpRange], str] = {}
        for name, connector in in_force(self._tree, self._tables):
            for index, text in enumerate(connector.remote_ip_ranges or EVERYWHERE):
                path: Path = ("receive_connector", name, "remote_ip_ranges", index)
                for binding in dict.fromkeys((*connector.bindings, *connector.implicit_tls_bindings)):
                    other = seen.setdefault((binding, parse_range(text)), name)
                    if other != name:
                        self._add("C203", f"{text} meets {other} on {binding}, which comes first.", path)
                        break

    def _endpoints(self) -> None:
        """The system gives an address and port to one socket, and a wildcard takes every address with it."""
        listeners: dict[Endpoint, Path] = {}
        for name, connector in in_force(self._tree, self._tables):
            for key in ("bindings", "implicit_tls_bindings"):
                for index, binding in enumerate(getattr(connector, key)):
                    listeners.setdefault(binding, ("receive_connector", name, key, index))
        used = [*listeners.items()]
        if self._tables.control is not None and self._tables.control.metrics is not None:
            used.append((self._tables.control.metrics, ("control", "metrics")))
        # By IP version and port; port 0 is another one each time.
        bound: dict[tuple[bool, int], dict[str, Path]] = {}
        for endpoint, path in used:
            beside = bound.setdefault((":" in endpoint.host, endpoint.port), {}) if endpoint.port else {}
            taken = {endpoint.host, *WILDCARDS} if endpoint.host not in WILDCARDS else beside.keys()
            other = next((host for host in beside if host in taken), None)
            if other is not None:
                where = f"{Endpoint(other, endpoint.port)} ({self._tree.place_of(beside[other])})"
                self._add("C126", f"{endpoint} cannot be bound beside {where}.", path)
            beside.setdefault(endpoint.host, path)

    def _socket(self) -> None:
        path: Path = ("control", "socket")
        if self._tables.control is None:
            return
        full = absolute(self._tree, path, self._tables.control.socket)
        if len(full.encode()) > SOCKET_OCTETS_MAX:
            message = f"The path of a socket has at most {SOCKET_OCTETS_MAX} octets; this one is {full}."
            self._add("C106", message, path)


def check_outcome(config: Config, tree: Node, tables: Tables) -> Iterator[Problem]:
    """Yield warnings about a configuration without errors as a whole."""
    for name, connector in tables.receive_connectors.items():
        path: Path = ("receive_connector", name)
        if is_profiles_own(tree, path) and connector.enabled and lacks_certificate(connector):
            message = f"{name} of the profile is not in force: it needs a certificate, and a user store."
            fix = f'[receive_connector.{name}]\ntls_certificate_name = "NAME"'
            yield tree.place.source.whole.problem("C210", message, path=path, fix=fix)
    if not config.receive_connectors:
        message = "No receive connector is in force: no mail comes in over SMTP."
        yield tree.place.source.whole.problem("C201", message)
    if "." not in config.fqdn:
        message = (
            f"The server calls itself {config.fqdn}, which is no full name; other servers may refuse it."
        )
        fix = f'fqdn = "{config.fqdn}.example.com"'
        yield tree.place_of(("server", "fqdn")).problem("C202", message, path=("server", "fqdn"), fix=fix)
    router = Router(
        [
            RouteDomain(name=domain.name, type=domain.type, match_sub_domains=domain.match_sub_domains)
            for domain in config.accepted_domains
        ],
        [
            RouteConnector(name=send.name, enabled=send.enabled, address_spaces=send.address_spaces)
            for send in config.send_connectors
        ],
    )
    accepted = tree.find(("accepted_domain",))
    for name in accepted.entries if accepted is not None else ():
        if router.route(f"postmaster@{name}", name) == UNREACHABLE:
            message = "No send connector covers this domain: its mail is taken and waits as Unreachable."
            path = ("accepted_domain", name)
            yield tree.place_of(path, key=True).problem("C205", message, path=path)


def _network_meant(text: str) -> str | None:
    """Return the network of a text that names an address in it, such as 10.20.0.11/16."""
    if "/" not in text:
        return None
    interface = ipaddress.ip_interface(text.strip())
    return None if interface.ip == interface.network.network_address else str(interface.network)


def _group_meant(group: str, known: Iterable[str]) -> str | None:
    """Return the permission group that was probably meant: in Exchange's spelling, or with a slip."""
    folded = {name.replace("_", ""): name for name in known} | EXCHANGE_GROUPS
    said = group.replace("_", "").lower()
    close = difflib.get_close_matches(said, folded, n=1, cutoff=GROUP_LIKENESS)
    return folded[close[0]] if close else None
