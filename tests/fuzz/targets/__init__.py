"""What is fuzzed: each target is a module with `run(data)`, which returns, or raises what is a finding.

`EXAMPLES` are inputs to begin with where the corpus is empty, `LONGEST` is the length that inputs may reach, and
`LINES` says that Python's lines count beside the edges of compiled code.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Protocol, cast

NAMES = ("frames", "node", "captures", "images", "pickles", "topologies", "addresses")


class Target(Protocol):
    """A module of this package."""

    __doc__: str
    EXAMPLES: list[bytes]
    LONGEST: int
    LINES: bool

    def run(self, data: bytes) -> None: ...


def load(name: str) -> Target:
    return cast(Target, importlib.import_module(f"{__name__}.{name}"))


def execute(target: Target, data: bytes) -> None:
    """Run one input.

    Raises
    ------
    Exception
        For a finding; also for one that Cython could only print, as code without the GIL does.
    """
    unheard: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, unheard.append
    try:
        target.run(data)
    finally:
        sys.unraisablehook = before
    if unheard:
        raise RuntimeError(f"raised where nobody could catch it: {unheard[0].exc_value!r}")
