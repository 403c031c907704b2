"""Arrays of UDP frames: made of columns, and turned round for what their receivers answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kubenet_fastpath.address import ipv4, mac

FRAME = 60  # bytes without FCS: what is called a 64-byte frame
HEADERS = 42
TTL = 64
#: Where a frame's fields are: bytes from, to, and their type.
DST_MAC, SRC_MAC, IP, TTL_AT, IP_SUM = slice(0, 6), slice(6, 12), slice(14, 34), 22, slice(24, 26)
SRC, DST, SPORT, DPORT, UDP_SUM = slice(26, 30), slice(30, 34), slice(34, 36), slice(36, 38), slice(40, 42)

Frames = NDArray[np.uint8]  # (N, bytes of a frame)


def field(frames: Frames, where: slice) -> NDArray[Any]:
    """A column of 2 or 4 bytes in network order, as integers."""
    size = where.stop - where.start
    return np.ascontiguousarray(frames[:, where]).view(f">u{size}")[:, 0].astype(f"u{size}")


def put(frames: Frames, where: slice, values: ArrayLike) -> None:
    """Write integers into a field: 2, 4, or 6 bytes in network order."""
    size = where.stop - where.start
    column = np.broadcast_to(np.asarray(values, np.uint64), len(frames)).astype(">u8")
    frames[:, where] = column.view(np.uint8).reshape(-1, 8)[:, 8 - size :]


def _sum(frames: Frames, where: slice) -> NDArray[np.uint32]:
    """One's complement sums of 16-bit words, up to 64 KiB of them, not folded."""
    part = frames[:, where]
    if part.shape[1] % 2:
        part = np.pad(part, ((0, 0), (0, 1)))
    return np.ascontiguousarray(part).view(">u2").sum(axis=1, dtype=np.uint32)


def _folded(total: NDArray[np.uint32]) -> NDArray[np.uint32]:
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def close(frames: Frames) -> None:
    """Write both checksums of frames that have none yet."""
    frames[:, IP_SUM] = 0
    put(frames, IP_SUM, _folded(_sum(frames, IP)))
    frames[:, UDP_SUM] = 0
    size = frames.shape[1] - 34
    check = _folded(_sum(frames, slice(26, None)) + np.uint32(17 + size))
    put(frames, UDP_SUM, np.where(check == 0, 0xFFFF, check))


def udp_frames(dst_mac: ArrayLike, src_mac: ArrayLike, src: ArrayLike, dst: ArrayLike, sport: ArrayLike,
               dport: ArrayLike, size: int = FRAME) -> Frames:  # fmt: skip
    """Frames of UDP with Don't Fragment and a payload of zeros.

    Parameters
    ----------
    dst_mac, src_mac, src, dst, sport, dport : array of int, or int
        Columns; one number is everybody's.
    size : int
        Bytes of each frame without FCS.

    Returns
    -------
    (N, size) ndarray of uint8
    """
    count = max(map(np.size, (dst_mac, src_mac, src, dst, sport, dport)))
    frames = np.zeros((count, size), np.uint8)
    frames[:, 12:24] = [8, 0, 0x45, 0, *(size - 14).to_bytes(2, "big"), 0, 1, 0x40, 0, TTL, 17]
    frames[:, 38:40] = list((size - 34).to_bytes(2, "big"))
    fields = ((DST_MAC, dst_mac), (SRC_MAC, src_mac), (SRC, src), (DST, dst), (SPORT, sport), (DPORT, dport))
    for where, values in fields:
        put(frames, where, values)
    close(frames)
    return frames


def answers(frames: Frames) -> Frames:
    """What receivers of these frames send back: all turned round, with a TTL of its own."""
    back = frames.copy()
    for one, other in ((DST_MAC, SRC_MAC), (SRC, DST), (SPORT, DPORT)):
        back[:, one], back[:, other] = frames[:, other], frames[:, one]
    back[:, TTL_AT] = TTL
    close(back)
    return back


def frame(dst_mac: str, src_mac: str, src: str, dst: str, sport: int, dport: int) -> bytes:
    """One frame, of addresses as text."""
    return udp_frames(mac(dst_mac), mac(src_mac), ipv4(src), ipv4(dst), sport, dport).tobytes()
