"""Tables as text and as Markdown, and the documents that show them between markers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column to the left, the others to the right.

    Parameters
    ----------
    name : str
        `PART.TABLE`, by which a document asks for it.
    title : str
    head : tuple of str
    rows : list of tuple of str
    notes : tuple of str
        Sentences below it.
    prose : bool
        Cells are sentences: on a terminal a paragraph for each row.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    prose: bool = False

    def text(self) -> str:
        """Aligned, for a terminal."""
        if self.prose:
            told = (textwrap.fill(". ".join(row), 110, subsequent_indent="  ") for row in self.rows)
            return "\n".join([self.title, *told, *self.notes])
        lines = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [
            "  ".join(
                [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        ]
        return "\n".join([self.title, *aligned, *self.notes])

    def markdown(self) -> str:
        """As in a document, without the title, which its own words give."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        made = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        return "\n\n".join([made, *self.notes]) if self.notes else made


def mark(name: str) -> tuple[str, str]:
    """Where in a document a table begins and ends."""
    return f"<!-- bench {name} -->", f"<!-- /bench {name} -->"


def fill(document: Path, tables: Iterable[tuple[str, str]]) -> list[str]:
    """Write each piece of Markdown between its markers, where the document has them; the names that it has.

    Raises
    ------
    ValueError
        For a marker that begins and does not end. The document is as it was.
    """
    text, found = document.read_text(), []
    for name, markdown in tables:
        begin, end = mark(name)
        if begin not in text:
            continue
        if end not in text:
            raise ValueError(f"{document}: {begin} has no {end}")
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text = re.sub(
            pattern, lambda _, new=f"{begin}\n{markdown}\n{end}": new, text, count=1, flags=re.DOTALL
        )
        found.append(name)
    document.write_text(text)
    return found


def ns(value: float) -> str:
    """A time with as many digits as mean something."""
    return f"{value:.2f}" if value < 2 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
