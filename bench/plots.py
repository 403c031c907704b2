"""Plots as small SVG files, legible on a light page and on a dark one: no background, greys and hues of middle tone.

matplotlib draws them; without it there are tables alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HUES = ("#3b82d6", "#e0772f", "#2f9e6e", "#c0529f", "#a58b1f", "#7c6fd6")
GREY = "#808080"  # contrast 3.9 with white, 5.3 with black


@dataclass(frozen=True)
class Lines:
    """Curves over a common axis.

    Parameters
    ----------
    title, x, y : str
        What the axes are.
    series : dict of str to list of (x, y)
    scales : tuple of str
        `log` or `linear`, of x and of y.
    """

    title: str
    x: str
    y: str
    series: Mapping[str, list[tuple[float, float]]]
    scales: tuple[str, str] = ("log", "linear")

    def draw(self, axes: Any) -> None:
        """Into a matplotlib axes."""
        for (name, points), hue in zip(self.series.items(), HUES, strict=False):
            axes.plot(
                *zip(*points, strict=True), color=hue, marker="o", markersize=2.5, linewidth=1.2, label=name
            )
        axes.set_xscale(self.scales[0])
        axes.set_yscale(self.scales[1])
        axes.minorticks_off()
        if self.scales[1] == "linear":
            axes.set_ylim(0, axes.get_ylim()[1] * (1 + 0.12 * (len(self.series) > 1) * len(self.series)))
        axes.set_title(self.title)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        if len(self.series) > 1:
            axes.legend(loc="upper left" if self.scales[1] == "linear" else "upper right")


@dataclass(frozen=True)
class Bars:
    """A bar of each series for each class, side by side.

    Parameters
    ----------
    title, y : str
    classes : list of str
    series : dict of str to list of float
        A value for each class.
    """

    title: str
    y: str
    classes: list[str]
    series: Mapping[str, list[float]]

    def draw(self, axes: Any) -> None:
        """Into a matplotlib axes."""
        width = 0.8 / len(self.series)
        for i, ((name, values), hue) in enumerate(zip(self.series.items(), HUES, strict=False)):
            places = [n + (i - (len(self.series) - 1) / 2) * width for n in range(len(values))]
            axes.bar(places, values, width * 0.92, color=hue, label=name)
        axes.set_xticks(range(len(self.classes)), self.classes, rotation=25, ha="right")
        axes.set_ylabel(self.y)
        axes.set_title(self.title, loc="left")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(self.series))


@dataclass(frozen=True)
class Plot:
    """A file of one or several drawings, beside and below each other."""

    name: str
    parts: tuple[Lines | Bars, ...]
    columns: int = 2

    def save(self, folder: Path) -> Path:
        """Draw them into `folder`.

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot

        style = {
            "svg.fonttype": "none", "svg.hashsalt": self.name, "font.size": 8, "font.family": "sans-serif",
            "text.color": GREY, "axes.edgecolor": GREY, "axes.labelcolor": GREY, "xtick.color": GREY,
            "ytick.color": GREY, "axes.grid": True, "grid.color": GREY, "grid.alpha": 0.25, "grid.linewidth": 0.5,
            "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 7, "axes.titlesize": 9,
        }  # fmt: skip
        columns = min(self.columns, len(self.parts))
        rows = -(-len(self.parts) // columns)
        with pyplot.rc_context(style):
            size = (8.4 if columns > 1 or isinstance(self.parts[0], Bars) else 5.2, 2.9 * rows)
            figure, grid = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
            for axes, part in zip(grid.flat, self.parts, strict=False):
                part.draw(axes)
                axes.spines[["top", "right"]].set_visible(False)
            for axes in list(grid.flat)[len(self.parts) :]:
                axes.set_visible(False)
            figure.tight_layout()
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{self.name}.svg"
            written = io.StringIO()
            figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            pyplot.close(figure)
        path.write_text(smaller(written.getvalue()))
        return path


def smaller(svg: str) -> str:
    """The same drawing: any sans-serif font instead of a list of them, a tenth of a pixel, no indentation."""
    svg = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", svg)
    svg = re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", svg)
    return re.sub(r"\n\s*", "\n", svg)
