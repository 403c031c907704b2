"""Saved route tables: an image is refused, or can be looked up in, read, changed and saved.

Bytes are an image, or, where they begin with less than a space, changes of a good one whose checksum is made right.
What a table says whose octets nobody wrote may be nonsense.
"""

from __future__ import annotations

import contextlib

import numpy as np
from test_table_file import IMAGES, USED, keys_of, sealed

import kubenet_fastpath as kf

from ..choices import Choices

LONGEST = 1024
LINES = False
GOOD = [None, (4, "16-8-8"), (6, "b+tree")] * 3 + [(4, "rank")]  # the last takes 4 MiB, and its time
SMALL = kf.RouteTable({"10.0.0.0/8": 1, "10.0.0.0/9": 2}).to_bytes()
EXAMPLES = [bytes([given, op, 30 * op, 0, 0, 3]) for given in (0, 1, 2, 9) for op in range(6)] + [
    SMALL[:1024]
]
KEYS = {family: keys_of(family)[::37] for family in (4, 6)}


def changed(choices: Choices) -> bytes:
    """A good image with a few octets of its head, its arrays or its prefixes changed."""
    given = choices.one(GOOD)
    image = bytearray(IMAGES[given] if given else SMALL)
    used = USED[given] if given else np.arange(len(image))
    while choices:
        operation, where = choices.number() % 6, choices.number(3)
        if operation == 0:
            at = where % 64
        elif operation == 1:
            at = len(image) - 1 - where % min(len(image), 4096)
        else:
            at = int(used[where % len(used)])
        if operation == 3:
            at &= ~3
            image[at : at + 4] = choices.number(4).to_bytes(4, "little")
        elif operation == 4:
            other = int(used[choices.number(3) % len(used)])
            image[at : at + 8] = image[other : other + 8].ljust(8, b"\0")
        elif operation == 5:
            image[at] ^= 1 << choices.number() % 8
        else:
            image[at] = choices.number()
    return sealed(bytes(image))


def run(data: bytes) -> None:
    image = changed(Choices(data)) if data[:1] < b" " else data
    try:
        table = kf.RouteTable.from_buffer(bytearray(image))
    except kf.TableFileError:
        return
    keys = KEYS[table.family]
    hops = table.lookup(keys)
    assert table.lookup(keys[:5]).tolist() == hops[:5].tolist()
    assert kf.RouteTable.from_buffer(table.to_bytes()).lookup(keys).tolist() == hops.tolist()
    with contextlib.suppress(kf.AddressError, kf.TableFileError):  # its prefixes are none
        table.items()
        table.lookup_all(keys[:50])
        table[(0, 0)] = 9
        table.lookup(keys)
        del table[(0, 0)]
        table.copy().to_bytes()
