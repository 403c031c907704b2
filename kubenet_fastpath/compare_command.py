"""`kubenet-fastpath compare`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .comparison import compare, to_json
from .comparison_page import comparison_page
from .comparison_report import comparison_tables
from .errors import ConfigError
from .report import labelled, show
from .topology import sample_topology

__all__ = ["add_compare"]


def run_compare(args: argparse.Namespace) -> int:
    """Compare, and write what was asked for."""
    if args.rounds < 0:
        raise ConfigError(f"--rounds {args.rounds} is below 0")
    if args.html is not None and args.html.is_dir():
        raise ConfigError(f"{args.html} is a folder: name a file with --html")
    topology = sample_topology()
    comparison = compare(topology, rounds=args.rounds)
    if args.html is not None:
        args.html.write_text(comparison_page(comparison), encoding="utf-8")
    if args.json:
        print(json.dumps(to_json(comparison), indent=2))
        return 0
    sizes = f"{len(topology.nodes)} nodes, {len(topology.pods)} pods, {len(topology.services)} services"
    what = f"the built-in one: {sizes}"
    head = labelled([("cluster", what), ("traffic", f"{len(comparison.flows)} flows, one of each class")])
    parts = [head, *comparison_tables(comparison)]
    if args.html is not None:
        parts.append(labelled([("written", str(args.html))]))
    show(parts, sys.stdout)
    return 0


def add_compare(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="carry the same traffic through kubenet and Azure CNI and say what changes and what it costs",
        description="The same flows through a cluster with kubenet, and with Azure CNI's node subnet, pod subnet and "
        "overlay: which source the receiver sees, what is translated where, the way, TTL, cost and what is taken up.",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="measurements of each class (0: none)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page, too")
    parser.set_defaults(run=run_compare)
