"""ns that each stage of a node takes for a packet, from the pipeline's own notes and a stopwatch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .explanation import (
    BRIDGE,
    CONFIRM,
    CONNTRACK,
    DESTINATION_NAT,
    DUPLICATE,
    EMIT,
    FORWARD,
    INPUT,
    NEIGHBOUR,
    OUTPUT,
    POSTROUTING,
    REASSEMBLY,
    RECEIVE,
    ROUTE,
    SERVICE,
    SOURCE_NAT,
    VERDICT,
)

__all__ = ["PARTS", "stage_ns"]

#: Part of the way -> its stages, in the order of the way.
PARTS = {
    "receive": (RECEIVE, REASSEMBLY),
    "conntrack": (CONNTRACK,),
    "services": (SERVICE,),
    "destination NAT": (DESTINATION_NAT,),
    "bridge": (BRIDGE, DUPLICATE),
    "route": (ROUTE,),
    "filter": (INPUT, FORWARD, OUTPUT),
    "source NAT": (SOURCE_NAT,),
    "confirm": (CONFIRM,),
    "neighbour": (NEIGHBOUR,),
    "send": (POSTROUTING, EMIT, VERDICT),
}


def stage_ns(notes: NDArray[Any], packets: int, reading: int) -> dict[str, float]:
    """ns a packet in each part of its way.

    Parameters
    ----------
    notes : (M,) structured ndarray
        Of `Node.record` with a stopwatch.
    packets : int
        How many there were.
    reading : int
        ns that the stopwatch takes by itself (`recorder.stopwatch_cost`).

    Returns
    -------
    dict of str to float
        In the order of `PARTS`. A stage ends with its note: what leads to it belongs to it, and what comes behind the
        last, to "send". "receive" has the pass over the whole batch that comes before any packet's turn.
    """
    took = np.maximum(notes["took"].astype(np.int64) - reading, 0)
    by_stage = np.bincount(notes["stage"], took, VERDICT + 1)
    return {part: float(by_stage[list(stages)].sum()) / packets for part, stages in PARTS.items()}
