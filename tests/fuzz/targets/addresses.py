"""Texts of addresses and prefixes, `ipaddress` as the oracle; every way in and every instruction set."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

import numpy as np

import kubenet_fastpath as kf
from kubenet_fastpath import isa
from kubenet_fastpath.address_text import address_texts, parse_addresses

from ..choices import Choices

LONGEST = 512
LINES = False
EXAMPLES = [
    bytes([family, 0, 0]) + b"\n".join(texts)
    for family in (0, 1)
    for texts in (
        [
            b"0.0.0.0",
            b"255.255.255.255",
            b"10.244.1.007",
            b"1.2.3",
            b"1.2.3.4.5",
            b"256.1.1.1",
            b"1..2.3",
            b"",
        ],
        [b"::", b"::1", b"1::", b"::1.2.3.4", b"1:2:3:4:5:6:7:8", b"1:2:3:4:5:6:1.2.3.4", b"1:2:3:4:5:6:7::"],
        [b"1::2::3", b":1:2:3:4:5:6:7", b":::", b"12345::", b"fe80::1%eth0", b"::1.2.3", b"FFFF::aBcD"],
        [b"10.0.0.0/8 1", b"10.244.0.0/16,pods", b"::/0 7", b"fd00::/8"],
        [b"1111:2222:3333:4444:5555:6666:255.255.255.255", b"1.2.3.4\x00", b"\xd9\xa1.2.3.4", b"\xff"],
    )
]
ADDRESS: dict[int, Any] = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}


def oracle(text: bytes, family: int) -> int | None:
    try:
        decoded = text.decode("ascii")
        return None if "%" in decoded else int(ADDRESS[family](decoded))
    except ValueError:
        return None


def run(data: bytes) -> None:
    choices = Choices(data)
    family, wider, step = choices.one((4, 6)), choices.number() % 8, choices.number() % 3 + 1
    text = choices.rest()
    column = text.split(b"\n")
    want = [oracle(line, family) for line in column]
    bare = [oracle(line.rstrip(b"\0"), family) for line in column]  # numpy strips NULs
    width = max(map(len, column), default=0) + wider or 1
    fixed = np.repeat(np.array(column, f"S{width}"), step)[::step]
    shapes: list[tuple[Any, list[int | None]]] = [(column, want), (fixed, bare)]
    with contextlib.suppress(UnicodeDecodeError):
        unicode = [line.decode("ascii") for line in column]
        shapes += [(unicode, want), (np.array(unicode, f"U{width}"), bare)]
    for variant in isa.available():
        for texts, expected in shapes:
            addresses, ok = parse_addresses(texts, family, isa=variant)
            numbers = (
                addresses.tolist() if family == 4 else [int.from_bytes(a.tobytes(), "big") for a in addresses]
            )
            assert ok.tolist() == [number is not None for number in expected]
            assert numbers == [number or 0 for number in expected]
    written = [line.decode() for line in address_texts(addresses[ok]).tolist()]
    assert written == [str(ADDRESS[family](number)) for number in expected if number is not None]
    try:
        table = kf.RouteTable.from_text(
            text, family=family, mask_host_bits=bool(wider & 1), skip_other_family=step == 2
        )
    except (kf.AddressError, ValueError):
        return
    assert len(table) <= len(column)
    for prefix, hop in table.items():
        assert table[prefix] == hop
        assert str(ipaddress.ip_network(prefix)) == prefix
    hops, known = table.lookup_text(column)
    assert known.tolist() == [number is not None for number in want]
    for hop, number in zip(hops.tolist(), want, strict=True):
        match = table.longest_match(ADDRESS[family](number)) if number is not None else None
        assert hop == (match[1] if match else kf.RouteTable.MISS)
