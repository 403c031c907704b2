"""Types of command-line arguments: an error names the option and the value."""

from __future__ import annotations

from argparse import ArgumentTypeError

from .address import ipv4, ipv4_prefix
from .errors import AddressError

__all__ = ["interface_address", "prefix"]


def prefix(text: str) -> str:
    """An IPv4 prefix such as 10.244.1.0/24.

    Raises
    ------
    ArgumentTypeError
        For anything else.
    """
    try:
        ipv4_prefix(text)
    except AddressError as error:
        raise ArgumentTypeError(f"{error}; write it as 10.244.1.0/24") from None
    return text


def interface_address(text: str) -> str:
    """An IPv4 address, with or without the prefix length of its subnet.

    Raises
    ------
    ArgumentTypeError
        For anything else.
    """
    address, slash, length = text.partition("/")
    try:
        ipv4(address)
    except AddressError as error:
        raise ArgumentTypeError(f"{error}; write it as 10.240.0.4 or 10.240.0.4/16") from None
    if slash and not (length.isascii() and length.isdecimal() and int(length) <= 32):
        raise ArgumentTypeError(f"{text!r} has a prefix length that is no number from 0 to 32")
    return text
