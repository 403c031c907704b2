"""How far a command is, for whoever looks."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, TextIO

__all__ = ["ProgressLine"]


class ProgressLine:
    """How far it is, on a terminal only: a bar of rich's, or one line that is written over."""

    def __init__(self, stream: TextIO, unit: str = "packets") -> None:
        self._unit = unit
        self._stream = stream if stream.isatty() else None
        self._due = 0.0
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> ProgressLine:
        if self._stream is not None:
            try:
                from rich.console import Console
                from rich.progress import Progress
            except ImportError:
                pass
            else:
                self._bar = Progress(console=Console(file=self._stream), transient=True)
                self._bar.start()
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say that `done` of `total` (0: unknown) are through."""
        if self._bar is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total or None)
            self._bar.update(self._tasks[what], completed=done)
        elif self._stream is not None and time.monotonic() >= self._due:
            self._due = time.monotonic() + 0.2
            share = f" of {total:,}" if total else ""
            self._stream.write(f"\r\x1b[K{what}: {done:,}{share} {self._unit}".rstrip())
            self._stream.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._stream is not None:
            self._stream.write("\r\x1b[K")
