"""What a node says of a batch: verdicts, frames that left, and its counters; and the ports that these are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batch import PacketBatch
from .config import Pod
from .verdict import Verdict

#: A frame that left. `generated` is 1 if it is not among the batch's bytes.
OUTPUT = np.dtype(
    [
        ("offset", "i8"),
        ("time", "i8"),
        ("length", "u4"),
        ("wire_length", "u4"),
        ("source", "i4"),
        ("port", "u2"),
        ("generated", "u2"),
    ]
)


@dataclass(frozen=True)
class Port:
    """Where frames enter and leave: a pod's end of its veth pair, or the VNet's side of eth0."""

    index: int
    name: str
    pod: Pod | None = None

    def __index__(self) -> int:
        return self.index


class Counters(Mapping[str, int]):
    """Packets by verdict (`routed`), by reason (`reason.masquerade`), and what else is counted.

    A snapshot: it does not move with the node.
    """

    def __init__(self, values: dict[str, int]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self._values.items() if value)
        return f"Counters({shown})"


class Result:
    """What became of a batch.

    Attributes
    ----------
    verdict, reason : (N,) ndarray of uint8
        `Verdict` and `Reason` of each packet.
    out_port : (N,) ndarray of int32
        The port that the packet left by; -1 if it left by none or by several.
    outputs : (M,) structured ndarray
        A row for each frame that left, in order: `port`, `source` (index of the packet that caused it, -1: a timer),
        `offset`, `length`, `wire_length`, `time` (ns), `generated` (1: the frame is not among the batch's bytes).
    """

    __slots__ = ("_bytes", "_data", "_generated", "_outputs", "_ports", "reason", "verdict")

    def __init__(
        self,
        verdict: NDArray[np.uint8],
        reason: NDArray[np.uint8],
        outputs: NDArray[np.uint8],
        data: NDArray[np.uint8],
        generated: NDArray[np.uint8],
        ports: dict[str, Port],
    ) -> None:
        self.verdict = verdict
        self.reason = reason
        self._bytes = outputs  # numpy takes half a microsecond to make them rows: not before somebody looks
        self._outputs: NDArray[Any] | None = None
        self._data = data
        self._generated = generated
        self._ports = ports

    def __len__(self) -> int:
        return len(self.verdict)

    @property
    def outputs(self) -> NDArray[Any]:
        """(M,) structured: a row for each frame that left, in order; see above."""
        if self._outputs is None:
            self._outputs = self._bytes.view(OUTPUT)
        return self._outputs

    @property
    def out_port(self) -> NDArray[np.int32]:
        """(N,) int32: the one port that each packet left by, or -1."""
        n = len(self.verdict)
        caused = self.outputs["source"] >= 0
        source, port = self.outputs["source"][caused], self.outputs["port"][caused]
        out = np.full(n, -1, np.int32)
        out[source] = port
        several = np.bincount(source, minlength=n) > 1 if n else np.zeros(0, np.bool_)
        flooded = np.isin(self.verdict, (Verdict.FLOODED, Verdict.DROP, Verdict.HELD, Verdict.LOCAL))
        out[several | flooded] = -1
        return out

    def _rows(self, port: str | Port | int | None) -> NDArray[np.bool_]:
        if port is None:
            return np.ones(len(self.outputs), np.bool_)
        if isinstance(port, str):
            if port not in self._ports:
                raise KeyError(f"no port {port!r}; there are {', '.join(self._ports)}")
            port = self._ports[port]
        return np.asarray(self.outputs["port"] == port.__index__(), np.bool_)

    def packets(self, port: str | Port | int | None) -> PacketBatch:
        """Frames that left by a port, in order.

        Parameters
        ----------
        port : str, Port, int or None
            Name, port or index; None: by any, as `outputs` lists them.

        Returns
        -------
        PacketBatch
            Shares the batch's bytes when all its frames are in there; else it is a copy.

        Raises
        ------
        KeyError
            For a name that is none.
        """
        rows = self.outputs[self._rows(port)]
        data, offset = self._data, rows["offset"]
        made = rows["generated"] != 0
        mixed = bool(made.any()) and not made.all()
        if mixed:
            data = np.concatenate((self._data, self._generated))
            offset = offset + np.where(made, len(self._data), 0)
        elif made.any():
            data = self._generated
        batch = PacketBatch(
            data, offset, rows["length"], rows["wire_length"], port=rows["port"], time=rows["time"]
        )
        return batch.copy() if mixed else batch

    def source(self, port: str | Port | int | None) -> NDArray[np.int32]:
        """(M,) int32: for each of `packets(port)` the index of the packet that caused it, -1 for a timer."""
        return np.ascontiguousarray(self.outputs["source"][self._rows(port)])
