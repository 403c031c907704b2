"""What is being done, on a terminal."""

from __future__ import annotations

import sys


class Line:
    """One line of standard error that each call replaces; nothing where nobody watches."""

    def __init__(self) -> None:
        self._seen = sys.stderr.isatty()

    def __call__(self, text: str = "") -> None:
        if self._seen:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
