"""The rules that histories run with are the recorded ones, rule by rule, wherever there is a record."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kernel.rules import restore

CASES = Path(__file__).parents[1] / "golden" / "cases"
NODES = {}
for path in sorted(CASES.glob("*.json")):
    case = json.loads(path.read_text())
    NODES.setdefault(case["rules"], case["node"])


def chains(text: str) -> dict[str, list[str]]:
    """Rules by table and chain, without comments; chains that nothing is in are left out."""
    found: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith("-A"):
            _, chain, rule = line.split(" ", 2)
            bare = re.sub(r'-m comment --comment ("[^"]*"|\S+) ', "", rule)
            found.setdefault(f"{table} {chain}", []).append(" ".join(bare.split()))
    return found


@pytest.mark.parametrize("rules", NODES)
def test_recorded_rules(rules: str) -> None:
    assert chains(restore(NODES[rules])) == chains((CASES / rules).read_text())
