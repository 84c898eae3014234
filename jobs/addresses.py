"""Which addresses a URL of somebody else's may lead to: public ones, and those that the operator allows."""

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Self

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

USUAL_PORTS: Final = frozenset({80, 443})
ANY_PORT: Final = "*"
MAX_PORT: Final = 65535
ALLOWED: Final = re.compile(
    r"""
    \[(?P<bracketed>[^\s@\[\]]+)\](:(?P<port_behind_brackets>[0-9]{1,5}|\*))?
    | (?P<host>[^\s@\[\]:]+)(:(?P<port>[0-9]{1,5}|\*))?
    | (?P<bare>[^\s@\[\]]*:[^\s@\[\]]*:[^\s@\[\]]*)  # IPv6: a last number is none of a port
    """,
    re.VERBOSE,
)

PUBLIC_V6: Final = IPv6Network("2000::/3")
"""All that is given out as global unicast; mapped, compatible, NAT64, local and multicast lie outside."""
# Python's own is_global learns of a network years after IANA, and calls embedded addresses global
NOT_PUBLIC: Final[tuple[Network, ...]] = (
    *map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local: a cloud's metadata service, for one
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    ),
    *map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, which embeds IPv4, and other protocols' own
            "2001:db8::/32",
            "2002::/16",  # 6to4, which embeds IPv4
            "3fff::/20",
        ),
    ),
)


def is_public(address: Address) -> bool:
    """Whether the address is one host of the internet, and embeds no other address."""
    if isinstance(address, IPv6Address) and (address.scope_id or address not in PUBLIC_V6):
        return False
    return not any(address in network for network in NOT_PUBLIC if network.version == address.version)


@dataclass(frozen=True, slots=True)
class Allowance:
    """A name, or a network, that the operator allows on a port, or on any; on the usual two unless given."""

    target: str | Network
    ports: frozenset[int] | None = USUAL_PORTS

    @classmethod
    def parse(cls, text: str) -> Self:
        """`hooks.internal`, `127.0.0.1:9000`, `10.0.0.0/8`, `[fd00::/8]:8443`; `:*` is any port.

        Raises:
            ValueError: it is none of these.
        """
        found = ALLOWED.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is neither a host nor a network, with or without a port")
        host = found["bracketed"] or found["host"] or found["bare"]
        return cls(_target(host), _ports(found["port"] or found["port_behind_brackets"]))

    def covers(self, host: str, address: Address | None, port: int) -> bool:
        """Whether it allows the address (None: not known yet), to which the host's name led, on the port."""
        if self.ports is not None and port not in self.ports:
            return False
        if isinstance(self.target, str):
            return self.target == host.removesuffix(".")
        return address is None or (
            self.target.version == address.version and not _scoped(address) and address in self.target
        )


def _target(host: str) -> str | Network:
    try:
        return ipaddress.ip_network(host)
    except ValueError:
        if "/" in host or ":" in host:
            raise
        return host.lower().removesuffix(".")


def _ports(port: str | None) -> frozenset[int] | None:
    if port is None:
        return USUAL_PORTS
    if port == ANY_PORT:
        return None
    if not 0 < int(port) <= MAX_PORT:
        raise ValueError(f"a port is a number from 1 to {MAX_PORT}, or {ANY_PORT}")
    return frozenset({int(port)})


def _scoped(address: Address) -> bool:
    return isinstance(address, IPv6Address) and address.scope_id is not None


@dataclass(frozen=True, slots=True)
class Rules:
    """Where requests to URLs of others may go: to public addresses on the usual ports, and as allowed."""

    allowed: tuple[Allowance, ...] = ()

    @classmethod
    def parse(cls, allowed: list[str]) -> Self:
        """The rules by what a setting lists, see `Allowance.parse`.

        Raises:
            ValueError: one of them is no host and no network.
        """
        return cls(tuple(map(Allowance.parse, allowed)))

    def allow_port(self, host: str, port: int) -> bool:
        """Whether any address that the host may have could be asked on this port."""
        return port in USUAL_PORTS or any(one.covers(host, None, port) for one in self.allowed)

    def allow(self, host: str, address: Address, port: int) -> bool:
        """Whether the address that the host's name led to may be asked on this port."""
        usual = port in USUAL_PORTS and is_public(address)
        return usual or any(one.covers(host, address, port) for one in self.allowed)
