"""Bytes as a row of choices, so that whatever a fuzzer writes is a valid run, and a changed byte a changed choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads bytes in order; behind their end all choices are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int = 1) -> int:
        """The next bytes as a little-endian integer."""
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> bytes:
        """The next bytes, as many as there are."""
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

    def one(self, options: Sequence[T]) -> T:
        """One of up to 256 options."""
        return options[self.number() % len(options)]
