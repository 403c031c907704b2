"""All parts, in the order in which they run."""

from __future__ import annotations

from . import growth, linux, modes, node, programs
from .part import Part

ALL = (
    modes.PART,
    node.PART,
    linux.PART,
    growth.PART,
    programs.ROUTE,
    programs.STATE,
    programs.CLUSTER,
    programs.WORKERS,
)
PARTS: dict[str, Part] = {part.name: part for part in ALL}
