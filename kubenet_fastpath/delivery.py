"""What became of frames that a cluster carried: one outcome each, every step on the way, and what arrived where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batch import PacketBatch
from .carriage import Carriage
from .verdict import Reason

__all__ = ["STEP", "Delivery", "Outcome", "Place", "PlaceKind", "reason_name"]

FABRIC = -1  #: in place of a node

#: One step of a frame: through a node (`verdict`, `reason`) or through the fabric (node -1, `reason` a `Carriage`).
STEP = np.dtype(
    [
        ("frame", "i4"),
        ("node", "i4"),
        ("time", "i8"),
        ("verdict", "u1"),
        ("reason", "u1"),
        ("ttl", "u1"),
        ("own", "?"),
    ]
)


class Outcome(IntEnum):
    """Where a frame ended; of several copies, the one with the highest number says it."""

    LOST_TRACK = 0  #: never: every frame ends in one of the others
    HELD = 1  #: waits at a node, or was gathered into a datagram that another fragment completed
    DROPPED = 2
    LOCAL = 3  #: taken by a node's own stack, or answered by the fabric
    DELIVERED = 4  #: to a pod, a host, or beyond the cluster


class PlaceKind(Enum):
    """Where frames are sent and received."""

    POD = "pod"
    HOST = "host"
    NODE = "node"  #: frames end here; no process of a node speaks
    INTERNET = "internet"
    PLATFORM = "platform"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A pod, a host of the VNet, a node, the internet.

    `address` and `mac` are integers; 0 where a place has none.
    """

    index: int
    name: str
    kind: PlaceKind
    address: int = 0
    mac: int = 0
    node: str | None = None

    def __index__(self) -> int:
        return self.index


def reason_name(reason: int) -> str:
    """Name of a `Reason` or `Carriage`.

    >>> reason_name(85), reason_name(195)
    ('TTL', 'NOT_FORWARDING')
    """
    return Carriage(reason).name if reason >= Carriage.VNET else Reason(reason).name


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """What `Cluster.send` says.

    Attributes
    ----------
    outcome, reason : (N,) ndarray of uint8
        `Outcome` of each frame, and its `Reason` at a node or `Carriage` in the fabric.
    place : (N,) ndarray of int32
        Where it ended: a place's index, -1 in the fabric.
    arrived : PacketBatch
        Every frame that reached a pod, a host or the internet, in order of time: those that were sent, copies of
        flooded ones, and what nodes made (ICMP errors, ARP).
    arrived_at, arrived_from : (M,) ndarray of int32
        For each of these the place, and the frame that was sent; -1: a timer's.
    arrived_own : (M,) ndarray of bool
        It is that frame itself, translated as may be, and not one that it caused.
    steps : (S,) structured ndarray
        `STEP`, in order.
    """

    outcome: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    place: NDArray[np.int32]
    arrived: PacketBatch
    arrived_at: NDArray[np.int32]
    arrived_from: NDArray[np.int32]
    arrived_own: NDArray[np.bool_]
    steps: NDArray[Any]
    places: tuple[Place, ...]

    def __len__(self) -> int:
        return len(self.outcome)

    def __repr__(self) -> str:
        counts = np.bincount(self.outcome, minlength=len(Outcome))
        ends = ", ".join(f"{counts[o]} {o.name.lower()}" for o in Outcome if counts[o])
        return f"<Delivery of {len(self)} frames: {ends or 'none'}>"

    def packets(self, place: Place | int) -> PacketBatch:
        """What arrived at a place, in order of time; ICMP errors and the like among it."""
        return self.arrived[np.flatnonzero(self.arrived_at == place.__index__())]

    def path(self, frame: int) -> NDArray[Any]:
        """The steps of one sent frame itself."""
        chosen = (self.steps["frame"] == frame) & self.steps["own"]
        return np.asarray(self.steps[chosen])

    def arrival(self, frame: int) -> int | None:
        """Row of `arrived` where a sent frame itself arrived first, None: nowhere."""
        rows = np.flatnonzero((self.arrived_from == frame) & self.arrived_own)
        return int(rows[0]) if len(rows) else None
