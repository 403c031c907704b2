"""The kubenet path over an array of frames, one numpy operation after another for the whole batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .array_tables import BYTES, DPORT, DST, NONE, PACKETS, SEEN, SPORT, SRC, Probed, Tables, tuple_words

__all__ = ["forward"]


def _word(words: NDArray[Any], index: int) -> NDArray[np.uint64]:
    """A 32-bit field that begins at a 16-bit word of the frame."""
    return words[:, index].astype(np.uint64) << np.uint64(16) | words[:, index + 1].astype(np.uint64)


def _mac(words: NDArray[Any], index: int) -> NDArray[np.uint64]:
    return words[:, index].astype(np.uint64) << np.uint64(32) | _word(words, index + 1)


def _put(words: NDArray[Any], index: int, values: NDArray[Any], count: int) -> None:
    for i in range(count):
        words[:, index + i] = values >> type(values[0])(16 * (count - 1 - i)) & type(values[0])(0xFFFF)


def _folded(total: NDArray[np.int64]) -> NDArray[np.int64]:
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


def _account(tables: Tables, row: NDArray[np.int64], size: int, now: int) -> None:
    """Packets, octets and time of each flow; where rows are few, `bincount` is quicker than `add.at`."""
    rows = tables.rows
    if len(rows) <= len(row):
        counts = np.bincount(row, minlength=len(rows))
        rows[:, PACKETS] += counts
        rows[:, BYTES] += counts * size
    else:
        np.add.at(rows[:, PACKETS], row, 1)
        np.add.at(rows[:, BYTES], row, size)
    rows[row, SEEN] = now


def _valid(words: NDArray[Any]) -> NDArray[np.bool_]:
    """IPv4 without options and UDP whose checksums are right."""
    plain = (words[:, 6] == 0x0800) & (words[:, 7] >> 8 == 0x45) & ((words[:, 11] & 0xFF) == 17)
    header = _folded(words[:, 7:17].sum(axis=1, dtype=np.int64)) == 0xFFFF
    length = words[:, 19].astype(np.int64)
    payload = _folded(words[:, 13:].sum(axis=1, dtype=np.int64) + 17 + length) == 0xFFFF
    return plain & header & (payload | (words[:, 20] == 0))


def forward(
    tables: Tables, frames: NDArray[np.uint8], port: NDArray[np.uint16], now: int
) -> NDArray[np.int64]:
    """Rewrite a batch of frames of one size in place; the port that each leaves by, `NONE` for one that does not.

    Parameters
    ----------
    tables : Tables
    frames : (N, B) ndarray of uint8
        B is even.
    port : (N,) ndarray of uint16
    now : int
        ns.
    """
    words = frames.view(">u2")
    zero = np.zeros(len(frames), np.uint64)
    good = _valid(words)
    dst_mac, src_mac = _mac(words, 0), _mac(words, 3)
    heard = tables.stations.find(src_mac, zero)
    from_pod = tables.bridged[port]
    moved = from_pod & (tables.stations.value[heard] != port)
    tables.heard[heard[from_pod]] = now
    station = tables.stations.value[tables.stations.find(dst_mac, zero)]
    routed = (station == tables.bridge) | ~from_pod

    src, dst = _word(words, 13), _word(words, 15)
    key = tuple_words(src, dst, words[:, 17], words[:, 18], np.uint64(17))
    row = tables.flows.value[tables.flows.find(*key)]
    good &= (row != NONE) & ~moved
    _account(tables, row[good], frames.shape[1] - 14, now)
    new = tables.rows[row]

    slot = tables.table[new[:, DST] >> 8].astype(np.int64)
    deep = np.flatnonzero(slot & 0x8000)
    slot[deep] = tables.groups[(slot[deep] & 0x7FFF) << 8 | new[deep, DST] & 255]
    hop = np.where(routed, slot, 0)
    device = tables.hops[hop, 0]
    gateway = tables.hops[hop, 1]
    next_ip = np.where(gateway == 0, new[:, DST], gateway)
    near: Probed = tables.neighbours
    next_mac = near.value[near.find(next_ip.astype(np.uint64), device.astype(np.uint64))]
    good &= ~routed | (next_mac != NONE)
    behind = tables.stations.value[tables.stations.find(next_mac.astype(np.uint64), zero)]
    out = np.where(routed, np.where(device == tables.bridge, behind, device), station)

    address = (src.astype(np.int64), dst.astype(np.int64))
    old = sum((a & 0xFFFF) + (a >> 16) for a in address)
    changed = sum((new[:, which] & 0xFFFF) + (new[:, which] >> 16) for which in (SRC, DST))
    ports = words[:, 17].astype(np.int64) + words[:, 18] - new[:, SPORT] - new[:, DPORT]
    header = _folded(0xFFFF * 4 + words[:, 12].astype(np.int64) + old - changed + 0x100 * routed)
    check = words[:, 20].astype(np.int64)
    payload = _folded(0xFFFF * 6 + check + old - changed + ports)
    words[:, 12] = header % 0xFFFF
    words[:, 20] = np.where(check == 0, 0, np.where(payload % 0xFFFF == 0, 0xFFFF, payload % 0xFFFF))
    _put(words, 13, new[:, SRC], 2)
    _put(words, 15, new[:, DST], 2)
    words[:, 17], words[:, 18] = new[:, SPORT], new[:, DPORT]
    words[:, 11] -= (0x100 * routed).astype(np.uint16)
    _put(words, 0, np.where(routed, next_mac.astype(np.uint64), dst_mac), 3)
    _put(words, 3, np.where(routed, tables.device_mac[device], src_mac), 3)
    return np.where(good, out, NONE)
