"""What was measured, as one JSON file: the machine, and each part with its slices, when and by which command."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .machine import describe


def as_text(results: dict[str, Any]) -> str:
    """JSON in which what has nothing but figures in it is one line."""
    text = json.dumps(results, indent=1)
    for brackets in (r"\[[^\[\]{}]*\]", r"\{[^{}]*\}"):
        text = re.sub(brackets, lambda found: re.sub(r"\n\s*", " ", found[0]), text)
    return text + "\n"


class Results:
    """Measurements in a file, to which each slice is added when it is done.

    Parameters
    ----------
    path : Path
        Read if it is there.

    Raises
    ------
    ValueError
        When what is there is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.machine: dict[str, Any] = {}
        self.parts: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                kept = json.loads(path.read_text())
                self.machine, self.parts = dict(kept["machine"]), dict(kept["parts"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} has no benchmark results: {error}") from error

    def data(self, part: str) -> dict[str, Any]:
        """What was measured of a part, slice by slice; empty if nothing was."""
        slices = self.parts.get(part, {}).get("slices", {})
        return {name: kept["data"] for name, kept in slices.items()}

    def absent(self, part: str) -> list[str]:
        """Who did not take part, with the reason."""
        slices = self.parts.get(part, {}).get("slices", {}).values()
        return list(dict.fromkeys(reason for kept in slices for reason in kept.get("absent", ())))

    def date(self) -> str:
        """The day of the latest measurement."""
        return max((s["date"] for p in self.parts.values() for s in p["slices"].values()), default="")[:10]

    def add(self, part: str, slice_: str, data: Any, absent: list[str], began: float, command: str) -> None:
        """Put a slice in the place of what there was of it, and write the file."""
        self.machine = describe()
        known = self.parts.setdefault(part, {"slices": {}})
        known["slices"][slice_] = {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": command,
            "seconds": round(time.monotonic() - began, 1),
            "absent": absent,
            "data": data,
        }
        self.write()

    def write(self) -> None:
        """Write the file in one step: who reads it meanwhile has the one before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        beside.write_text(as_text({"machine": self.machine, "parts": self.parts}))
        beside.replace(self.path)
