"""Text and integers of addresses, prefixes and MACs. Integers are in host order.

Text is judged by the standard library's `ipaddress`: leading zeros, stray spaces and short forms
are refused.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from operator import index
from typing import SupportsIndex

from .errors import AddressError

__all__ = [
    "ipv4", "ipv4_prefix", "ipv4_text", "ipv6", "ipv6_prefix", "ipv6_text", "is_ipv6", "mac", "mac_text", "prefix_text",
]  # fmt: skip

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}")


def ipv4(address: str | SupportsIndex | IPv4Address) -> int:
    """Return an IPv4 address as an integer below 2**32.

    Raises
    ------
    AddressError
        The text or number is no IPv4 address.
    TypeError
        It is neither text nor an integer.

    Examples
    --------
    >>> hex(ipv4("10.244.1.7"))
    '0xaf40107'
    """
    if isinstance(address, str):
        try:
            return int(IPv4Address(address))
        except ValueError:
            raise AddressError(f"not an IPv4 address: {address!r}") from None
    value = int(address) if isinstance(address, IPv4Address) else index(address)
    if not 0 <= value < 1 << 32:
        raise AddressError(f"not an IPv4 address: {value}")
    return value


def ipv4_text(address: SupportsIndex) -> str:
    """Return the dotted quad of an IPv4 address.

    Examples
    --------
    >>> ipv4_text(0x0AF40107)
    '10.244.1.7'
    """
    value = ipv4(address)
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def ipv4_prefix(prefix: str | IPv4Network, *, mask_host_bits: bool = False) -> tuple[int, int]:
    """Return network and length of an IPv4 prefix; an address alone is a /32.

    Whatever `ipaddress.IPv4Network` takes as text is a prefix, a netmask behind the slash included. Bits set
    behind the prefix length are refused, or cleared on request.

    Raises
    ------
    AddressError
        The text is no prefix, or has host bits set.
    TypeError
        It is no text.

    Examples
    --------
    >>> ipv4_prefix("10.244.0.0/16")
    (183762944, 16)
    """
    if not isinstance(prefix, str | IPv4Network):
        raise TypeError(f"a prefix is text such as '10.244.0.0/16', not {type(prefix).__name__}")
    try:
        network = IPv4Network(prefix, strict=not mask_host_bits)
    except ValueError as error:
        raise AddressError(f"not an IPv4 prefix: {prefix!r} ({error})") from None
    return int(network.network_address), network.prefixlen


def prefix_text(network: SupportsIndex, length: SupportsIndex) -> str:
    """Return the text of an IPv4 prefix, the inverse of `ipv4_prefix`.

    Raises
    ------
    AddressError
        The length is not in 0..32, or the network has bits set behind it.

    Examples
    --------
    >>> prefix_text(0x0AF40000, 16)
    '10.244.0.0/16'
    """
    value, bits = ipv4(network), index(length)
    if not 0 <= bits <= 32 or value & (1 << 32 - bits) - 1:
        raise AddressError(f"not an IPv4 prefix: {ipv4_text(value)}/{bits}")
    return f"{ipv4_text(value)}/{bits}"


def is_ipv6(text: str) -> bool:
    """Whether an address or prefix is written as one of IPv6.

    >>> is_ipv6("fd00::1"), is_ipv6("10.0.0.1")
    (True, False)
    """
    return ":" in text


def ipv6(address: str | SupportsIndex) -> int:
    """Return an IPv6 address as an integer below 2**128; there is no zone in it.

    Raises
    ------
    AddressError
        The text or number is no IPv6 address.

    Examples
    --------
    >>> hex(ipv6("fd00::7"))
    '0xfd000000000000000000000000000007'
    """
    if isinstance(address, str):
        try:
            if "%" in address:
                raise ValueError(address)
            return int(IPv6Address(address))
        except ValueError:
            raise AddressError(f"not an IPv6 address: {address!r}") from None
    value = index(address)
    if not 0 <= value < 1 << 128:
        raise AddressError(f"not an IPv6 address: {value}")
    return value


def ipv6_text(address: SupportsIndex) -> str:
    """Return the text of an IPv6 address, as RFC 5952 has it.

    >>> ipv6_text(0xFD << 120 | 7)
    'fd00::7'
    """
    return str(IPv6Address(ipv6(address)))


def ipv6_prefix(prefix: str, *, mask_host_bits: bool = False) -> tuple[int, int]:
    """Return network and length of an IPv6 prefix; an address alone is a /128.

    Bits set behind the prefix length are refused, or cleared on request.

    Raises
    ------
    AddressError
        The text is no prefix, or has host bits set.

    >>> ipv6_prefix("fd00::/64")[1]
    64
    """
    try:
        network = IPv6Network(prefix, strict=not mask_host_bits)
    except ValueError as error:
        raise AddressError(f"not an IPv6 prefix: {prefix!r} ({error})") from None
    return int(network.network_address), network.prefixlen


def mac(address: str | SupportsIndex) -> int:
    """Return a MAC address as an integer below 2**48, first octet highest.

    Text has six octets of two hexadecimal digits, all separated by colons or all by hyphens.

    Raises
    ------
    AddressError
        The text or number is no MAC address.
    TypeError
        It is neither text nor an integer.

    Examples
    --------
    >>> hex(mac("0a:58:0a:f4:01:07"))
    '0xa580af40107'
    """
    if isinstance(address, str):
        match = _MAC.fullmatch(address)
        if match is None:
            raise AddressError(f"not a MAC address: {address!r}")
        return int(address.replace(match[1], ""), 16)
    value = index(address)
    if not 0 <= value < 1 << 48:
        raise AddressError(f"not a MAC address: {value}")
    return value


def mac_text(address: SupportsIndex) -> str:
    """Return the text of a MAC address: lower case, colons.

    Examples
    --------
    >>> mac_text(0x0A580AF40107)
    '0a:58:0a:f4:01:07'
    """
    return mac(address).to_bytes(6, "big").hex(":")
