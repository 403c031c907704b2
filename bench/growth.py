"""How the cost of a packet grows with everything that there can be more of, one thing at a time, and why.

ns a packet, all points of an axis by turns. Beside the curves stands what explains their knees: how long a random cache
line takes by how much there is to choose from, and the same curve with its packets confined to few of the many things
that the tables hold.
"""

from __future__ import annotations

import gc
from typing import Any

from .growth_axes import AXES, ESTABLISHED, FIRST, FULL
from .growth_reasons import reasons
from .part import Data, Part, Say, Settings
from .plots import Lines, Plot
from .report import Table, ns
from .turns import by_turns, figures

USUAL = (ESTABLISHED, FULL, FIRST)  # the same hue in all drawings


def measure(slice_: str, settings: Settings, say: Say) -> Data:
    """ns a packet by curve, then by point; `bytes` are the connection table's."""
    axis = AXES[slice_]
    points = axis.points[:2] if settings.tiny else axis.points[:-1] if settings.quick else axis.points
    things: dict[tuple[str, int], Any] = {}
    for point in points:
        say(f"{point:,} {axis.label}: getting ready")
        for curve, thing in axis.make(point, settings).items():
            thing.check()
            things[curve, point] = thing
    found: Data = {}
    for (curve, point), figure in figures(
        by_turns(things, settings.rounds(axis.rounds), say, slice_)
    ).items():
        found.setdefault(curve, {})[str(point)] = figure.row()
    things.clear()
    gc.collect()
    return found


def _table(slice_: str, found: dict[str, dict[str, list[float]]]) -> Table:
    points = list(dict.fromkeys(point for curve in found.values() for point in curve))
    points.sort(key=int)
    rows = [
        (name, *(ns(curve[p][0]) if p in curve else "-" for p in points)) for name, curve in found.items()
    ]
    return Table(f"growth.{slice_}", f"ns a packet by {AXES[slice_].label}",
                 (AXES[slice_].label, *(f"{int(p):,}" for p in points)), rows)  # fmt: skip


def tables(data: Data) -> list[Table]:
    """One for each axis, and the reasons."""
    found = [_table(slice_, curves) for slice_, curves in data.items()]
    why = reasons(data)
    if why:
        found.append(Table("growth.reasons", "why", ("axis", "what happens", "measured"), why, prose=True))
    return found


def plots(data: Data) -> list[Plot]:
    """All axes in one file."""
    parts = []
    for slice_, curves in data.items():
        axis = AXES[slice_]
        names = sorted(curves, key=lambda name: USUAL.index(name) if name in USUAL else len(USUAL))
        least = 0 if axis.scales[0] == "linear" else 1  # a logarithmic axis has no 0
        series = {
            name: [(int(point), figure[0]) for point, figure in curves[name].items() if int(point) >= least]
            for name in names
        }
        unit = "ns" if slice_ == "lines" else "ns a packet"
        parts.append(Lines(f"Over {axis.label}", axis.label, unit, series, axis.scales))
    return [Plot("growth", tuple(parts))]


PART = Part("growth", "ns a packet over routes, MACs, flows ...", tuple(AXES), measure, tables, plots)
