"""Frames under way between nodes, and the record of where they have been."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .batch import PacketBatch
from .delivery import STEP, Delivery, Outcome, Place

__all__ = ["Frames", "Journey"]


@dataclass
class Frames:
    """Frames that are about to enter a node's port, or the fabric (node -1)."""

    batch: PacketBatch
    node: NDArray[np.int32]
    sender: NDArray[np.int32]  # of frames for the fabric: a NIC, INTERNET or PLATFORM
    origin: NDArray[np.int32]
    own: NDArray[np.bool_]

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Frames:
        return Frames(self.batch[rows], self.node[rows], self.sender[rows], self.origin[rows], self.own[rows])

    @staticmethod
    def join(parts: list[Frames]) -> Frames:
        if len(parts) == 1:
            return parts[0]
        columns = ([getattr(part, name) for part in parts] for name in ("node", "sender", "origin", "own"))
        return Frames(PacketBatch.concatenate(part.batch for part in parts), *map(np.concatenate, columns))


class Journey:
    """What a run of a cluster has to tell, part by part; `delivery` puts it together."""

    def __init__(self, n: int) -> None:
        self.outcome = np.zeros(n, np.uint8)
        self.reason = np.zeros(n, np.uint8)
        self.place = np.full(n, -1, np.int32)
        self._latest = np.zeros(n, np.uint8)
        self.steps: list[NDArray[np.void]] = []
        self.arrived: list[tuple[Frames, NDArray[np.int32]]] = []

    def step(self, origin: NDArray[np.int32], *columns: NDArray[np.generic]) -> None:
        steps = np.empty(len(origin), STEP)
        for name, column in zip(
            ("frame", "node", "time", "verdict", "reason", "ttl", "own"), (origin, *columns), strict=True
        ):
            steps[name] = column
        self.steps.append(steps)
        mine = steps["own"]
        self._latest[origin[mine]] = steps["reason"][mine]

    def latest(self, frames: Frames) -> NDArray[np.uint8]:
        """What the latest step said of frames' origins."""
        return (
            np.where(frames.own, self._latest[frames.origin], 0)
            if len(self._latest)
            else np.zeros(len(frames.own), np.uint8)
        )

    def end(
        self, frame: NDArray[np.int32], outcome: Outcome, reason: NDArray[np.uint8], place: NDArray[np.int32]
    ) -> None:
        higher = (frame >= 0) & (self.outcome[frame] <= outcome)
        rows = frame[higher]
        self.outcome[rows], self.reason[rows], self.place[rows] = outcome, reason[higher], place[higher]

    def arrive(self, frames: Frames, places: NDArray[np.int32], reason: NDArray[np.uint8]) -> None:
        if not len(places):
            return
        self.arrived.append((frames, places))
        mine = frames.own
        self.end(frames.origin[mine], Outcome.DELIVERED, reason[mine], places[mine])

    def delivery(self, places: tuple[Place, ...]) -> Delivery:
        parts = [frames for frames, _ in self.arrived]
        at = np.concatenate([np.empty(0, np.int32), *(place for _, place in self.arrived)])
        batch = PacketBatch.concatenate(frames.batch for frames in parts)
        order = np.argsort(batch.time, kind="stable")
        return Delivery(
            outcome=self.outcome,
            reason=self.reason,
            place=self.place,
            arrived=batch[order],
            arrived_at=at[order],
            arrived_from=np.concatenate([np.empty(0, np.int32), *(f.origin for f in parts)])[order],
            arrived_own=np.concatenate([np.empty(0, np.bool_), *(f.own for f in parts)])[order],
            steps=np.concatenate([np.empty(0, STEP), *self.steps]),
            places=places,
        )
