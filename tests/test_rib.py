"""The RIB of a table so large that walks in it begin far down, against a dict that is asked for every length."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

import numpy as np
import pytest

import kubenet_fastpath as kf

Network = IPv4Network | IPv6Network
CROWDED, LONE = 30_000, 4_000  # more than 65,536 nodes may come of these
STEPS = 4_000
LENGTHS = {4: [8, 12, 16, 17, 18, 19, 20, 22, 24, 25, 32], 6: [16, 17, 18, 19, 29, 32, 40, 48, 64, 128]}


class Model(dict[Network, int]):
    def longest(self, address: int, family: int) -> tuple[str, int] | None:
        bits = 32 if family == 4 else 128
        kind = IPv4Network if family == 4 else IPv6Network
        for length in range(bits, -1, -1):
            prefix = kind((address >> (bits - length) << (bits - length), length))
            if prefix in self:
                return str(prefix), self[prefix]
        return None


def near(draw: random.Random, family: int, network: int, length: int) -> Network:
    """A prefix that covers another, lies in it, or is beside it."""
    bits = 32 if family == 4 else 128
    other = draw.choice([*LENGTHS[family], max(length - 1, 0), length, min(length + 1, bits)])
    network ^= draw.choice([0, 0, 1 << draw.randrange(bits)])
    if other > length:
        network |= draw.getrandbits(bits - length) if length < bits else 0
    return ip_network((network >> (bits - other) << (bits - other), other))


def some(draw: random.Random, family: int) -> list[Network]:
    """Prefixes in few blocks, most with others above and below, then lone ones: forks that go when one of two goes."""
    bits = 32 if family == 4 else 128
    blocks = [draw.getrandbits(14) << (bits - 14) for _ in range(40)]
    found: dict[Network, None] = {}
    while len(found) < CROWDED + LONE:
        length = draw.choice(LENGTHS[family][3:])
        network = draw.getrandbits(bits)
        if len(found) < CROWDED:
            network = draw.choice(blocks) | network >> 14
        found[ip_network((network >> (bits - length) << (bits - length), length))] = None
    return list(found)


@pytest.mark.parametrize("family", [4, 6])
def test_single_changes_of_a_large_table(family: int) -> None:
    draw = random.Random(family)
    bits = 32 if family == 4 else 128
    held = some(draw, family)
    model = Model((prefix, i) for i, prefix in enumerate(held))
    table = kf.RouteTable.from_text([f"{prefix} {hop}" for prefix, hop in model.items()], family=family)
    assert len(table) == len(model)
    for step in range(STEPS):
        at = len(held) - 1 - int(len(held) * draw.random() ** 4)  # half of them are lone
        old = held[at]
        prefix = near(draw, family, int(old.network_address), old.prefixlen)
        if draw.random() < 0.5 and old in model:
            prefix = old
            del table[str(old)], model[old]
            assert str(old) not in table
        else:
            table[str(prefix)] = model[prefix] = step
            held[at] = prefix
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        addresses = [
            first,
            last,
            max(first - 1, 0),
            min(last + 1, (1 << bits) - 1),
            draw.randint(first, last),
        ]
        for address in addresses:
            text = str(ip_network((address, bits)).network_address)
            assert table.longest_match(text) == model.longest(address, family)
    assert dict(table.items()) == {str(prefix): hop for prefix, hop in model.items()}


@pytest.mark.parametrize("length", range(19, 37))
def test_what_holds_above_a_remembered_node_comes_and_goes(length: int) -> None:
    """Walks of IPv6 begin at a fork of at most 36 bits, and what held there when it was found may hold no more."""
    base = 0x20010DB8 << 96
    many = [f"3fff:{i >> 16:x}:{i & 0xFFFF:x}::/48 {i}" for i in range(CROWDED + LONE)]
    table = kf.RouteTable.from_text(many, family=6)
    table[base, 48] = 1
    table[base | 1 << 128 - 36, 48] = 2  # a fork of 35 bits
    table["::/0"] = 3  # all that was remembered before the fork came is forgotten
    del table["::/0"]
    address = base | 1 << 128 - 40
    octets = np.frombuffer(address.to_bytes(16, "big"), np.uint8).reshape(1, 16)
    above = ip_network((base >> 128 - length << 128 - length, length))
    for hop in range(3):
        assert table.longest_match(str(IPv6Address(address))) is None
        table[str(above)] = hop
        assert table.longest_match(str(IPv6Address(address))) == (str(above), hop)
        assert table.lookup(octets).tolist() == [hop]
        del table[str(above)]
        assert table.lookup(octets).tolist() == [table.MISS]
