"""Rounds of several things that take turns, so that what else the machine does meets them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Protocol, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Round(Protocol):
    """What is measured: `run`, between one `restore` and the next."""

    packets: int

    def restore(self) -> None:
        """Put everything back; not measured."""

    def run(self) -> Any:
        """All packets."""


@dataclass(frozen=True)
class Figure:
    """ns a packet: the median round, and the middle half of the rounds."""

    ns: float
    low: float
    high: float

    @classmethod
    def of(cls, times: list[float]) -> Figure:
        low, _, high = quantiles(times, n=4) if len(times) > 1 else times * 3
        return cls(*(float(f"{time:.5g}") for time in (median(times), low, high)))

    def row(self) -> list[float]:
        """As the results keep it."""
        return [self.ns, self.low, self.high]


def by_turns(
    things: Mapping[Key, Round],
    rounds: int,
    say: Callable[[str], None],
    title: str = "",
    clock: Callable[[], int] = time.thread_time_ns,
) -> dict[Key, list[float]]:
    """ns a packet of each round of each of these, in CPU time of this thread; by its own `timer` of one that has one.

    In its turn each runs once for the caches, which the one before it has filled, and is measured then. A clock that
    stands still meanwhile, as a guest's may for the time that its host took, counts as 1 ns.
    """
    took: dict[Key, list[float]] = {key: [] for key in things}
    for number in range(rounds):
        say(f"{title}: round {number + 1} of {rounds}")
        for key, thing in things.items():
            thing.restore()
            thing.run()
            thing.restore()
            tick = getattr(thing, "timer", clock)
            began = tick()
            thing.run()
            took[key].append(max(1, tick() - began) / thing.packets)
    return took


def figures(took: Mapping[Key, list[float]]) -> dict[Key, Figure]:
    """The median round of each."""
    return {key: Figure.of(times) for key, times in took.items()}
