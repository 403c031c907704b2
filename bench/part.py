"""A part of the benchmarks: what it measures slice by slice, and the tables and plots that come out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .plots import Plot
from .report import Table

Say = Callable[[str], None]
Data = dict[str, Any]  # of a part: slice -> what was measured, as JSON has it


@dataclass(frozen=True)
class Settings:
    """How long to measure.

    Parameters
    ----------
    quick : bool
        A look: few rounds, small sizes. Its figures are none to quote.
    tiny : bool
        As little as shows that everything runs, for tests.
    routes : Path, optional
        Prefixes of a full table, one a line, instead of synthetic ones.
    """

    quick: bool = False
    tiny: bool = False
    routes: Path | None = None

    def rounds(self, usual: int) -> int:
        """Rounds, of as many as are usual."""
        return 1 if self.tiny else max(3, usual // 3) if self.quick else usual

    def size(self, usual: int, least: int = 1) -> int:
        """Packets, flows or entries, of as many as are usual."""
        return max(least, min(usual, 512)) if self.tiny else usual


@dataclass(frozen=True)
class Part:
    """A part by its name.

    Parameters
    ----------
    name : str
    about : str
        What it measures, a few words.
    slices : tuple of str
        What can be measured apart; each takes less than two minutes.
    measure : callable
        Of a slice, the settings, and who is told what is being done. Raises `Absent`.
    tables : callable
        Of all slices that have been measured.
    plots : callable, optional
        The same.
    """

    name: str
    about: str
    slices: tuple[str, ...]
    measure: Callable[[str, Settings, Say], Data]
    tables: Callable[[Data], list[Table]]
    plots: Callable[[Data], list[Plot]] = lambda data: []
    quick: tuple[str, ...] | None = None  # slices of a quick run; all if None
