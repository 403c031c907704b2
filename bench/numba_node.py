"""The kubenet path over an array of frames as numba compiles it: what a numba user would write who minds the caches.

Blocks of 64 frames: the first loop checks the frames and reads their flows' slots, the second one finds their rows, and
the third decides and rewrites; so what a loop needs of memory was asked for, for all 64 at once, by the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .array_tables import (
    BYTES,
    DPORT,
    DST,
    FIRST,
    HIGH,
    LOW,
    NONE,
    PACKETS,
    SECOND,
    SEEN,
    SPORT,
    SRC,
    VALUE,
    Tables,
)
from .route_peers import installed

__all__ = ["compiled", "forward"]

BLOCK = 64  # frames


@cache
def compiled() -> Callable[..., int]:
    """The compiled loops.

    Raises
    ------
    Absent
        Without numba.
    """
    numba = installed("numba")
    jit = numba.njit(nogil=True, boundscheck=False, inline="always")
    u64 = np.uint64
    first, second = u64(FIRST), u64(SECOND)

    @jit
    def mixed(low, high):  # type: ignore[no-untyped-def]
        word = (low ^ high * first) * second
        return word ^ word >> u64(32)

    @jit
    def find(slots, low, high):  # type: ignore[no-untyped-def]
        mask = u64(len(slots) - 1)
        at = mixed(u64(low), u64(high)) & mask
        while slots[at, VALUE] != NONE and (slots[at, LOW] != low or slots[at, HIGH] != high):
            at = (at + u64(1)) & mask
        return np.int64(at)

    @jit
    def half(frame, at):  # type: ignore[no-untyped-def]
        raw = np.int64(frame[at >> 1])
        return raw >> 8 | (raw & 0xFF) << 8

    @jit
    def word(frame, at):  # type: ignore[no-untyped-def]
        return half(frame, at) << 16 | half(frame, at + 2)

    @jit
    def mac(frame, at):  # type: ignore[no-untyped-def]
        return half(frame, at) << 32 | word(frame, at + 2)

    @jit
    def put(frame, at, value, count):  # type: ignore[no-untyped-def]
        for i in range(0, count, 2):
            part = (value >> 8 * (count - 2 - i)) & 0xFFFF
            frame[(at + i) >> 1] = part >> 8 | (part & 0xFF) << 8

    @jit
    def folded(total):  # type: ignore[no-untyped-def]
        total = (total & 0xFFFF) + (total >> 16)
        return (total & 0xFFFF) + (total >> 16)

    @jit
    def sums(frame, begin, end):  # type: ignore[no-untyped-def]
        total = np.int64(0)  # in the machine's own byte order, which a one's complement sum does not mind
        for at in range(begin >> 1, end >> 1):
            total += frame[at]
        return folded(total)

    @jit
    def valid(frame):  # type: ignore[no-untyped-def]
        if half(frame, 12) != 0x0800 or half(frame, 14) >> 8 != 0x45 or half(frame, 22) & 0xFF != 17:
            return False
        pseudo = (17 << 8) + np.int64(frame[19])
        whole = folded(sums(frame, 26, 2 * len(frame)) + pseudo) == 0xFFFF
        return sums(frame, 14, 34) == 0xFFFF and (half(frame, 40) == 0 or whole)

    @jit
    def route(table, groups, dst):  # type: ignore[no-untyped-def]
        hop = np.int64(table[dst >> 8])
        return np.int64(groups[(hop & 0x7FFF) << 8 | dst & 255]) if hop & 0x8000 else hop

    @jit
    def rewrite(frame, row, hops):  # type: ignore[no-untyped-def]
        change = np.int64(0)
        for at in range(26, 34, 2):
            change += half(frame, at)
        src, dst = row[SRC], row[DST]
        change -= (src & 0xFFFF) + (src >> 16) + (dst & 0xFFFF) + (dst >> 16)
        put(frame, 24, folded(0xFFFF * 4 + half(frame, 24) + change + hops) % 0xFFFF, 2)
        check = half(frame, 40)
        if check != 0:
            change += half(frame, 34) + half(frame, 36) - row[SPORT] - row[DPORT]
            check = folded(0xFFFF * 6 + check + change) % 0xFFFF
            put(frame, 40, check if check != 0 else 0xFFFF, 2)
        put(frame, 22, half(frame, 22) - hops, 2)
        put(frame, 26, src, 4)
        put(frame, 30, dst, 4)
        put(frame, 34, row[SPORT], 2)
        put(frame, 36, row[DPORT], 2)

    def loops(
        frames, port, out, now, bridge, bridged, macs, table, groups, hops, stations, heard, near, flows, rows
    ):  # type: ignore[no-untyped-def]
        size = np.int64(2 * frames.shape[1] - 14)
        low, high, row_of = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
        touched = np.int64(0)
        for begin in range(0, len(frames), BLOCK):
            count = min(BLOCK, len(frames) - begin)
            for i in range(count):
                frame = frames[begin + i]
                out[begin + i] = 0 if valid(frame) else NONE
                low[i] = word(frame, 26) << 32 | word(frame, 30)
                high[i] = half(frame, 34) << 24 | half(frame, 36) << 8 | 17
                touched ^= flows[mixed(u64(low[i]), u64(high[i])) & u64(len(flows) - 1), LOW]
            for i in range(count):
                row_of[i] = flows[find(flows, low[i], high[i]), VALUE]
                touched ^= rows[max(row_of[i], 0), SRC]
            for i in range(count):
                if row_of[i] == NONE or out[begin + i] == NONE:
                    out[begin + i] = NONE
                    continue
                frame, row, came = frames[begin + i], rows[row_of[i]], port[begin + i]
                dst_mac, station = mac(frame, 0), bridge
                if bridged[came]:
                    at = find(stations, mac(frame, 6), 0)
                    if stations[at, VALUE] != came:
                        out[begin + i] = NONE
                        continue
                    heard[at] = now
                    station = stations[find(stations, dst_mac, 0), VALUE]
                if station == bridge:
                    hop = route(table, groups, row[DST])
                    station, gateway = hops[hop, 0], hops[hop, 1]
                    dst_mac = near[find(near, row[DST] if gateway == 0 else gateway, station), VALUE]
                    if dst_mac == NONE:
                        out[begin + i] = NONE
                        continue
                    rewrite(frame, row, 0x100)
                    put(frame, 0, dst_mac, 6)
                    put(frame, 6, np.int64(macs[station]), 6)
                    if station == bridge:
                        station = stations[find(stations, dst_mac, 0), VALUE]
                else:
                    rewrite(frame, row, 0)
                out[begin + i] = station
                if station != NONE:
                    row[PACKETS] += 1
                    row[BYTES] += size
                    row[SEEN] = now
        return touched

    return numba.njit(nogil=True, boundscheck=False)(loops)


def forward(
    tables: Tables, frames: NDArray[np.uint8], port: NDArray[np.uint16], now: int
) -> NDArray[np.int64]:
    """As `numpy_node.forward`, compiled."""
    out = np.empty(len(frames), np.int64)
    t = tables
    compiled()(frames.view(np.uint16), port, out, now, t.bridge, t.bridged, t.device_mac, t.table, t.groups, t.hops,
               t.stations.slots, t.heard, t.neighbours.slots, t.flows.slots, t.rows)  # fmt: skip
    return out
