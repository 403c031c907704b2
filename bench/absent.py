"""Who cannot take part in a comparison."""

from __future__ import annotations


class Absent(Exception):
    """A part or a peer is not there: says which and why."""
