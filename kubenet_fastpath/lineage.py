"""Which frame that leaves a node is one that came in, translated or cut as may be, and not one that it caused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Held", "continues", "fingerprint"]

#: What a node does not change of a frame that it passes on.
MARK = np.dtype(
    [("eth_type", "u2"), ("proto", "u1"), ("ip_id", "u2"), ("kind", "u1"), ("arp", "u8"), ("ttl", "u1")]
)


def fingerprint(headers: NDArray[Any]) -> NDArray[np.void]:
    """(N,) of MARK, of what `PacketBatch.headers` gives."""
    marks = np.zeros(len(headers), MARK)
    for name in ("eth_type", "proto", "ip_id", "ttl"):
        marks[name] = headers[name]
    marks["kind"] = np.where(headers["proto"] == 1, headers["icmp_type"], 0) + headers["arp_op"]
    marks["arp"] = headers["arp_sha"]
    return marks


def continues(before: NDArray[np.void], after: NDArray[np.void]) -> NDArray[np.bool_]:
    """(N,) bool: the frame that left goes on with the one that came in."""
    same = np.ones(len(before), np.bool_)
    for name in ("eth_type", "proto", "ip_id", "kind", "arp"):
        same &= before[name] == after[name]
    return same


class Held:
    """Frames that wait in a node for a MAC: when they leave, another frame or a timer is the cause."""

    def __init__(self) -> None:
        self._waiting: list[tuple[np.void, int]] = []

    def add(self, marks: NDArray[np.void], origin: NDArray[np.int32], own: NDArray[np.bool_]) -> None:
        """Note frames that are held from now on, in order."""
        self._waiting += [(mark, int(o)) for mark, o, mine in zip(marks, origin, own, strict=True) if mine]

    def release(self, after: NDArray[np.void], own: NDArray[np.bool_], origin: NDArray[np.int32]) -> None:
        """Find those that left, oldest first; writes `own` and `origin` for them."""
        if not self._waiting:
            return
        for k in np.flatnonzero(~own).tolist():
            for place, (mark, frame) in enumerate(self._waiting):
                if bool(continues(np.atleast_1d(mark), after[k : k + 1])[0]):
                    own[k], origin[k] = True, frame
                    del self._waiting[place]
                    break
