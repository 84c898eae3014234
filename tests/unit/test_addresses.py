"""Which addresses a URL of somebody else's may lead to."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.addresses import Allowance, Rules, is_public

LOCAL_V4 = st.one_of(
    *(
        st.ip_addresses(network=network)
        for network in (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "224.0.0.0/3",
        )
    )
)
LOCAL_V6 = st.one_of(
    *(
        st.ip_addresses(network=network)
        for network in (
            "::/96",  # unspecified, loopback, IPv4-compatible
            "::ffff:0:0/96",  # IPv4-mapped
            "64:ff9b::/96",  # NAT64
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/32",  # Teredo
            "2001:db8::/32",
            "2002::/16",  # 6to4
            "fc00::/7",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        )
    )
)


@given(LOCAL_V4 | LOCAL_V6)
def test_no_address_of_special_use_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(address)
    assert not Rules().allow("example.org", address, 443)


@given(st.ip_addresses())
def test_nothing_is_public_that_python_knows_as_private(address: IPv4Address | IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_embedded_address_is_never_public(address: IPv4Address) -> None:
    number = int(address)
    for embedding in (
        number,
        (0xFFFF << 32) | number,
        (0x64FF9B << 96) | number,
        (0x2002 << 112) | (number << 80),
        (0x20010000 << 96) | (number ^ 0xFFFFFFFF),
    ):
        assert not is_public(IPv6Address(embedding))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_hosts_of_the_internet_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
    assert Rules().allow("example.org", ipaddress.ip_address(text), 443)
    assert not Rules().allow("example.org", ipaddress.ip_address(text), 22)


@pytest.mark.parametrize(
    ("allowed", "host", "address", "port", "may"),
    [
        ("127.0.0.1:9000", "127.0.0.1", "127.0.0.1", 9000, True),
        ("127.0.0.1:9000", "127.0.0.1", "127.0.0.1", 80, False),
        ("127.0.0.1:9000", "127.0.0.1", "127.0.0.2", 9000, False),
        ("127.0.0.1:*", "localhost", "127.0.0.1", 5, True),
        ("10.0.0.0/8", "a.internal", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "a.internal", "10.1.2.3", 8443, False),
        ("10.0.0.0/8", "a.internal", "11.1.2.3", 8443, False),
        ("hooks.internal:8443", "hooks.internal.", "10.1.2.3", 8443, True),
        ("Hooks.Internal", "hooks.internal", "fd00::1", 443, True),
        ("hooks.internal", "other.internal", "10.1.2.3", 443, False),
        ("[fd00::/8]:8443", "hooks.internal", "fd12::1", 8443, True),
        ("fd00::/8", "hooks.internal", "fd12::1", 443, True),
        ("[::1]", "localhost", "::1", 80, True),
        ("127.0.0.0/8:*", "localhost", "::ffff:127.0.0.1", 80, False),
    ],
)
def test_the_operator_allows_hosts_and_networks(
    allowed: str, host: str, address: str, port: int, may: bool
) -> None:
    assert Rules.parse([allowed]).allow(host, ipaddress.ip_address(address), port) is may


@pytest.mark.parametrize("text", ["", ":80", "a b", "10.0.0.1/8", "a:0", "a:65536", "a:x", "u@h", "[::1"])
def test_what_is_no_host_and_no_network_is_no_allowance(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Allowance.parse(text)
