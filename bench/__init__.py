"""Benchmarks: the node and its tables beside their peers. `python -m bench` runs all of them, `pytest bench/` some."""

from __future__ import annotations

import sys
from pathlib import Path

# `python -m bench` and pytest put the clone in front of what is installed. Where nothing was built in the clone, its
# package is sources alone: then the installed one is meant.
_CLONE = Path(__file__).resolve().parents[1]
if not any((_CLONE / "kubenet_fastpath").glob("*.so")):
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _CLONE] + [str(_CLONE)]
