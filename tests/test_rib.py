"""The RIB of a table so large that walks in it begin far down, against a dict that is asked for every length."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network, ip_network

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
